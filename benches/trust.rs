//! What trust costs: the same calls of the store with and without row-level security, the history of issues, idempotency keys and the grouping of
//! signals. It needs a PostgreSQL that is installed, which it starts itself, in memory where it can: so there is no disk to wait for, and each
//! ratio is the largest it can be.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use loop_core::{
    Error, IdempotentRequest, IssueId, IssuePatch, IssueStatus, LoopStore, NewIssue, NewSignal, Once, PageRequest, Severity, StoredAnswer,
    test_util::TestServer,
};
use tokio::runtime::Runtime;

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

/// A migrated database, and a store bound to a project of 10,000 issues, with one of them.
async fn store(server: &TestServer, variant: Variant) -> (LoopStore, IssueId) {
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

fn calls(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, variant: Variant, store: &LoopStore, id: &IssueId) {
    let name = variant.name();
    group.bench_function(format!("issues.get/{name}"), |b| b.to_async(runtime).iter(|| async { store.issues().get(id).await.unwrap() }));
    group.bench_function(format!("issues.detail/{name}"), |b| {
        b.to_async(runtime).iter(|| async { store.issues().detail(id).await.unwrap() });
    });
    let filter = loop_core::IssueFilter::default();
    group.bench_function(format!("issues.list/{name}"), |b| {
        b.to_async(runtime).iter(|| async { store.issues().list(&filter, &PageRequest::first()).await.unwrap() });
    });
    group.bench_function(format!("issues.create/{name}"), |b| {
        b.to_async(runtime).iter(|| async { store.issues().create(new_issue()).await.unwrap() });
    });
    group.bench_function(format!("issues.update/{name}"), |b| {
        b.to_async(runtime).iter(|| async {
            let status = if next().is_multiple_of(2) { IssueStatus::Open } else { IssueStatus::InProgress };
            store.issues().update(id, IssuePatch { status: Some(status), ..IssuePatch::default() }).await.unwrap()
        });
    });
    group.bench_function(format!("signals.ingest/{name}"), |b| {
        b.to_async(runtime).iter(|| async { store.signals().ingest(signal(None)).await.unwrap() });
    });
}

fn trust(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut server = TestServer::new();
    server.start(&["fsync=on", "synchronous_commit=on", "autovacuum=on"]);
    let mut group = c.benchmark_group("trust");
    for variant in Variant::ALL {
        let (store, id) = runtime.block_on(store(&server, variant));
        calls(&mut group, &runtime, variant, &store, &id);
        if variant != Variant::Usual {
            continue;
        }
        group.bench_function("issues.create/idempotent", |b| {
            b.to_async(&runtime).iter(|| async {
                let key = next().to_string();
                let request = IdempotentRequest { owner: "bench", key: &key, hash: [7; 32] };
                let done = store.once(request, async |tx| -> Result<_, Error> {
                    let issue = tx.issues().create(new_issue()).await?;
                    Ok(StoredAnswer { status: 201, body: issue.title.as_str().into() })
                });
                assert!(matches!(done.await.unwrap(), Once::Done(_)));
            });
        });
        group.bench_function("signals.ingest/opening_a_group", |b| {
            b.to_async(&runtime).iter(|| async { store.signals().ingest(signal(Some(next().to_string()))).await.unwrap() });
        });
        group.bench_function("signals.ingest/joining_a_group", |b| {
            b.to_async(&runtime).iter(|| async { store.signals().ingest(signal(Some("one".to_owned()))).await.unwrap() });
        });
    }
    group.finish();
}

criterion_group!(benches, trust);
criterion_main!(benches);
