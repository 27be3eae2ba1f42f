//! A request through the router and nothing else, with and without metrics: what counting and measuring costs.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use axum::{Router, body::Body};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, StatusCode, header::AUTHORIZATION};
use loop_core::{NewApiKey, NewIssue, Role, test_util::TestDb};
use loop_http::{AppState, MetricsAccess, RouterOptions, Webhooks};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

async fn ask(router: &Router, path: &str, key: &str) {
    let request = Request::get(path).header(AUTHORIZATION, key).body(Body::empty()).unwrap();
    assert_eq!(router.clone().oneshot(request).await.unwrap().status(), StatusCode::OK);
}

fn router(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let database = runtime.block_on(TestDb::new());
    let store = database.store();
    let (issue, key) = runtime.block_on(async {
        let issue = store.issues().create(NewIssue::titled("Read me".parse().unwrap())).await.unwrap();
        let new = NewApiKey { name: "bench".parse().unwrap(), role: Role::Read, project_id: None, expires_at: None };
        (issue.id, format!("Bearer {}", store.api_keys().create(new).await.unwrap().plaintext.reveal()))
    });
    let state = || AppState::new(store.clone(), Webhooks::default(), None);
    let plain = loop_http::router(state(), &RouterOptions::default());
    let measured = loop_http::router(state().with_metrics(MetricsAccess::Anyone), &RouterOptions::default());
    for (name, path) in [("health", "/health".to_owned()), ("issue", format!("/api/v1/issues/{issue}"))] {
        let mut group = c.benchmark_group(format!("router/{name}"));
        for (kind, router) in [("plain", &plain), ("metrics", &measured)] {
            group.bench_function(kind, |b| b.to_async(&runtime).iter(|| ask(router, &path, &key)));
        }
        group.finish();
    }
    c.bench_function("router/scrape", |b| b.to_async(&runtime).iter(|| ask(&measured, "/metrics", &key)));
    // The database is dropped on the runtime that its connections live on.
    runtime.block_on(async { drop((database, plain, measured)) });
}

criterion_group!(benches, router);
criterion_main!(benches);
