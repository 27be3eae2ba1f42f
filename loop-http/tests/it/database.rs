//! A database that goes away and comes back.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use loop_core::{
    LoopStore, Role,
    test_util::{Line, TestDb},
};
use loop_http::{RouterOptions, ServeOptions};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    process::Process,
    signatures::Delivery,
    support::{Answer, Caller, Server, TestApp, state},
};

/// A server whose store goes through a line, and a caller who may write.
async fn through_a_line(app: &TestApp) -> (Line, Server, Caller) {
    let line = Line::to(app.db.url()).await;
    let store = LoopStore::builder(line.url())
        .pool_size(4)
        .connect_timeout(Duration::from_secs(5))
        .wait_timeout(Duration::from_secs(5))
        .statement_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let server = Server::start(state(&store), &RouterOptions::default(), ServeOptions::default()).await;
    let caller = server.caller(Some(&app.key(Role::Write, None, None).await));
    (line, server, caller)
}

#[track_caller]
fn unavailable(answer: &Answer) {
    assert_eq!(answer.error(503, "unavailable"), "The database is unavailable, try again");
    assert_eq!(answer.header("retry-after"), Some("2"));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_database_that_goes_away_is_unavailable_until_it_is_back() {
    let app = TestApp::start().await;
    let (line, server, caller) = through_a_line(&app).await;
    let create = async || caller.post("/api/v1/issues", json!({ "title": "t" })).await;
    for _ in 0..3 {
        let answers = futures_util::future::join_all((0..8).map(|_| create())).await;
        assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
        line.cut(true);
        for _ in 0..5 {
            unavailable(&create().await);
            unavailable(&caller.get("/ready").await);
        }
        unavailable(&server.caller(Some(&format!("loop_{}", "A".repeat(43)))).get("/api/v1/issues").await);
        caller.get("/health").await.ok();
        line.cut(false);
        // At once, and not after some number of requests that find the broken connections.
        create().await.created();
        caller.get("/ready").await.ok();
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_database_that_says_nothing_is_unavailable_soon() {
    let app = TestApp::start().await;
    let (line, _server, caller) = through_a_line(&app).await;
    line.silence(true);
    let started = Instant::now();
    unavailable(&caller.get("/api/v1/issues").await);
    assert!(started.elapsed() < Duration::from_secs(28));
    line.silence(false);
    caller.get("/api/v1/issues").await.ok();
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_restarted_database_is_found_again() {
    let app = TestApp::start().await;
    let (_line, _server, caller) = through_a_line(&app).await;
    caller.get("/api/v1/issues").await.ok();
    // What a restart does to the connections, without the restart.
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    app.query(others).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    caller.post("/api/v1/issues", json!({ "title": "t" })).await.created();
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_statement_that_waits_too_long_is_unavailable_and_leaves_no_trace() {
    let app = TestApp::start().await;
    let (_line, server, caller) = through_a_line(&app).await;
    let issue = caller.issue("locked").await;
    let path = format!("/api/v1/issues/{}", issue["id"].as_str().unwrap());
    // The driver knows nothing of row-level security.
    let url = app.db.url().replace("&row_security=true", "");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("BEGIN; SET LOCAL loop.project TO '*'; SELECT FROM issues FOR UPDATE").await.unwrap();
    unavailable(&caller.patch(&path, json!({ "title": "late" })).await);
    // The statement is cancelled beside the answer.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while app.query(waiting).await != ["0"] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    connection.abort();
    assert_eq!(caller.get(&path).await.ok()["title"], "locked");
    drop(server);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_delivery_that_met_no_database_is_taken_in_when_it_comes_again() {
    let app = TestApp::start().await;
    let (line, server, caller) = through_a_line(&app).await;
    let nobody = server.caller(None);
    let deliveries = [
        Delivery::github("issues", "d1", "{}"),
        Delivery::sentry("issue", r#"{"n":1}"#),
        Delivery::posthog(r#"{"n":2}"#),
        Delivery::posthog_signed("msg_1", r#"{"n":3}"#),
    ];
    line.cut(true);
    for delivery in &deliveries {
        unavailable(&delivery.send(&nobody).await);
    }
    line.cut(false);
    for delivery in &deliveries {
        delivery.send(&nobody).await.created();
        delivery.send(&nobody).await.ok();
    }
    assert_eq!(caller.ids("/api/v1/signals").await.len(), deliveries.len());
}

/// Killed in the middle of many deliveries, over and over: what was acknowledged is there, nothing is half-made, and a provider that sends
/// again what was not answered ends up with one of each.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn what_was_acknowledged_survives_a_kill() {
    let db = TestDb::new().await;
    let (secret, dir) = ("killed-and-started-again", TempDir::new().unwrap());
    let variables = [("DATABASE_URL", db.url()), ("GITHUB_WEBHOOK_SECRET", secret)];
    let count = async |sql: &str| db.store().raw(sql).await.unwrap()[0][0].clone().unwrap().parse::<usize>().unwrap();
    let whole = "SELECT count(*) FROM deliveries AS d JOIN signals AS s ON s.id = d.signal_id JOIN issues AS i ON i.id = s.issue_id";

    let mut waiting: Vec<Delivery> = (0..300)
        .map(|number| Delivery::github("issues", &format!("d{number}"), format!("{{\"n\":{number}}}")).signed_with(secret))
        .collect();
    let mut acknowledged = 0;
    for round in 0..4 {
        let server = Process::serve(&variables, dir.path());
        let caller = Caller::at(&server.address);
        let mut server = Some(server);
        let mut answers = futures_util::stream::iter(&waiting)
            .map(async |delivery| delivery.request(&caller).send().await.is_ok_and(|answer| [200, 201].contains(&answer.status().as_u16())))
            .buffered(16);
        let mut taken = Vec::new();
        while let Some(answered) = answers.next().await {
            taken.push(answered);
            if round < 3 && taken.iter().filter(|taken| **taken).count() == 50 {
                server.take().map(Process::kill);
            }
        }
        drop(answers);
        let mut taken = taken.into_iter();
        waiting.retain(|_| !taken.next().unwrap());
        acknowledged = 300 - waiting.len();
        let stored = count("SELECT count(*) FROM signals").await;
        assert!(stored >= acknowledged && (round == 3 || acknowledged < 300), "{stored} stored, {acknowledged} acknowledged");
        for rows in ["SELECT count(*) FROM issues", "SELECT count(*) FROM deliveries", whole] {
            assert_eq!(count(rows).await, stored, "in round {round}: {rows}");
        }
    }
    assert_eq!((acknowledged, count("SELECT count(*) FROM signals").await), (300, 300));
}
