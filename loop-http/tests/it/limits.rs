//! How often one address may fail. The router is called without a server, so that requests come from addresses of choice.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response},
};
use loop_core::Role;
use loop_http::{AppState, LimitOptions, RouterOptions};
use tower::ServiceExt as _;

use crate::support::{ADMIN_SECRET, TestApp, no_database, state, webhooks};

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

/// A router behind these proxies, with this many requests per minute for each key.
fn behind(store: &loop_core::LoopStore, proxies: &[&str], per_minute: Option<u32>) -> Router {
    let limits = LimitOptions {
        trusted_proxies: proxies.iter().map(|network| network.parse().unwrap()).collect(),
        key_requests_per_minute: per_minute.map(|often| often.try_into().unwrap()),
    };
    loop_http::router(AppState::with_limits(store.clone(), webhooks(), None, limits), &RouterOptions::default())
}

async fn forwarded(router: &Router, from: &str, forwarded_for: &str) -> u16 {
    let mut request = Request::builder().uri("/api/v1/issues").header("authorization", "Bearer garbled");
    if !forwarded_for.is_empty() {
        request = request.header("x-forwarded-for", forwarded_for);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo::<SocketAddr>(from.parse().unwrap()));
    router.clone().oneshot(request).await.unwrap().status().as_u16()
}

/// How often it fails from there until it is limited, at most so often.
async fn failures(router: &Router, from: &str, forwarded_for: impl Fn(usize) -> String) -> usize {
    for failures in 0..300 {
        if forwarded(router, from, &forwarded_for(failures)).await == 429 {
            return failures;
        }
    }
    300
}

#[tokio::test]
async fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
    // A network of IPv4 may be written as one of IPv6.
    let router = behind(&no_database(), &["::ffff:10.0.0.0/104", "2001:db8:ffff::/48"], None);
    // Who is no proxy says what it likes, and is counted all the same.
    assert!(failures(&router, "192.0.2.1:1", |place| format!("198.51.100.{}", place % 250)).await < 300);
    // Behind a proxy each client is counted by itself, whatever it says before the proxy adds its address.
    assert_eq!(failures(&router, "10.1.2.3:1", |place| format!("198.51.100.{place}")).await, 300);
    assert!(failures(&router, "10.1.2.3:1", |place| format!("1.2.3.{place}, 203.0.113.7")).await < 300);
    assert!(failures(&router, "[2001:db8:ffff::1]:1", |place| format!("1.2.3.{place}, 203.0.113.8, 10.9.9.9")).await < 300);
    // Without the header it is the proxy itself.
    assert!(failures(&router, "10.7.7.7:1", |_| String::new()).await < 300);
}

#[tokio::test]
async fn guesses_at_one_key_are_counted_from_wherever_they_come() {
    let db = TestApp::start().await;
    let router = behind(db.db.store(), &[], None);
    let key = db.key(Role::Read, None, None).await;
    let guess = |place: usize| format!("{}{}", &key[..20], base64_of(place));
    let mut refused = 0;
    for place in 0..400 {
        let from = format!("192.0.2.{}:1", place % 250);
        refused += usize::from(call(&router, Some(&from), "GET", "/api/v1/issues", &guess(place), "").await.status() == 429);
    }
    assert!(refused > 100, "{refused}");
    // The key itself still opens.
    assert_eq!(call(&router, Some("192.0.2.1:1"), "GET", "/api/v1/issues", &key, "").await.status(), 200);
}

/// The rest of a key, of the right length.
fn base64_of(place: usize) -> String {
    format!("{place:028}")
}

#[tokio::test]
async fn a_key_may_ask_so_often_in_a_minute() {
    let app = TestApp::start().await;
    let router = behind(app.db.store(), &[], Some(20));
    let (one, other) = (app.key(Role::Read, None, None).await, app.key(Role::Read, None, None).await);
    let mut answered = 0;
    let limited = loop {
        let answer = call(&router, Some("192.0.2.1:1"), "GET", "/api/v1/labels", &one, "").await;
        if answer.status() != 200 {
            break answer;
        }
        answered += 1;
    };
    assert!((20..=40).contains(&answered), "{answered}");
    assert!((1..=4).contains(&retry_after(&limited)));
    // From another address it is the same key; another key is not limited by it.
    assert_eq!(call(&router, Some("192.0.2.2:1"), "GET", "/api/v1/labels", &one, "").await.status(), 429);
    assert_eq!(call(&router, Some("192.0.2.1:1"), "GET", "/api/v1/labels", &other, "").await.status(), 200);
}
