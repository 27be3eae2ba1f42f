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

#[tokio::test]
async fn not_ready_without_migrations() {
    let app = TestApp::over(TestDb::unmigrated().await).await;
    let answer = app.nobody().get("/ready").await;
    assert_eq!(answer.error(503, "not_migrated"), "The database lacks 5 migration(s)");
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
