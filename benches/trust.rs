//! What trust costs: the same calls of the store with and without row-level security, the history of issues, idempotency keys and the grouping of
//! signals. It needs a PostgreSQL that is installed, which it starts itself, in memory where it can: so there is no disk to wait for, and each
//! ratio is the largest it can be.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::sync::atomic::{AtomicU64, Ordering};

use benches::{Bench, Way, pin_to_core};
use criterion::{Criterion, criterion_group, criterion_main};
use loop_core::{
    Error, IdempotentRequest, IssueFilter, IssueId, IssuePatch, IssueStatus, LoopStore, NewIssue, NewSignal, Once, PageRequest, Severity,
    StoredAnswer, test_util::TestServer,
};

/// How a database differs from the usual one.
#[derive(Clone, Copy, PartialEq)]
enum Variant {
    Usual,
    RowSecurity,
    NoHistory,
}

impl Variant {
    const ALL: [Self; 3] = [Self::Usual, Self::RowSecurity, Self::NoHistory];

    const fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::RowSecurity => "row_security",
            Self::NoHistory => "no_history",
        }
    }
}

/// A store, and an issue.
type Side = (LoopStore, IssueId);

/// A migrated database, and a store bound to a project of 10,000 issues, with one of them.
async fn store(server: &TestServer, variant: Variant) -> Side {
    let admin = LoopStore::builder(&server.url()).pool_size(1).connect().await.unwrap();
    let name = variant.name();
    admin.raw(&format!("CREATE ROLE {name} LOGIN")).await.unwrap();
    admin.raw(&format!("CREATE DATABASE {name} OWNER {name}")).await.unwrap();
    let url = server.url().replace("/postgres?", &format!("/{name}?")).replace("user=postgres", &format!("user={name}"));
    let store = LoopStore::builder(&url).pool_size(2).row_security(variant == Variant::RowSecurity).connect().await.unwrap();
    store.migrate().await.unwrap();
    if variant == Variant::NoHistory {
        store
            .raw("ALTER TABLE issues DISABLE TRIGGER issues_record_created; ALTER TABLE issues DISABLE TRIGGER issues_record_changed")
            .await
            .unwrap();
    }
    let project = store.projects().create(loop_core::NewProject::named("Shop".parse().unwrap())).await.unwrap().id;
    let rows = format!(
        "INSERT INTO issues (id, title, project_id, status, created_at)
         SELECT 'i' || n, 'The login page is blank', '{project}', (ARRAY['open', 'triage'])[1 + n % 2]::issue_status, now() - n * interval '1 minute'
         FROM generate_series(1, 10000) AS n"
    );
    store.raw(&rows).await.unwrap();
    store.raw("ANALYZE").await.unwrap();
    (store.within(project), "i7".parse().unwrap())
}

fn signal(fingerprint: Option<String>) -> NewSignal {
    let payload = r#"{"message": "it broke", "count": 7}"#.parse().unwrap();
    let new = NewSignal::new("app".parse().unwrap(), "error".parse().unwrap(), Severity::High, payload);
    NewSignal { fingerprint: fingerprint.map(|text| text.parse().unwrap()), ..new }
}

fn new_issue() -> NewIssue {
    NewIssue::titled("The login page is blank".parse().unwrap())
}

/// Another number each time.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn trust(c: &mut Criterion) {
    let bench = &mut Bench::new(c);
    pin_to_core();
    let mut server = TestServer::new();
    server.start(&["fsync=on", "synchronous_commit=on", "autovacuum=on"]);
    let variants: Vec<(&str, Side)> = bench.runtime.block_on(async {
        let mut variants = Vec::new();
        for variant in Variant::ALL {
            variants.push((variant.name(), store(&server, variant).await));
        }
        variants
    });
    let nothing = |_: &Side| ();
    bench.each("trust/get_issue", &variants, nothing, async |(store, id), ()| store.issues().get(id).await.unwrap());
    bench.each("trust/issue_detail", &variants, nothing, async |(store, id), ()| store.issues().detail(id).await.unwrap());
    let (filter, page) = (IssueFilter::default(), PageRequest::first());
    bench.each("trust/list_50", &variants, nothing, async |(store, _), ()| store.issues().list(&filter, &page).await.unwrap());
    bench.each("trust/create_issue", &variants, |_| new_issue(), async |(store, _), new| store.issues().create(new).await.unwrap());
    let patch = |_: &Side| {
        let status = if next().is_multiple_of(2) { IssueStatus::Open } else { IssueStatus::InProgress };
        IssuePatch { status: Some(status), ..IssuePatch::default() }
    };
    bench.each("trust/update_status", &variants, patch, async |(store, id), patch| store.issues().update(id, patch).await.unwrap());
    bench.each("trust/ingest_signal", &variants, |_| signal(None), async |(store, _), new| store.signals().ingest(new).await.unwrap());

    let (_, (store, _)) = &variants[0];
    let number = || next().to_string();
    bench.pair(
        "trust/idempotent_create",
        &Way::new("once", number, async |key: String| {
            let request = IdempotentRequest { owner: "bench", key: &key, hash: [7; 32] };
            let done = store.once(request, async |tx| -> Result<_, Error> {
                let issue = tx.issues().create(new_issue()).await?;
                Ok(StoredAnswer { status: 201, body: issue.title.as_str().into() })
            });
            assert!(matches!(done.await.unwrap(), Once::Done(_)));
        }),
        &Way::new("usual", new_issue, async |new| store.issues().create(new).await.unwrap()),
    );
    let ingest = async |new: NewSignal| store.signals().ingest(new).await.unwrap();
    let alone = Way::new("alone", || signal(None), ingest);
    bench.pair("trust/open_group", &Way::new("grouped", || signal(Some(number())), ingest), &alone);
    bench.pair("trust/join_group", &Way::new("grouped", || signal(Some("one".to_owned())), ingest), &alone);
}

criterion_group!(benches, trust);
criterion_main!(benches);
