//! The store in an app of one's own: a project, an issue in it, a signal, and what they became.
//!
//! `cargo run -p examples --example embed_store` runs it on a PostgreSQL inside the process; with an argument, on the database of that
//! connection string.

use loop_core::{
    Error, IssueFilter, IssuePatch, IssueStatus, LoopStore, NewComment, NewIssue, NewProject, NewSignal, PageRequest, Severity,
    embedded::Embedded,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    // The PostgreSQL inside the process lives as long as this value, and takes one connection.
    let (store, _embedded) = if let Some(url) = std::env::args().nth(1) {
        (LoopStore::connect(&url).await?, None)
    } else {
        let embedded = Embedded::start(directory.path())?;
        (LoopStore::builder(embedded.connection_string()).pool_size(1).connect().await?, Some(embedded))
    };
    store.migrate().await?;

    let shop = store.projects().create(NewProject::named("Shop".parse()?)).await?;
    // From here on the app sees this project and no other, whatever it asks.
    let store = store.within(shop.id.clone());

    let payload = serde_json::json!({ "message": "The login page is blank" }).try_into()?;
    let taken_in = store.signals().ingest(NewSignal::new("status-page".parse()?, "outage".parse()?, Severity::High, payload)).await?;
    println!("a signal became issue #{}: {}", taken_in.issue.number, taken_in.issue.title);

    // Several changes that belong together.
    let fix = store
        .transaction(async |tx| {
            let new = NewIssue { parent_id: Some(taken_in.issue.id.clone()), ..NewIssue::titled("Serve the login page again".parse()?) };
            let fix = tx.issues().create(new).await?;
            let body = "Reproduced; the template is missing.".parse()?;
            let comment = NewComment { body, author_name: "triage".parse()?, author_type: loop_core::AuthorType::Agent, parent_id: None };
            tx.comments().create(&taken_in.issue.id, comment).await?;
            let accepted = IssuePatch { status: Some(IssueStatus::InProgress), ..IssuePatch::default() };
            tx.issues().update(&taken_in.issue.id, accepted).await?;
            anyhow::Ok(fix)
        })
        .await?;

    let detail = store.issues().detail(&taken_in.issue.id).await?;
    println!("it is {} and has {} part(s), the first one #{}", detail.issue.status, detail.children.len(), fix.number);

    let open = store.issues().list(&IssueFilter::default().with_status([IssueStatus::Open]), &PageRequest::first().with_total()).await?;
    println!("{} issue(s) open in {}", open.total.unwrap_or_default(), shop.name);

    // A part has no parts: the rule holds in the database, and comes back as a typed error.
    let new = NewIssue { parent_id: Some(fix.id), ..NewIssue::titled("Too deep".parse()?) };
    match store.issues().create(new).await {
        Err(Error::Invalid { field, reason }) => println!("refused: {field}: {reason}"),
        other => anyhow::bail!("the hierarchy is deeper than it may be: {other:?}"),
    }
    Ok(())
}
