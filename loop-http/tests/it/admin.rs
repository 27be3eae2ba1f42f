use loop_core::test_util::TestDb;
use loop_http::{AppState, RouterOptions, ServeOptions, Webhooks};
use serde_json::json;

use crate::support::{ADMIN_SECRET, Server, TestApp, no_database};

#[tokio::test]
async fn the_secret_opens_the_migrations() {
    let app = TestApp::over(TestDb::unmigrated().await).await;
    let admin = app.nobody().with_key(ADMIN_SECRET);
    let report = admin.call("POST", "/admin/migrate", None).await.ok();
    assert_eq!(report["applied"].as_array().unwrap().len(), 12);
    assert_eq!(report["version"], 12);
    let again = admin.call("POST", "/admin/migrate", None).await.ok();
    assert_eq!(again, json!({ "applied": [], "version": 12 }));
}

#[tokio::test]
async fn nothing_else_does() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    let missing = nobody.call("POST", "/admin/migrate", None).await;
    assert_eq!(missing.error(401, "unauthorized"), "Missing or malformed Authorization header");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    for wrong in ["open", "open-sesame!", "OPEN-SESAME", "loop_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let answer = nobody.with_key(wrong).call("POST", "/admin/migrate", None).await;
        assert_eq!(answer.status, 401, "{wrong}");
    }
    nobody.with_key(ADMIN_SECRET).get("/admin/migrate").await.error(405, "method_not_allowed");
}

#[tokio::test]
async fn without_a_secret_there_is_no_such_route() {
    let state = AppState::new(no_database(), Webhooks::default(), None);
    let server = Server::start(state, &RouterOptions::default(), ServeOptions::default()).await;
    for method in ["GET", "POST"] {
        let answer = server.caller(Some(ADMIN_SECRET)).call(method, "/admin/migrate", None).await;
        assert_eq!(answer.error(404, "not_found"), "Not found");
    }
}
