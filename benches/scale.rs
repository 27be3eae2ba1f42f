//! What calls of the store cost on databases of a thousand to a million issues: each size beside ten thousand.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use benches::{Bench, Place, Server, largest};
use criterion::{Criterion, criterion_group, criterion_main};
use loop_core::{
    Cursor, IssueFilter, IssueId, IssueStatus, LabelId, Limit, LoopStore, NewIssue, NewSignal, PageRequest, ProjectId, Severity, Start,
};

/// How many issues, and what that is called.
const SIZES: [(u32, &str); 4] = [(10_000, "10k"), (1000, "1k"), (100_000, "100k"), (1_000_000, "1M")];

/// A database of one size, and places in it.
struct Size {
    store: LoopStore,
    /// Issues from all over it; each of them has children.
    issues: Vec<IssueId>,
    project: ProjectId,
    label: LabelId,
    /// What the thousandth page begins after, or the last but one.
    far: Cursor,
}

impl Size {
    async fn fill(server: &Server, count: u32, name: &str) -> Self {
        let database = server.filled(name, count).await;
        let store = database.store().await;
        let ids = format!("SELECT 'i' || left(md5(n::text), 23) FROM generate_series(1, {count}, {} * 10) AS n", count.div_ceil(10_000));
        let issues = store.raw(&ids).await.unwrap().iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
        let named = async |letter: char| {
            let rows = store.raw(&format!("SELECT '{letter}' || left(md5('7'), 23)")).await.unwrap();
            rows[0][0].clone().unwrap()
        };
        let last = (count.min(50_000) - 100).max(50) - 1;
        let before = PageRequest { start: Start::Offset(last), ..PageRequest::first().with_limit(Limit::new(1).unwrap()) };
        let far = store.issues().list(&IssueFilter::default(), &before).await.unwrap().next_cursor.unwrap();
        let (project, label) = (named('p').await.parse().unwrap(), named('l').await.parse().unwrap());
        Self { issues, project, label, far: Cursor::parse(&far).unwrap(), store }
    }

    fn any(&self) -> &IssueId {
        fastrand::choice(&self.issues).unwrap()
    }
}

type Sizes = [(&'static str, Size)];

fn list(bench: &mut Bench<'_>, id: &str, sizes: &Sizes, filter: impl Fn(&Size) -> IssueFilter) {
    bench.each(id, sizes, &filter, async |size, filter| size.store.issues().list(&filter, &PageRequest::first()).await.unwrap());
}

fn scale(c: &mut Criterion) {
    let bench = &mut Bench::new(c);
    let (_server, sizes) = bench.runtime.block_on(async {
        let server = Server::start(Place::Disk).await;
        let mut sizes = Vec::new();
        for (count, name) in SIZES.into_iter().filter(|(count, _)| *count <= largest()) {
            sizes.push((name, Size::fill(&server, count, name).await));
        }
        (server, sizes)
    });
    bench.each("scale/get_issue", &sizes, Size::any, async |size, id| size.store.issues().get(id).await.unwrap());
    bench.each("scale/issue_detail", &sizes, Size::any, async |size, id| size.store.issues().detail(id).await.unwrap());
    list(bench, "scale/first_page", &sizes, |_| IssueFilter::default());
    let far = |size: &Size| PageRequest::after(size.far.clone());
    bench.each("scale/page_1000", &sizes, far, async |size, page| size.store.issues().list(&IssueFilter::default(), &page).await.unwrap());
    list(bench, "scale/list_by_project", &sizes, |size| IssueFilter::default().with_project(size.project.clone()));
    list(bench, "scale/list_by_status", &sizes, |_| IssueFilter::default().with_status([IssueStatus::Triage, IssueStatus::InProgress]));
    list(bench, "scale/list_by_project_and_status", &sizes, |size| {
        IssueFilter::default().with_project(size.project.clone()).with_status([IssueStatus::Open])
    });
    list(bench, "scale/list_by_label", &sizes, |size| IssueFilter::default().with_label(size.label.clone()));
    list(bench, "scale/list_by_parent", &sizes, |size| IssueFilter::default().with_parent(size.any().clone()));
    // At any size, the newest fifty have this word.
    list(bench, "scale/list_by_new_word", &sizes, |_| IssueFilter::default().with_text(&"lately".parse().unwrap()));
    // One issue of five thousand has this one, and what is found is sorted, so it grows with them.
    list(bench, "scale/list_by_text", &sizes, |_| IssueFilter::default().with_text(&"word7".parse().unwrap()));
    // What writes is the last, since it changes what others would read.
    let new = |_: &Size| NewIssue::titled("The login page is blank".parse().unwrap());
    bench.each("scale/create_issue", &sizes, new, async |size, new| size.store.issues().create(new).await.unwrap());
    let payload = r#"{"message": "it broke", "count": 7, "host": "web-7"}"#;
    let signal = NewSignal::new("monitor".parse().unwrap(), "error".parse().unwrap(), Severity::High, payload.parse().unwrap());
    bench.each("scale/ingest_signal", &sizes, |_| signal.clone(), async |size, new| size.store.signals().ingest(new).await.unwrap());
}

criterion_group!(benches, scale);
criterion_main!(benches);
