//! `Idempotency-Key`: what was asked twice is done once.

use futures_util::future::join_all;
use loop_core::Role;
use serde_json::{Value, json};

use crate::{
    routes::{ROUTES, World},
    support::{Answer, Caller, TestApp, id, send},
};

async fn post(caller: &Caller, path: &str, key: &str, body: &Value) -> Answer {
    send(caller.request("POST", path).header("idempotency-key", key).json(body)).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

#[tokio::test]
async fn every_route_that_creates_answers_again_as_it_did() {
    let (app, admin) = TestApp::with_admin().await;
    let world = World::new(&admin, "home", true).await;
    let routes: Vec<_> = ROUTES.iter().filter(|route| route.method == "POST" && route.path.starts_with("/api/v1")).collect();
    assert!(routes.len() >= 14, "{}", routes.len());
    for (place, route) in routes.iter().enumerate() {
        let (path, key) = (world.path(route.path), format!("route-{place}"));
        let body = route.body.map(|body| body(&world));
        let call = async |key: &str| match &body {
            Some(body) => post(&admin, &path, key, body).await,
            None => send(admin.request("POST", &path).header("idempotency-key", key)).await,
        };
        let tables = "SELECT concat_ws(' ', (SELECT count(*) FROM issues), (SELECT count(*) FROM signals), (SELECT count(*) FROM api_keys),
                      (SELECT count(*) FROM prompt_versions), (SELECT count(*) FROM comments), (SELECT count(*) FROM issue_events))";
        let first = call(&key).await;
        assert!(matches!(first.status, 200 | 201), "{path}: {first:?}");
        assert!(!is_replayed(&first), "{path}");
        let stored = app.query(tables).await;
        for _ in 0..2 {
            let again = call(&key).await;
            assert!(is_replayed(&again), "{path}");
            assert_eq!((again.status, &again.text), (first.status, &first.text), "{path}");
            assert_eq!(again.headers["content-type"], first.headers["content-type"], "{path}");
        }
        assert_eq!(app.query(tables).await, stored, "{path}");
    }
}

#[tokio::test]
async fn a_key_is_of_one_request_and_one_caller() {
    let (app, admin) = TestApp::with_admin().await;
    let other = app.caller(Role::Write, None).await;
    let (one, two) = (json!({ "title": "one" }), json!({ "title": "two" }));
    let first = post(&admin, "/api/v1/issues", "key", &one).await.created();
    let wrong = [("Idempotency-Key", "Was used for another request")];
    post(&admin, "/api/v1/issues", "key", &two).await.wrong(&wrong);
    post(&admin, "/api/v1/goals", "key", &one).await.wrong(&wrong);
    let theirs = post(&other, "/api/v1/issues", "key", &two).await;
    assert!(!is_replayed(&theirs));
    assert_ne!(theirs.created()["id"], first["id"]);
    // It is the caller's also when it comes with other words for the same thing, which is another request.
    let spaced = admin.request("POST", "/api/v1/issues").header("idempotency-key", "key").header("content-type", "application/json");
    send(spaced.body("{ \"title\": \"one\" }")).await.wrong(&wrong);
    assert_eq!(app.query("SELECT count(*) FROM issues").await, ["2"]);
}

#[tokio::test]
async fn what_was_refused_was_not_done_and_can_be_asked_again() {
    let (app, admin) = TestApp::with_admin().await;
    let body = |project: &str| json!({ "title": "one", "projectId": project });
    let unknown = body("abcdefghijklmnopqrstuvwx");
    for _ in 0..2 {
        assert_eq!(post(&admin, "/api/v1/issues", "key", &unknown).await.status, 422);
    }
    post(&admin, "/api/v1/issues", "key", &json!({ "title": "" })).await.wrong(&[("title", "Must not be empty")]);
    let project = admin.project("Shop").await;
    let answer = post(&admin, "/api/v1/issues", "key", &body(&project)).await;
    assert!(!is_replayed(&answer));
    answer.created();
    // A name that is taken ends the transaction itself.
    let label = json!({ "name": "slow", "color": "red" });
    admin.label("slow").await;
    post(&admin, "/api/v1/labels", "label", &label).await.error(409, "conflict");
    assert_eq!(app.query("SELECT count(*) FROM idempotency_keys").await, ["1"]);
}

#[tokio::test]
async fn keys_have_a_form() {
    let (_app, admin) = TestApp::with_admin().await;
    let body = json!({ "title": "one" });
    let longest = "k".repeat(255);
    for key in ["!", "a~b", longest.as_str()] {
        post(&admin, "/api/v1/issues", key, &body).await.created();
    }
    let wrong = [("Idempotency-Key", "Must be given once, with 1 to 255 visible ASCII characters")];
    let too_long = "k".repeat(256);
    for key in ["", "two words", "caf\u{e9}", too_long.as_str()] {
        post(&admin, "/api/v1/issues", key, &body).await.wrong(&wrong);
    }
    let twice = admin.request("POST", "/api/v1/issues").header("idempotency-key", "a").header("idempotency-key", "b");
    send(twice.json(&body)).await.wrong(&wrong);
    // Who may not do it learns nothing of the rest.
    let stranger = admin.with_key("loop_nonsense");
    assert_eq!(post(&stranger, "/api/v1/issues", "", &body).await.status, 401);
    // Other methods do what they do, whatever the header says.
    assert_eq!(send(admin.request("GET", "/api/v1/issues").header("idempotency-key", "two words")).await.status, 200);
}

#[tokio::test]
async fn they_are_forgotten_after_a_day() {
    let (app, admin) = TestApp::with_admin().await;
    for place in 0..20 {
        post(&admin, "/api/v1/issues", &format!("old-{place}"), &json!({ "title": "one" })).await.created();
    }
    app.query("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second'").await;
    // Also for another request, in place of the one that is forgotten.
    let answer = post(&admin, "/api/v1/issues", "old-0", &json!({ "title": "another" })).await;
    assert!(!is_replayed(&answer));
    answer.created();
    assert!(is_replayed(&post(&admin, "/api/v1/issues", "old-0", &json!({ "title": "another" })).await));
    // Each that comes takes some of the old with it.
    for place in 0..3 {
        post(&admin, "/api/v1/issues", &format!("new-{place}"), &json!({ "title": "one" })).await.created();
    }
    assert_eq!(app.query("SELECT count(*) FROM idempotency_keys").await, ["4"]);
    assert_eq!(app.query("SELECT count(*) FROM issues").await, ["24"]);
}

#[tokio::test]
async fn a_key_that_was_made_is_kept_so_that_only_its_maker_can_read_it() {
    let (app, admin) = TestApp::with_admin().await;
    let new = json!({ "name": "ci" });
    let first = post(&admin, "/api/v1/keys", "make", &new).await.created();
    let plaintext = first["key"].as_str().unwrap();
    let again = post(&admin, "/api/v1/keys", "make", &new).await;
    assert!(is_replayed(&again) && again.created()["key"] == plaintext);
    let stored = app.query("SELECT encode(answer, 'escape') FROM idempotency_keys").await.remove(0);
    assert!(!stored.contains("loop_") && !stored.contains(&plaintext[5..]) && !stored.contains("name"), "{stored}");
    // Not even under the maker's own next key.
    let keys = admin.get("/api/v1/keys").await.ok();
    let own = id(keys["data"].as_array().unwrap().iter().find(|key| key["name"] == "a test's").unwrap());
    let rotated = admin.post(format!("/api/v1/keys/{own}/rotate"), json!({ "graceSeconds": 60 })).await.ok();
    let next = admin.with_key(rotated["key"].as_str().unwrap());
    let wrong = [("Idempotency-Key", "Was used with the key before its rotation, which alone opens the answer")];
    post(&next, "/api/v1/keys", "make", &new).await.wrong(&wrong);
    assert!(is_replayed(&post(&admin, "/api/v1/keys", "make", &new).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn of_twins_at_once_one_is_done() {
    let (app, admin) = TestApp::with_admin().await;
    for round in 0..20 {
        // A label's name is taken once: a twin that is done just before the other looks must not be told that its own name is taken.
        let (path, body) = match round % 2 {
            0 => ("/api/v1/issues", json!({ "title": "one" })),
            _ => ("/api/v1/labels", json!({ "name": format!("{round}"), "color": "#ff0000" })),
        };
        let key = format!("round-{round}");
        let calls = (0..20).map(|_| {
            let (admin, key, body) = (admin.clone(), key.clone(), body.clone());
            tokio::spawn(async move { post(&admin, path, &key, &body).await })
        });
        let answers: Vec<Answer> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let done: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(done.iter().filter(|answer| !is_replayed(answer)).count(), 1);
        assert!(done.iter().all(|answer| answer.text == done[0].text));
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            assert_eq!((answer.status, &answer.headers["retry-after"]), (409, &"1".parse().unwrap()));
            assert!(answer.text.contains("in_progress"), "{}", answer.text);
        }
        assert!(is_replayed(&post(&admin, path, &key, &body).await));
    }
    assert_eq!(app.query("SELECT count(*) FROM issues").await, ["10"]);
    assert_eq!(app.query("SELECT count(*) FROM labels").await, ["10"]);
}

#[tokio::test]
async fn what_was_right_when_it_was_done_is_answered_again_when_it_no_longer_is() {
    let (app, admin) = TestApp::with_admin().await;
    let soon =
        app.query("SELECT to_char((now() + interval '2 seconds') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')").await.remove(0);
    let new = json!({ "name": "ci", "expiresAt": soon });
    let first = post(&admin, "/api/v1/keys", "make", &new).await.created();
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let again = post(&admin, "/api/v1/keys", "make", &new).await;
    assert!(is_replayed(&again));
    assert_eq!(again.created(), first);
    post(&admin, "/api/v1/keys", "later", &new).await.wrong(&[("expiresAt", "Must be in the future")]);
}
