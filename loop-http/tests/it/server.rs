//! What is around every route: request ids, CORS, time limits, many requests at once.

use std::time::Duration;

use loop_core::{LoopStore, Role};
use loop_http::{RouterOptions, ServeOptions};
use reqwest::header::HeaderValue;
use serde_json::json;
use tower::ServiceExt as _;

use crate::{
    support::{Answer, Caller, Server, TestApp, no_database, send, state},
    wire::{Wire, head},
};

async fn with_request_id(caller: &Caller, ids: &[&[u8]]) -> String {
    let mut request = caller.request("GET", "/health");
    for id in ids {
        request = request.header("x-request-id", HeaderValue::from_bytes(id).unwrap());
    }
    send(request).await.header("x-request-id").unwrap().to_owned()
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    let mut seen = std::collections::BTreeSet::new();
    for (method, path) in [("GET", "/health"), ("GET", "/nothing"), ("POST", "/health"), ("GET", "/api/v1/issues"), ("GET", "/ready")] {
        let answer = nobody.call(method, path, None).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!(id.len(), 36, "{id}");
        assert!(seen.insert(id));
    }
    let too_large = nobody.post_raw("/webhooks/github", "application/json", vec![b' '; (5 << 20) + 1]).await;
    assert_eq!((too_large.status, too_large.header("x-request-id").map(str::len)), (413, Some(36)));
    let options = RouterOptions { cors_origins: vec![HeaderValue::from_static("*")], ..RouterOptions::default() };
    let server = Server::start(state(&no_database()), &options, ServeOptions::default()).await;
    assert!(preflight(&server, "https://app.example.com").await.header("x-request-id").is_some());
}

#[tokio::test]
async fn a_request_id_of_the_client_s_is_kept_if_it_is_one_word() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    let longest = "x".repeat(128);
    for good in ["a", "0b8fe7a2-1", "trace=1;{\"a\"}", &longest] {
        assert_eq!(with_request_id(&nobody, &[good.as_bytes()]).await, good);
    }
    let too_long = "x".repeat(129);
    for wrong in [&b""[..], b"two words", b"caf\xc3\xa9", b"\xff", b"a\tb", too_long.as_bytes()] {
        let id = with_request_id(&nobody, &[wrong]).await;
        assert_eq!(id.len(), 36, "{id}");
    }
    assert_eq!(with_request_id(&nobody, &[b"one", b"other"]).await.len(), 36);
}

async fn preflight(server: &Server, origin: &str) -> Answer {
    let request = server.caller(None).request("OPTIONS", "/api/v1/issues").header("origin", origin);
    send(request.header("access-control-request-method", "PATCH").header("access-control-request-headers", "authorization")).await
}

#[tokio::test]
async fn pages_of_chosen_origins_may_call() {
    let cors_origins = vec![HeaderValue::from_static("https://app.example.com"), HeaderValue::from_static("http://localhost:3000")];
    let options = RouterOptions { cors_origins, ..RouterOptions::default() };
    let server = Server::start(state(&no_database()), &options, ServeOptions::default()).await;
    for origin in ["https://app.example.com", "http://localhost:3000"] {
        let answer = preflight(&server, origin).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert!(answer.header("access-control-allow-methods").unwrap().contains("PATCH"));
        for name in ["authorization", "content-type", "if-match", "idempotency-key"] {
            assert!(answer.header("access-control-allow-headers").unwrap().contains(name), "{name}");
        }
        assert!(answer.header("access-control-max-age").is_some());
        // Errors can be read by the page, too.
        let answer = send(server.caller(None).request("GET", "/api/v1/issues").header("origin", origin)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, Some(origin)));
        for name in ["x-request-id", "retry-after", "etag", "idempotency-replayed"] {
            assert!(answer.header("access-control-expose-headers").unwrap().contains(name), "{name}");
        }
        assert!(answer.header("access-control-allow-credentials").is_none());
    }
    for origin in ["https://evil.example.com", "https://app.example.com.evil.com", "null"] {
        assert_eq!(preflight(&server, origin).await.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn no_page_may_call_unless_an_origin_is_chosen() {
    let server = Server::without_database().await;
    let answer = preflight(&server, "https://app.example.com").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None));
    let options = RouterOptions { cors_origins: vec![HeaderValue::from_static("*")], ..RouterOptions::default() };
    let server = Server::start(state(&no_database()), &options, ServeOptions::default()).await;
    assert_eq!(preflight(&server, "https://anywhere.example.com").await.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn the_router_can_be_mounted_below_a_path_with_parameters() {
    let (app, admin) = TestApp::with_admin().await;
    let issue = admin.issue("nested").await;
    let label = admin.label("tag").await;
    let nested = axum::Router::new().nest("/tenants/{id}", loop_http::router(state(app.db.store()), &RouterOptions::default()));
    let (id, number) = (issue["id"].as_str().unwrap(), &issue["number"]);
    let call = async |method: &str, path: String| {
        let request = axum::http::Request::builder().method(method).uri(format!("/tenants/{number}{path}"));
        let request = request.header("authorization", format!("Bearer {}", admin.key.as_ref().unwrap())).body(axum::body::Body::empty());
        nested.clone().oneshot(request.unwrap()).await.unwrap().status().as_u16()
    };
    assert_eq!(call("GET", format!("/api/v1/issues/{id}")).await, 200);
    assert_eq!(call("GET", format!("/api/v1/issues/{number}/comments")).await, 200);
    assert_eq!(call("GET", "/api/v1/issues/8".to_owned()).await, 404);
    assert_eq!(call("PUT", format!("/api/v1/issues/{id}/labels/{label}")).await, 204);
    assert_eq!(call("GET", format!("/api/v1/labels/{label}")).await, 200);
    assert_eq!(call("GET", "/api/v1/labels/%ff".to_owned()).await, 404);
}

#[tokio::test]
async fn more_requests_at_once_than_connections_to_the_database() {
    let app = TestApp::start().await;
    let key = app.key(Role::Admin, None, None).await;
    app.db.store().close();
    // A slow machine may take longer than a request usually waits.
    let store = LoopStore::builder(app.db.url()).pool_size(app.db.max_connections().min(4)).wait_timeout(Duration::from_mins(1));
    let store = store.connect().await.unwrap();
    let server = Server::start(state(&store), &RouterOptions::default(), ServeOptions::default()).await;
    let admin = server.caller(Some(&key));
    let body = json!({ "title": "one of many" });
    let answers = futures_util::future::join_all((0..100).map(|_| admin.post("/api/v1/issues", &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 201));
    assert_eq!(admin.get("/api/v1/issues?total=true").await.ok()["total"], 100);
    assert!(store.pool_status().size <= 4);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    let options = RouterOptions { request_timeout: Duration::from_millis(200), ..RouterOptions::default() };
    let server = Server::start(state(&no_database()), &options, ServeOptions::default()).await;
    let mut wire = Wire::connect(server.address).await;
    wire.send(head("POST", "/webhooks/github", None, &[("Content-Length", "10")])).await.unwrap();
    wire.send("12345").await.unwrap();
    let answer = wire.answer().await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json(), json!({ "error": "The request took too long", "code": "timeout" }));
    assert!(answer.head.to_ascii_lowercase().contains("x-request-id: "), "{}", answer.head);
    assert!(answer.head.to_ascii_lowercase().contains("retry-after: 2\r\n"), "{}", answer.head);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let server = Server::without_database().await;
    let mut wire = Wire::connect(server.address).await;
    wire.send(head("POST", "/webhooks/github", None, &[("Content-Length", "10")])).await.unwrap();
    wire.send("12345").await.unwrap();
    let answer = wire.answer().await.unwrap();
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json(), json!({ "error": "The body did not arrive in time", "code": "request_timeout" }));
    assert!(answer.head.to_ascii_lowercase().contains("x-request-id: "), "{}", answer.head);
}
