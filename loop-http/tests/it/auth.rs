//! Who is let in, on every route.

use loop_core::{Role, Timestamp};
use loop_http::{RouterOptions, ServeOptions};
use reqwest::header::AUTHORIZATION;
use serde_json::json;

use crate::{
    routes::{Needs, ROUTES, World},
    support::{Server, TestApp, id, send, state},
};

#[tokio::test]
async fn without_a_bearer_token_no_route_answers() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    for route in ROUTES.iter().filter(|route| route.has_key()) {
        let answer = nobody.call(route.method, &route.path.replace(['{', '}'], ""), None).await;
        assert_eq!(answer.error(401, "unauthorized"), "Missing or malformed Authorization header", "{} {}", route.method, route.path);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let malformed = ["Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "loop_key", "Token loop_key", "Bearer two words", "Bearer\tkey", ""];
    for authorization in malformed {
        let answer = send(nobody.request("GET", "/api/v1/issues").header(AUTHORIZATION, authorization)).await;
        assert_eq!(answer.error(401, "unauthorized"), "Missing or malformed Authorization header", "{authorization}");
    }
    let twice = nobody.request("GET", "/api/v1/issues").header(AUTHORIZATION, "Bearer a").header(AUTHORIZATION, "Bearer b");
    assert_eq!(send(twice).await.error(401, "unauthorized"), "Missing or malformed Authorization header");
    let bytes = reqwest::header::HeaderValue::from_bytes(b"Bearer \xff").unwrap();
    let answer = send(nobody.request("GET", "/api/v1/issues").header(AUTHORIZATION, bytes)).await;
    assert_eq!(answer.error(401, "unauthorized"), "Missing or malformed Authorization header");
}

#[tokio::test]
async fn a_key_that_opens_nothing_opens_no_route() {
    let (app, admin) = TestApp::with_admin().await;
    let expired = app.key(Role::Admin, None, Some(Timestamp::from_millis(0).unwrap())).await;
    let revoked = admin.post("/api/v1/keys", json!({ "name": "revoked", "role": "admin" })).await.created();
    admin.delete(format!("/api/v1/keys/{}", id(&revoked))).await.no_content();
    let unknown = format!("loop_{}", "A".repeat(43));
    let garbled = format!("{}=", admin.key.as_ref().unwrap());
    for key in [&expired, revoked["key"].as_str().unwrap(), &unknown, &garbled, "loop_", "secret"] {
        // A server of its own, because one counts the failures of an address.
        let server = Server::start(state(app.db.store()), &RouterOptions::default(), ServeOptions::default()).await;
        let caller = server.caller(Some(key));
        for route in ROUTES.iter().filter(|route| route.has_key()) {
            let answer = caller.call(route.method, &route.path.replace(['{', '}'], ""), None).await;
            assert_eq!(answer.error(401, "unauthorized"), "Invalid or inactive API key", "{} {}", route.method, route.path);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
}

#[tokio::test]
async fn the_scheme_is_not_case_sensitive_and_the_key_is() {
    let (app, admin) = TestApp::with_admin().await;
    let key = admin.key.clone().unwrap();
    let nobody = app.nobody();
    for (authorization, status) in [
        (format!("bearer {key}"), 200),
        (format!("BEARER   {key}"), 200),
        (format!("Bearer {}", key.to_uppercase()), 401),
        (format!("Bearer {}", &key[..47]), 401),
    ] {
        let answer = send(nobody.request("GET", "/api/v1/issues").header(AUTHORIZATION, &authorization)).await;
        assert_eq!(answer.status, status, "{authorization}");
    }
}

#[tokio::test]
async fn a_role_opens_its_routes_and_those_of_the_roles_below() {
    let (app, admin) = TestApp::with_admin().await;
    let world = World::new(&admin, "world", true).await;
    let before = app.query("SELECT to_jsonb(t)::text FROM issues AS t ORDER BY 1").await;
    let (read, write) = (app.caller(Role::Read, None).await, app.caller(Role::Write, None).await);
    for route in ROUTES.iter().filter(|route| route.has_key()) {
        for (caller, role, may) in [(&read, "read", &[Needs::Read][..]), (&write, "write", &[Needs::Read, Needs::Write])] {
            if may.contains(&route.needs) {
                continue;
            }
            let needed = if route.needs == Needs::Admin { "admin" } else { "write" };
            let expected = format!("This needs a key with the role {needed}, and this one has the role {role}");
            // Neither a wrong body nor a missing row is told to who may not ask.
            assert_eq!(route.call(caller, &world).await.error(403, "forbidden"), expected, "{} {}", route.method, route.path);
            let nowhere = route.path.replace(['{', '}'], "");
            assert_eq!(caller.call(route.method, &nowhere, None).await.error(403, "forbidden"), expected, "{nowhere}");
        }
        if route.needs == Needs::Read {
            route.call(&read, &world).await.ok();
        }
    }
    assert_eq!(app.query("SELECT to_jsonb(t)::text FROM issues AS t ORDER BY 1").await, before);
    write.post("/api/v1/issues", json!({ "title": "allowed" })).await.created();
}
