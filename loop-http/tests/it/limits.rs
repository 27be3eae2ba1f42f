//! How often one address may fail. The router is called without a server, so that requests come from addresses of choice.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response},
};
use loop_core::Role;
use loop_http::RouterOptions;
use tower::ServiceExt as _;

use crate::support::{ADMIN_SECRET, TestApp, no_database, state};

async fn call(router: &Router, from: Option<&str>, method: &str, path: &str, key: &str, body: &'static str) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
    request = request.header("content-type", "application/json");
    let mut request = request.body(Body::from(body)).unwrap();
    if let Some(from) = from {
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(from.parse().unwrap()));
    }
    router.clone().oneshot(request).await.unwrap()
}

/// The answer to a call that is over the limit. While the limit was reached, one more may have come free, so it is tried a few times.
async fn limited(router: &Router, from: &str, method: &str, path: &str, key: &str) -> Response<Body> {
    for _ in 0..10 {
        let answer = call(router, Some(from), method, path, key, "").await;
        if answer.status() == 429 {
            return answer;
        }
    }
    panic!("{method} {path} is not limited");
}

/// Fails until the limit, and answers how often that was and what it met then.
async fn exhaust(router: &Router, from: &str) -> (usize, Response<Body>) {
    for failures in 0..1000 {
        let answer = call(router, Some(from), "GET", "/api/v1/issues", "garbled", "").await;
        if answer.status() != 401 {
            return (failures, answer);
        }
    }
    panic!("there is no limit");
}

fn retry_after(answer: &Response<Body>) -> u64 {
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["content-type"], "application/json");
    answer.headers()["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn failed_authentications_are_counted_by_address() {
    let router = loop_http::router(state(&no_database()), &RouterOptions::default());
    let (failures, answer) = exhaust(&router, "192.0.2.1:1000").await;
    // While this runs, two come back in a second.
    assert!((120..=180).contains(&failures), "{failures}");
    assert!((1..=2).contains(&retry_after(&answer)));
    // From another port it is the same address, from another address it is not.
    limited(&router, "192.0.2.1:2000", "GET", "/api/v1/issues", "garbled").await;
    limited(&router, "[::ffff:192.0.2.1]:1", "GET", "/api/v1/issues", "garbled").await;
    assert_eq!(call(&router, Some("192.0.2.2:1000"), "GET", "/api/v1/issues", "garbled", "").await.status(), 401);
    // What needs no key is still there.
    assert_eq!(call(&router, Some("192.0.2.1:1000"), "GET", "/health", "garbled", "").await.status(), 200);
}

#[tokio::test]
async fn an_ipv6_address_is_counted_by_its_network() {
    let router = loop_http::router(state(&no_database()), &RouterOptions::default());
    exhaust(&router, "[2001:db8:1:2::1]:1000").await;
    limited(&router, "[2001:db8:1:2:3:4:5:6]:1", "GET", "/api/v1/issues", "garbled").await;
    assert_eq!(call(&router, Some("[2001:db8:1:3::1]:1"), "GET", "/api/v1/issues", "garbled", "").await.status(), 401);
}

#[tokio::test]
async fn a_host_that_does_not_know_addresses_has_no_limit() {
    let router = loop_http::router(state(&no_database()), &RouterOptions::default());
    for _ in 0..300 {
        assert_eq!(call(&router, None, "GET", "/api/v1/issues", "garbled", "").await.status(), 401);
    }
}

#[tokio::test]
async fn guesses_of_the_admin_secret_are_counted_by_themselves() {
    let router = loop_http::router(state(&no_database()), &RouterOptions::default());
    // Who guesses at keys does not keep the operator behind the same proxy out.
    exhaust(&router, "192.0.2.1:1000").await;
    for _ in 0..60 {
        assert_eq!(call(&router, Some("192.0.2.1:1000"), "POST", "/admin/migrate", "guess", "").await.status(), 401);
    }
    // The right one counts, too: whoever has tried too often does not learn that it is.
    for secret in ["guess", ADMIN_SECRET] {
        retry_after(&limited(&router, "192.0.2.1:1000", "POST", "/admin/migrate", secret).await);
    }
}

#[tokio::test]
async fn the_making_of_keys_is_counted_by_address() {
    let app = TestApp::start().await;
    let key = app.key(Role::Admin, None, None).await;
    let router = loop_http::router(state(app.db.store()), &RouterOptions::default());
    let new = r#"{"name":"one of many"}"#;
    let mut made = 0;
    let answer = loop {
        let answer = call(&router, Some("192.0.2.1:1000"), "POST", "/api/v1/keys", &key, new).await;
        if answer.status() != 201 {
            break answer;
        }
        made += 1;
    };
    assert!((60..=120).contains(&made), "{made}");
    assert!((1..=2).contains(&retry_after(&answer)));
    assert_eq!(app.query("SELECT count(*) FROM api_keys").await, [(made + 1).to_string()]);
    let rotate = "/api/v1/keys/abcdefghijklmnopqrstuvwx/rotate";
    limited(&router, "192.0.2.1:1000", "POST", rotate, &key).await;
    assert_eq!(call(&router, Some("192.0.2.2:1000"), "POST", "/api/v1/keys", &key, new).await.status(), 201);
    // Whoever made too many may still look.
    assert_eq!(call(&router, Some("192.0.2.1:1000"), "GET", "/api/v1/keys", &key, "").await.status(), 200);
}

#[tokio::test]
async fn webhooks_with_a_wrong_secret_count_too() {
    let router = loop_http::router(state(&no_database()), &RouterOptions::default());
    for _ in 0..119 {
        let answer = call(&router, Some("192.0.2.9:1"), "POST", "/webhooks/posthog?secret=guess", "-", "{}").await;
        assert_eq!(answer.status(), 401);
    }
    let (left, _) = exhaust(&router, "192.0.2.9:2").await;
    assert!(left <= 60, "{left}");
    retry_after(&limited(&router, "192.0.2.9:3", "POST", "/webhooks/posthog?secret=guess", "-").await);
    // One that says no secret at all guesses nothing.
    assert_eq!(call(&router, Some("192.0.2.9:3"), "POST", "/webhooks/posthog", "-", "{}").await.status(), 401);
}
