//! Creating an issue, on a PostgreSQL that the bench finds or starts itself (CONTRIBUTING.md says how it chooses).
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use criterion::{Criterion, criterion_group, criterion_main};
use loop_core::{NewIssue, test_util::TestDb};
use tokio::runtime::Runtime;

fn store(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let database = runtime.block_on(TestDb::new());
    let store = database.store();

    let mut group = c.benchmark_group("store");
    group.bench_function("issues.create/small", |b| {
        b.to_async(&runtime)
            .iter(|| async { store.issues().create(NewIssue::titled("The login page is blank".parse().unwrap())).await.unwrap() });
    });
    let issue = runtime.block_on(store.issues().create(NewIssue::titled("Read me".parse().unwrap()))).unwrap();
    group.bench_function("issues.get/small", |b| b.to_async(&runtime).iter(|| async { store.issues().get(&issue.id).await.unwrap() }));
    group.finish();
    // The database is dropped on the runtime that its connections live on.
    runtime.block_on(async { drop(database) });
}

criterion_group!(benches, store);
criterion_main!(benches);
