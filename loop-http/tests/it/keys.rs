use std::time::Duration;

use loop_core::{Role, Timestamp};
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, assert_row, id, ids};

/// What no answer may hold but the one to the creation: anything of the key beyond its prefix.
fn hides(answer: &Answer, key: &str) -> bool {
    !answer.text.contains(&key[12..]) && !answer.text.to_lowercase().contains("hash")
}

#[tokio::test]
async fn the_plain_text_is_in_the_answer_to_the_creation_and_nowhere_else() {
    let (_app, admin) = TestApp::with_admin().await;
    let project = admin.project("Shop").await;
    let new = json!({ "name": "ci", "role": "read", "projectId": project, "expiresAt": "2999-12-31T23:59:59.999Z" });
    let created = admin.post("/api/v1/keys", &new).await;
    let mut row = created.created();
    assert!(!created.text.to_lowercase().contains("hash"));
    let key = row.as_object_mut().unwrap().remove("key").unwrap().as_str().unwrap().to_owned();
    assert!(key.starts_with("loop_") && key.len() == 48, "{key}");
    let mut expected = new;
    expected["prefix"] = json!(key[..12]);
    expected["active"] = json!(true);
    expected["lastUsedAt"] = Value::Null;
    assert_row(&row, &expected);

    let listed = admin.get("/api/v1/keys").await;
    assert!(hides(&listed, &key), "{listed:?}");
    assert!(listed.json()["data"].as_array().unwrap().contains(&row));
    admin.with_key(&key).get("/api/v1/issues").await.ok();
    let listed = admin.get("/api/v1/keys").await.ok();
    let used = listed["data"].as_array().unwrap().iter().find(|listed| listed["id"] == row["id"]).unwrap().clone();
    assert_ne!(used["lastUsedAt"], Value::Null);
}

/// How long the server may believe what it knew of a key, when something else changes it.
const SEEN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn created_with_defaults() {
    let (_app, admin) = TestApp::with_admin().await;
    let created = admin.post("/api/v1/keys", json!({ "name": "ci" })).await.created();
    assert_eq!((&created["role"], &created["projectId"], &created["expiresAt"]), (&json!("write"), &Value::Null, &Value::Null));
}

#[tokio::test]
async fn rotated_with_and_without_grace() {
    let (app, admin) = TestApp::with_admin().await;
    let created = admin.post("/api/v1/keys", json!({ "name": "ci" })).await.created();
    let path = format!("/api/v1/keys/{}/rotate", id(&created));
    let key = |answer: &Value| answer["key"].as_str().unwrap().to_owned();
    let opens = async |key: &str| admin.with_key(key).get("/api/v1/issues").await.status;

    let second = admin.post(&path, json!({ "graceSeconds": 60 })).await.ok();
    assert_eq!(second["id"], created["id"]);
    assert_eq!(second["prefix"], key(&second)[..12]);
    assert_eq!((opens(&key(&created)).await, opens(&key(&second)).await), (200, 200));
    // Rotating again leaves the grace to the key before alone.
    let third = admin.post(&path, json!({ "graceSeconds": 60 })).await.ok();
    assert_eq!((opens(&key(&created)).await, opens(&key(&second)).await, opens(&key(&third)).await), (401, 200, 200));
    app.query("UPDATE api_keys SET previous_valid_until = now() - interval '1 ms' WHERE previous_valid_until IS NOT NULL").await;
    tokio::time::sleep(SEEN).await;
    assert_eq!((opens(&key(&second)).await, opens(&key(&third)).await), (401, 200));
    // Without a body the key before ends at once.
    let fourth = admin.call("POST", &path, None).await.ok();
    let fifth = admin.post(&path, json!({})).await.ok();
    assert_eq!((opens(&key(&third)).await, opens(&key(&fourth)).await, opens(&key(&fifth)).await), (401, 401, 200));
    assert!(hides(&admin.get("/api/v1/keys").await, &key(&fifth)));
}

#[tokio::test]
async fn revoked_at_once_and_with_the_key_before() {
    let (_app, admin) = TestApp::with_admin().await;
    let created = admin.post("/api/v1/keys", json!({ "name": "ci" })).await.created();
    let path = format!("/api/v1/keys/{}", id(&created));
    let rotated = admin.post(format!("{path}/rotate"), json!({ "graceSeconds": 600 })).await.ok();
    admin.delete(&path).await.no_content();
    for key in [&created["key"], &rotated["key"]] {
        let answer = admin.with_key(key.as_str().unwrap()).get("/api/v1/issues").await;
        assert_eq!(answer.error(401, "unauthorized"), "Invalid or inactive API key");
    }
    admin.delete(&path).await.not_found("API key not found");
    admin.call("POST", &format!("{path}/rotate"), None).await.not_found("API key not found");
    assert!(!admin.ids("/api/v1/keys").await.contains(&id(&created)));
}

#[tokio::test]
async fn expired_at_its_time() {
    let (app, admin) = TestApp::with_admin().await;
    let soon = Timestamp::from_millis(Timestamp::now().as_millis() + 60_000).unwrap();
    let key = app.key(Role::Read, None, Some(soon)).await;
    admin.with_key(&key).get("/api/v1/issues").await.ok();
    app.query("UPDATE api_keys SET expires_at = now() - interval '1 ms' WHERE expires_at IS NOT NULL").await;
    tokio::time::sleep(SEEN).await;
    let answer = admin.with_key(&key).get("/api/v1/issues").await;
    assert_eq!(answer.error(401, "unauthorized"), "Invalid or inactive API key");
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let (_app, admin) = TestApp::with_admin().await;
    let new = json!({ "name": "", "role": "owner", "projectId": 7, "expiresAt": "tomorrow", "key": "loop_mine" });
    admin.post("/api/v1/keys", new).await.wrong(&[
        ("name", "Must not be empty"),
        ("role", "Must be one of admin, write, read"),
        ("projectId", "Must be a string"),
        ("expiresAt", "Must be a date and time as in RFC 3339, such as 2026-01-31T12:00:00.000Z"),
        ("key", "Unknown field"),
    ]);
    let path = format!("/api/v1/keys/{}/rotate", admin.ids("/api/v1/keys").await[0]);
    for (body, reason) in [
        (json!({ "graceSeconds": 2_592_001 }), "Must be at most 2592000"),
        (json!({ "graceSeconds": -1 }), "Must be a whole number, and not negative"),
        (json!({ "graceSeconds": 1.5 }), "Must be a whole number, and not negative"),
        (json!({ "graceSeconds": "1" }), "Must be a whole number, and not negative"),
        (json!({ "graceSeconds": null }), "Must not be null"),
    ] {
        admin.post(&path, body).await.wrong(&[("graceSeconds", reason)]);
    }
    admin.post_raw(&path, "text/plain", "{}").await.error(415, "unsupported_media_type");
}

#[tokio::test]
async fn an_admin_of_a_project_manages_the_keys_of_that_project_only() {
    let (app, admin) = TestApp::with_admin().await;
    let (mine, other) = (admin.project("mine").await, admin.project("other").await);
    let bound = app.caller(Role::Admin, Some(&mine)).await;
    let foreign = admin.post("/api/v1/keys", json!({ "name": "other", "projectId": other })).await.created();

    let created = bound.post("/api/v1/keys", json!({ "name": "ci", "role": "admin" })).await.created();
    assert_eq!(created["projectId"], mine);
    bound.post("/api/v1/keys", json!({ "name": "ci", "projectId": mine })).await.created();
    bound.post("/api/v1/keys", json!({ "name": "ci", "projectId": other })).await.dangling(&["projectId"]);
    let page = bound.get("/api/v1/keys?total=true").await.ok();
    assert_eq!(page["total"], 3);
    assert!(!ids(&page).contains(&id(&foreign)));
    assert!(page["data"].as_array().unwrap().iter().all(|key| key["projectId"] == mine));

    bound.call("POST", &format!("/api/v1/keys/{}/rotate", id(&foreign)), None).await.not_found("API key not found");
    bound.delete(format!("/api/v1/keys/{}", id(&foreign))).await.not_found("API key not found");
    admin.with_key(foreign["key"].as_str().unwrap()).get("/api/v1/issues").await.ok();
    bound.delete(format!("/api/v1/keys/{}", id(&created))).await.no_content();
}

#[tokio::test]
async fn the_keys_of_a_deleted_project_open_nothing() {
    let (app, admin) = TestApp::with_admin().await;
    let project = admin.project("Shop").await;
    let bound = app.caller(Role::Write, Some(&project)).await;
    bound.get("/api/v1/issues").await.ok();
    admin.delete(format!("/api/v1/projects/{project}")).await.no_content();
    assert_eq!(bound.get("/api/v1/issues").await.error(401, "unauthorized"), "Invalid or inactive API key");
}
