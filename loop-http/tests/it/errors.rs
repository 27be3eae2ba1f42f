//! What is wrong with a request, in the one form that all errors have.

use loop_core::test_util::TestDb;
use serde_json::{Value, json};

use crate::{
    routes::{ROUTES, World},
    support::{Server, TestApp, id},
};

#[tokio::test]
async fn what_names_no_route_is_not_found() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v2/issues",
        "/API/v1/issues",
        "/api/v1/issues/",
        "/health/",
        "//health",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS"] {
            assert_eq!(nobody.call(method, path, None).await.error(404, "not_found"), "Not found", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_right_ones() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    let answer = nobody.call("DELETE", "/api/v1/issues", None).await;
    assert_eq!(answer.error(405, "method_not_allowed"), "Method not allowed");
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
    let head = nobody.call("HEAD", "/health", None).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn every_body_is_read_strictly() {
    let (_app, admin) = TestApp::with_admin().await;
    let world = World::new(&admin, "world", true).await;
    let rotate = |_: &World| json!({});
    for route in ROUTES.iter().filter(|route| route.has_key()) {
        let body: fn(&World) -> Value = match route.body {
            Some(body) => body,
            None if route.path.ends_with("/rotate") => rotate,
            None => continue,
        };
        let good = body(&world);
        let path = world.path(route.path);
        let context = format!("{} {}", route.method, route.path);
        let (mut unknown, prefix) = if good.is_array() { (good[0].clone(), "signals[0].") } else { (good.clone(), "") };
        unknown["bogus"] = json!(1);
        unknown["createdAt"] = json!("2026-01-31T12:00:00.000Z");
        unknown["id"] = json!("abcdefghijklmnopqrstuvwx");
        let unknown = if good.is_array() { json!([unknown]) } else { unknown };
        let wrong = admin.call(route.method, &path, Some(&unknown)).await.field_errors();
        let names = ["bogus", "createdAt", "id"].map(|name| format!("{prefix}{name}"));
        assert_eq!(wrong.into_iter().collect::<Vec<_>>(), names.map(|name| (name, vec!["Unknown field".to_owned()])), "{context}");

        // Each field alone as something that none takes.
        let fields = if good.is_array() { good[0].clone() } else { good.clone() };
        for name in fields.as_object().unwrap().keys() {
            let mut wrong = fields.clone();
            wrong[name] = json!({ "not": "this" });
            let wrong = if good.is_array() { json!([wrong]) } else { wrong };
            let wrong = admin.call(route.method, &path, Some(&wrong)).await.field_errors();
            assert_eq!(wrong.into_keys().collect::<Vec<_>>(), [format!("{prefix}{name}")], "{context}");
        }
    }
}

#[tokio::test]
async fn every_required_field_is_asked_for_at_once() {
    let (_app, admin) = TestApp::with_admin().await;
    let world = World::new(&admin, "world", true).await;
    for (path, required) in [
        ("/api/v1/projects", &["name"][..]),
        ("/api/v1/goals", &["title"]),
        ("/api/v1/issues", &["title"]),
        ("/api/v1/issues/{issue}/comments", &["authorName", "authorType", "body"]),
        ("/api/v1/issues/{issue}/relations", &["relatedIssueId", "type"]),
        ("/api/v1/labels", &["color", "name"]),
        ("/api/v1/signals", &["source", "type"]),
        ("/api/v1/signals/batch", &["signals"]),
        ("/api/v1/templates", &["name", "slug"]),
        ("/api/v1/templates/{template}/versions", &["authorName", "authorType", "content"]),
        ("/api/v1/prompt-reviews", &["authorType", "clarity", "completeness", "issueId", "relevance", "versionId"]),
        ("/api/v1/keys", &["name"]),
    ] {
        let required: Vec<_> = required.iter().map(|name| (*name, "Required")).collect();
        admin.post(world.path(path), json!({})).await.wrong(&required);
    }
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let (_app, admin) = TestApp::with_admin().await;
    let wrong = json!({
        "title": "x".repeat(501), "description": 7, "type": "epic", "status": null, "priority": ["high"], "parentId": "A", "projectId": 1,
        "signalSource": "\0", "signalPayload": [1], "hypothesis": { "statement": "", "confidence": 1, "validationCriteria": "v" },
        "agentSessionId": {}, "agentSummary": true, "commits": [{ "sha": "a", "message": "m" }, { "message": "m" }],
        "pullRequests": [{ "number": -1, "title": "t" }], "labelIds": ["x"], "Title": "t",
    });
    let reasons = [
        ("title", "Must be at most 500 characters long"),
        ("description", "Must be a string"),
        ("type", "Must be one of bug, feature, task, improvement, signal, hypothesis, plan, monitor"),
        ("status", "Must not be null"),
        ("priority", "Must be a string"),
        ("parentId", "Not an id"),
        ("projectId", "Must be a string"),
        ("signalSource", "Must not contain NUL characters"),
        ("signalPayload", "Must be a JSON object"),
        ("hypothesis.statement", "Must not be empty"),
        ("agentSessionId", "Must be a string"),
        ("agentSummary", "Must be a string"),
        ("commits[1].sha", "Required"),
        ("pullRequests[0].number", "Must be a whole number from 0 to 4294967295"),
        ("labelIds[0]", "Not an id"),
        ("Title", "Unknown field"),
    ];
    admin.post("/api/v1/issues", &wrong).await.wrong(&reasons);
    let issue = format!("/api/v1/issues/{}", id(&admin.issue("t").await));
    admin.patch(&issue, &wrong).await.wrong(&reasons);
    assert_eq!(admin.get("/api/v1/issues?total=true").await.ok()["total"], 1);

    let hypothesis = |change: Value| {
        let mut hypothesis = json!({ "statement": "s", "confidence": 0.5, "validationCriteria": "v" });
        hypothesis.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "hypothesis": hypothesis })
    };
    for (body, field, reason) in [
        (hypothesis(json!({ "confidence": 1.01 })), "hypothesis.confidence", "Must be a number from 0 to 1"),
        (hypothesis(json!({ "confidence": "high" })), "hypothesis.confidence", "Must be a number"),
        (hypothesis(json!({ "evidence": "e" })), "hypothesis.evidence", "Must be a list"),
        (json!({ "hypothesis": 1 }), "hypothesis", "Must be a JSON object"),
        (json!({ "commits": { "sha": "a" } }), "commits", "Must be a list"),
        (json!({ "commits": ["a"] }), "commits[0]", "Must be a JSON object"),
    ] {
        admin.patch(&issue, body).await.wrong(&[(field, reason)]);
    }
    let unknown = admin.patch(&issue, hypothesis(json!({ "guess": 1 }))).await.field_errors();
    assert_eq!(unknown["hypothesis.guess"], ["Unknown field"]);
}

#[tokio::test]
async fn numbers_have_their_ranges() {
    let (_app, admin) = TestApp::with_admin().await;
    let world = World::new(&admin, "world", true).await;
    for wrong in [json!("1"), json!(true), json!([1])] {
        let body = json!({ "title": "t", "targetValue": wrong, "currentValue": wrong });
        admin.post("/api/v1/goals", body).await.wrong(&[("targetValue", "Must be a number"), ("currentValue", "Must be a number")]);
    }
    let reason = "Must be a whole number from 0 to 100";
    for wrong in [-1, 101, 65_536, i64::MAX] {
        let body = json!({ "slug": "s", "name": "n", "specificity": wrong });
        admin.post("/api/v1/templates", body).await.wrong(&[("specificity", reason)]);
    }
    let reason = "Must be a whole number from 1 to 5";
    for wrong in [0, 6, -1] {
        let review = json!({
            "versionId": world.version, "issueId": world.issue, "clarity": wrong, "completeness": wrong, "relevance": wrong,
            "authorType": "human",
        });
        let wrong = [("clarity", reason), ("completeness", reason), ("relevance", reason)];
        admin.post("/api/v1/prompt-reviews", review).await.wrong(&wrong);
    }
    let body = json!({ "slug": "s", "name": "n", "specificity": 1.5 });
    admin.post("/api/v1/templates", body).await.wrong(&[("specificity", "Must be a whole number")]);
}

#[tokio::test]
async fn an_error_of_the_server_s_own_tells_nothing() {
    // What somebody stored past Loop, and cannot be read, is no caller's fault.
    let (app, admin) = TestApp::with_admin().await;
    let issue = id(&admin.issue("a crash").await);
    app.query("UPDATE issues SET hypothesis = '{}'").await;
    for path in ["/api/v1/issues".to_owned(), format!("/api/v1/issues/{issue}")] {
        let answer = admin.get(path).await;
        assert_eq!(answer.status, 500);
        assert_eq!(answer.json(), json!({ "error": "Internal server error", "code": "internal" }));
        assert!(answer.header("x-request-id").is_some());
    }
}

#[tokio::test]
async fn a_database_that_is_behind_is_worth_another_try() {
    // What a newer build asks of an older schema is missing there.
    let (app, admin) = TestApp::with_admin().await;
    app.query("ALTER TABLE issues DROP COLUMN last_signal_at").await;
    admin.get("/api/v1/issues").await.error(503, "unavailable");
    admin.get("/api/v1/labels").await.ok();
}

#[tokio::test]
async fn a_database_that_is_not_migrated_is_worth_another_try() {
    let app = TestApp::over(TestDb::unmigrated().await).await;
    let answer = app.nobody().with_key(&format!("loop_{}", "A".repeat(43))).get("/api/v1/issues").await;
    answer.error(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
}
