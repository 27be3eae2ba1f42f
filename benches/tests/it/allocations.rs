//! What is allocated on the paths that only the processor is busy with. Fewer is always right; more needs a reason.

use axum::body::Body;
use benches::{Delivery, Place, Server, allocations};
use http::Request;
use loop_core::{
    Cursor, Issue, IssuePriority, IssueStatus, IssueType, LoopStore, Timestamp,
    webhook::{GithubVerifier, PosthogVerifier, Secrets, SentryVerifier, github_signal, posthog_signal, sentry_signal},
};
use loop_http::{AppState, RouterOptions, Webhooks};
use tower::ServiceExt as _;

/// How often and how much a call allocates, once it was made before.
fn counted<T>(mut call: impl FnMut() -> T) -> (f64, f64) {
    for _ in 0..10 {
        call();
    }
    let allocations = allocations(vec![(); 10], |()| drop(call()));
    (allocations.count, allocations.bytes)
}

macro_rules! at_most {
    ($count:literal, $bytes:literal: $call:expr) => {
        let (count, bytes) = counted(|| $call);
        let what = stringify!($call);
        println!("{count} allocations, {bytes} bytes: {what}");
        assert!(count <= f64::from($count) && bytes <= f64::from($bytes), "{count} allocations, {bytes} bytes: {what}");
    };
}

fn issue() -> Issue {
    let now = Timestamp::now();
    Issue {
        id: "tz4a98xxat96iws9zmbrgj3a".parse().unwrap(),
        number: 7,
        title: "The login page is blank".parse().unwrap(),
        description: Some("Nothing is in the log.".parse().unwrap()),
        kind: IssueType::Signal,
        status: IssueStatus::Triage,
        priority: IssuePriority::High,
        parent_id: None,
        project_id: Some("pfh0haxfpzowht3oi213cqos".parse().unwrap()),
        signal_source: Some("monitor".parse().unwrap()),
        signal_payload: Some(r#"{"message": "it broke"}"#.parse().unwrap()),
        hypothesis: None,
        agent_session_id: None,
        agent_summary: None,
        commits: None,
        pull_requests: None,
        completed_at: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
        signal_count: 1,
        signal_severity: None,
        last_signal_at: Some(now),
        revision: 1,
    }
}

#[test]
fn a_verification_allocates_nothing() {
    let github = GithubVerifier::new(Secrets::new([Delivery::SECRET]).unwrap());
    let sentry = SentryVerifier::new(Secrets::new([Delivery::SECRET]).unwrap());
    let posthog = PosthogVerifier::new(Secrets::new([Delivery::KEY]).unwrap()).unwrap();
    let it = Delivery::of_github(1 << 20);
    at_most!(0, 0: github.verify(&it.headers, &it.body).unwrap());
    let it = Delivery::of_sentry(1 << 20);
    at_most!(0, 0: sentry.verify_hook(&it.headers, &it.body).unwrap());
    let it = Delivery::of_posthog(1 << 20);
    at_most!(0, 0: posthog.verify_at(&it.headers, None, &it.body, it.sent).unwrap());
}

#[test]
fn a_signal_takes_one_copy_of_its_payload() {
    let it = Delivery::of_github(100 << 10);
    at_most!(25, 104_000: github_signal(&it.headers, &it.body).unwrap());
    let it = Delivery::of_sentry(100 << 10);
    at_most!(24, 104_000: sentry_signal(&it.headers, &it.body).unwrap());
    let it = Delivery::of_posthog(100 << 10);
    at_most!(19, 104_000: posthog_signal(&it.headers, &it.body).unwrap());
}

#[test]
fn an_answer_in_json_is_written_without_values_in_between() {
    let issue = issue();
    // The text grows a few times, and each time is a text of its own first.
    at_most!(8, 2500: serde_json::to_vec(&issue).unwrap());
    let text = "LWNyZWF0ZWRBdHwxNzY0MzQwMDAwMDAwfHR6NGE5OHh4YXQ5Nml3czl6bWJyZ2ozYQ";
    at_most!(1, 100: Cursor::parse(text).unwrap());
}

#[tokio::test]
async fn a_request_without_the_database_allocates_little() {
    let store = LoopStore::builder("postgres://nobody@127.0.0.1:1/nothing?sslmode=disable").build().unwrap();
    let router = loop_http::router(AppState::new(store, Webhooks::default(), None), &RouterOptions::default());
    let ask = || futures_util::FutureExt::now_or_never(router.clone().oneshot(Request::get("/health").body(Body::empty()).unwrap()));
    assert!(ask().unwrap().unwrap().status().is_success());
    at_most!(32, 7000: ask().unwrap().unwrap());
}

#[test]
#[ignore = "needs a PostgreSQL server"]
fn a_row_becomes_an_issue_without_detours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Its own, without the pooler that other tests may run through.
    let server = runtime.block_on(Server::own(Place::Memory, &[]));
    let store = runtime.block_on(async { server.filled("rows", 1000).await.store().await });
    let issues = store.issues();
    let issue = runtime.block_on(issues.create(loop_core::NewIssue::titled("Read me".parse().unwrap()))).unwrap();
    // By hand, with tokio-postgres, it is 16 allocations of 1570 bytes.
    at_most!(18, 5400: runtime.block_on(issues.get(&issue.id)).unwrap());
}
