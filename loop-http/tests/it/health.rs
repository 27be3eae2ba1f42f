use loop_core::test_util::TestDb;
use serde_json::json;

use crate::support::{Server, TestApp, is_time};

#[tokio::test]
async fn health_says_that_the_process_is_up_whatever_the_database_does() {
    let server = Server::without_database().await;
    let health = server.caller(None).get("/health").await.ok();
    assert!(is_time(&health["timestamp"]));
    assert_eq!(health, json!({ "ok": true, "service": "loop", "version": env!("CARGO_PKG_VERSION"), "timestamp": health["timestamp"] }));
}

#[tokio::test]
async fn ready_says_that_the_database_answers_and_is_migrated() {
    let app = TestApp::start().await;
    let ready = app.nobody().get("/ready").await.ok();
    let newest = app.query("SELECT max(version)::text FROM loop_migrations").await;
    assert_eq!(ready["schemaVersion"].to_string(), newest[0]);
    assert_eq!(ready["ok"], true);
}

/// As after the rollback of a deployment: it goes on, and says so.
#[tokio::test]
async fn a_build_that_is_behind_the_database_says_so() {
    let app = TestApp::start().await;
    assert_eq!(app.nobody().get("/ready").await.ok().get("warning"), None);
    app.query("INSERT INTO loop_migrations (version, name, applied_on, checksum) VALUES (99, 'later', '2026-01-01T00:00:00Z', '1')").await;
    let ready = app.nobody().get("/ready").await.ok();
    assert_eq!(ready["warning"], "The database is at version 99, and this build knows none after 12");
    assert_eq!(ready["schemaVersion"], 99);
}

#[tokio::test]
async fn not_ready_without_migrations() {
    let app = TestApp::over(TestDb::unmigrated().await).await;
    let answer = app.nobody().get("/ready").await;
    assert_eq!(answer.error(503, "not_migrated"), "The database lacks 12 migration(s)");
    assert_eq!(answer.header("retry-after"), Some("10"));
    app.db.store().migrate().await.unwrap();
    app.nobody().get("/ready").await.ok();
}

#[tokio::test]
async fn not_ready_without_a_database() {
    let server = Server::without_database().await;
    let answer = server.caller(None).get("/ready").await;
    assert_eq!(answer.error(503, "unavailable"), "The database is unavailable, try again");
    assert_eq!(answer.header("retry-after"), Some("2"));
}
