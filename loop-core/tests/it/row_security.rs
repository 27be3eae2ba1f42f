//! The database's own guard: what it shows and takes when a statement forgets the scope.
//!
//! All other tests run with it, too, where `LOOP_TEST_ROW_SECURITY=true` says so.

use loop_core::{Error, IssueFilter, LoopStore, NewIssue, test_util::TestServer};

use crate::{
    scope::world,
    support::{everything, issue, new_issue, one, project},
};

/// A server, and a connection string for a database on it whose owner is no superuser.
async fn server() -> (TestServer, LoopStore, String) {
    let mut server = TestServer::new();
    server.start(&[]);
    let admin = LoopStore::builder(&server.url()).pool_size(1).connect().await.unwrap();
    admin.raw("CREATE ROLE owner LOGIN").await.unwrap();
    admin.raw("CREATE DATABASE owned OWNER owner").await.unwrap();
    let url = server.url().replace("/postgres?", "/owned?").replace("user=postgres", "user=owner");
    (server, admin, url)
}

/// How many rows of each guarded table a statement without any condition sees.
async fn visible(store: &LoopStore) -> Vec<(String, i64)> {
    let tables = "SELECT c.relname FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid WHERE p.polname = 'loop_scope' ORDER BY 1";
    let mut counts = Vec::new();
    for table in store.raw(tables).await.unwrap() {
        let table = table[0].clone().unwrap();
        let count = one(store, &format!("SELECT count(*) FROM {table}")).await.parse().unwrap();
        counts.push((table, count));
    }
    counts
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_statement_that_forgets_the_scope_stays_within_it() {
    let (_server, _, url) = server().await;
    let store = LoopStore::builder(&url).row_security(true).connect().await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(store.migration_status().await.unwrap().guarded, Some(true));

    let (shop, blog) = (world(&store, "shop").await, world(&store, "blog").await);
    let (in_shop, in_blog) = (store.within(shop.project.id.clone()), store.within(blog.project.id.clone()));
    // What belongs to no project, and what lies between two of them, is nobody's.
    let nobodys = issue(&store, "Nobody's").await;
    let (all, of_shop, of_blog) = (visible(&store).await, visible(&in_shop).await, visible(&in_blog).await);
    assert_eq!(of_shop, of_blog);
    let nothing_outside = ["issues", "issue_events"];
    for ((table, all), (_, own)) in all.iter().zip(&of_shop) {
        let outside = i64::from(nothing_outside.contains(&table.as_str()));
        // A signal has a delivery only if its provider named it, and a fingerprint only if it has one.
        let empty = ["deliveries", "fingerprints"].contains(&table.as_str());
        assert_eq!(*all, 2 * own + outside, "{table}");
        assert_eq!(*own == 0, empty, "{table}");
    }

    // Writes without a condition change what is the project's own.
    in_shop.raw("UPDATE issues SET description = 'shop'").await.unwrap();
    in_shop.raw("UPDATE comments SET body = 'shop'").await.unwrap();
    in_shop.raw("DELETE FROM issue_relations").await.unwrap();
    let told = "SELECT concat_ws(' ', (SELECT count(*) FROM issues WHERE description = 'shop'),
                (SELECT count(*) FROM comments WHERE body = 'shop'), (SELECT count(*) FROM issue_relations))";
    let own = |table: &str| of_shop.iter().find(|(name, _)| name == table).unwrap().1;
    let expected = format!("{} {} {}", own("issues"), own("comments"), own("issue_relations"));
    assert_eq!(one(&store, told).await, expected);

    // Nothing is put into another project, or taken out of one's own.
    for sql in [
        format!("INSERT INTO issues (id, title, project_id) VALUES ('x1', 'x', '{}')", blog.project.id),
        "INSERT INTO issues (id, title) VALUES ('x2', 'x')".to_owned(),
        format!("UPDATE issues SET project_id = '{}'", blog.project.id),
        "UPDATE signals SET project_id = NULL".to_owned(),
        format!(
            "INSERT INTO comments (id, body, issue_id, author_name, author_type, thread_id) VALUES ('x3', 'x', '{}', 'x', 'human', 'x3')",
            nobodys.id
        ),
    ] {
        let refused = in_shop.raw(&sql).await.unwrap_err();
        assert!(matches!(refused, Error::Database { .. }), "{sql}: {refused:?}");
    }
    // What one statement writes together is seen by its own checks: an issue with labels, and the one that follows another.
    let label = store.labels().create(crate::support::new_label("slow")).await.unwrap().id;
    let labelled = NewIssue { label_ids: vec![label.clone()], ..new_issue("Labelled") };
    in_shop.issues().create(labelled).await.unwrap();
    let foreign = in_shop.raw(&format!("INSERT INTO issue_labels (issue_id, label_id) VALUES ('{}', '{label}')", nobodys.id)).await;
    assert!(matches!(foreign, Err(Error::Database { .. })), "{foreign:?}");
    let signal = || loop_core::NewSignal { fingerprint: Some(crate::support::valid("42")), ..crate::support::new_signal("sentry") };
    let first = in_shop.signals().ingest(signal()).await.unwrap().issue.id;
    let resolved = loop_core::IssuePatch { status: Some(loop_core::IssueStatus::Resolved), ..loop_core::IssuePatch::default() };
    in_shop.issues().update(&first, resolved).await.unwrap();
    let next = in_shop.signals().ingest(signal()).await.unwrap();
    assert!(!next.attached);
    assert_eq!(in_shop.relations().list(&next.issue.id, &everything()).await.unwrap().data[0].issue.id, first);
    // A rule over all projects holds over what cannot be seen.
    let cross = NewIssue { parent_id: Some(issue(&in_shop, "Shop's").await.id), ..new_issue("Child of another project") };
    let parent = cross.parent_id.clone().unwrap();
    store.issues().create(cross).await.unwrap();
    let top = issue(&in_shop, "Top").await.id;
    let patch = loop_core::IssuePatch { parent_id: loop_core::Patch::Set(top), ..loop_core::IssuePatch::default() };
    assert!(matches!(in_shop.issues().update(&parent, patch).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn who_does_not_say_sees_nothing_and_is_told_so() {
    let (_server, admin, url) = server().await;
    let guarded = LoopStore::builder(&format!("{url}&row_security=true")).connect().await.unwrap();
    assert_eq!(guarded.migration_status().await.unwrap().guarded, Some(false), "there is nothing yet");
    guarded.migrate().await.unwrap();
    let shop = project(&guarded, "Shop").await.id;
    issue(&guarded.within(shop.clone()), "Shop's").await;

    let unguarded = LoopStore::builder(&url).connect().await.unwrap();
    assert_eq!(unguarded.migration_status().await.unwrap().guarded, None);
    for store in [unguarded.clone(), unguarded.within(shop.clone())] {
        let refused = store.issues().list(&IssueFilter::default(), &everything()).await.unwrap_err();
        assert!(matches!(refused, Error::Configuration { setting: "row security", .. }), "{refused:?}");
        assert!(matches!(store.issues().create(new_issue("New")).await, Err(Error::Configuration { .. })));
    }
    // A connection that had it said once is no wiser afterwards.
    let one_connection = LoopStore::builder(&url).pool_size(1).row_security(true).connect().await.unwrap();
    issue(&one_connection, "Anybody's").await;
    let session = one_connection.transaction(async |tx| tx.issues().list(&IssueFilter::default(), &everything()).await).await;
    assert_eq!(session.unwrap().total, Some(2));

    // It cannot hold a superuser, and says so.
    let superuser = server_url_of(&admin, &url).await;
    assert_eq!(superuser.migration_status().await.unwrap().guarded, Some(false));

    // Once it is switched off, it is off.
    guarded.raw("SELECT loop_row_security(false)").await.unwrap();
    assert_eq!(guarded.migration_status().await.unwrap().guarded, Some(false));
    assert_eq!(unguarded.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(2));
}

/// A store with the guard on the same database, for the superuser.
async fn server_url_of(admin: &LoopStore, url: &str) -> LoopStore {
    let user = one(admin, "SELECT current_user").await;
    LoopStore::builder(&url.replace("user=owner", &format!("user={user}"))).row_security(true).connect().await.unwrap()
}
