//! Every text that a body may hold: its limits, its characters, and whether it may be null.

use serde_json::{Value, json};

use crate::{
    routes::World,
    support::{TestApp, id},
};

/// A text field: its name, how many characters it takes, whether it may be empty, and whether it may be null.
struct Text(&'static str, Option<usize>, bool, bool);

const fn any(name: &'static str) -> Text {
    Text(name, None, true, true)
}

const fn some(name: &'static str, max: usize) -> Text {
    Text(name, Some(max), false, false)
}

const fn unlimited(name: &'static str) -> Text {
    Text(name, None, false, false)
}

/// A request and the texts of its body.
struct Form {
    method: &'static str,
    path: &'static str,
    body: Value,
    texts: Vec<Text>,
}

fn form(method: &'static str, path: &'static str, body: Value, texts: Vec<Text>) -> Form {
    Form { method, path, body, texts }
}

fn forms(world: &World) -> Vec<Form> {
    let goal = || vec![some("title", 500), any("description"), any("metric"), any("unit")];
    let issue = || vec![some("title", 500), any("description"), any("signalSource"), any("agentSessionId"), any("agentSummary")];
    let template = || vec![some("name", 500), any("description")];
    let comment = json!({ "body": "b", "authorName": "Ada", "authorType": "human" });
    let version = json!({ "content": "c", "authorName": "Ada", "authorType": "human" });
    let review = json!({
        "versionId": world.version, "issueId": world.issue, "clarity": 1, "completeness": 1, "relevance": 1, "authorType": "human",
    });
    vec![
        form("POST", "/api/v1/projects", json!({ "name": "n" }), vec![some("name", 500), any("description")]),
        form("PATCH", "/api/v1/projects/{project}", json!({}), vec![some("name", 500), any("description")]),
        form("POST", "/api/v1/goals", json!({ "title": "t" }), goal()),
        form("PATCH", "/api/v1/goals/{goal}", json!({}), goal()),
        form("POST", "/api/v1/issues", json!({ "title": "t" }), issue()),
        form("PATCH", "/api/v1/issues/{issue}", json!({}), issue()),
        form("POST", "/api/v1/issues/{issue}/comments", comment, vec![unlimited("body"), unlimited("authorName")]),
        form("PATCH", "/api/v1/comments/{comment}", json!({}), vec![unlimited("body")]),
        form("PATCH", "/api/v1/labels/{label}", json!({}), vec![some("name", 100), some("color", 50)]),
        form(
            "POST",
            "/api/v1/signals",
            json!({ "source": "s", "type": "t" }),
            vec![some("source", 200), some("type", 200), any("sourceId")],
        ),
        form("PATCH", "/api/v1/templates/{template}", json!({}), template()),
        form(
            "POST",
            "/api/v1/templates/{template}/versions",
            version,
            vec![unlimited("content"), any("changelog"), unlimited("authorName")],
        ),
        form("POST", "/api/v1/prompt-reviews", review, vec![any("feedback")]),
        form("POST", "/api/v1/keys", json!({ "name": "n" }), vec![some("name", 500)]),
    ]
}

#[tokio::test]
async fn each_has_its_limits() {
    let (_app, admin) = TestApp::with_admin().await;
    let world = World::new(&admin, "world", true).await;
    for Form { method, path, body, texts } in forms(&world) {
        for Text(name, max, may_be_empty, may_be_null) in texts {
            let context = format!("{method} {path} {name}");
            let send = async |value: Value| {
                let mut body = body.clone();
                body[name] = value;
                admin.call(method, &world.path(path), Some(&body)).await
            };
            for nul in ["\0", "a\0b", "\u{e9}\0"] {
                send(json!(nul)).await.wrong(&[(name, "Must not contain NUL characters")]);
            }
            for wrong in [json!(7), json!(["a"]), json!({}), json!(true), json!(1.5)] {
                send(wrong).await.wrong(&[(name, "Must be a string")]);
            }
            let expect = async |value: Value, good: bool, reason: &str| {
                let answer = send(value).await;
                if good {
                    assert!([200, 201].contains(&answer.status), "{context}: {answer:?}");
                } else {
                    answer.wrong(&[(name, reason)]);
                }
            };
            expect(json!(""), may_be_empty, "Must not be empty").await;
            expect(Value::Null, may_be_null, "Must not be null").await;
            let long = "\u{1f600}".repeat(max.unwrap_or(2000));
            let answer = send(json!(long)).await;
            let written = &answer.json();
            let written = if path == "/api/v1/signals" { &written["signal"] } else { written };
            assert_eq!(written[name], json!(long), "{context}");
            if let Some(max) = max {
                let reason = format!("Must be at most {max} characters long");
                expect(json!(format!("{long}x")), false, &reason).await;
                expect(json!("x".repeat(max + 1)), false, &reason).await;
            }
        }
    }
}

#[tokio::test]
async fn nul_is_found_wherever_it_hides() {
    let (_app, admin) = TestApp::with_admin().await;
    let nul = "Must not contain NUL characters";
    let template = format!("/api/v1/templates/{}", admin.template("slug").await);
    let issue = format!("/api/v1/issues/{}", id(&admin.issue("a").await));
    let payloads = [json!({ "a": "\0" }), json!({ "a\0": 1 }), json!({ "a": [{ "b": ["c", "\0d"] }] })];
    for payload in &payloads {
        admin.post("/api/v1/issues", json!({ "title": "t", "signalPayload": payload })).await.wrong(&[("signalPayload", nul)]);
        admin.patch(&issue, json!({ "signalPayload": payload })).await.wrong(&[("signalPayload", nul)]);
        admin.post("/api/v1/signals", json!({ "source": "s", "type": "t", "payload": payload })).await.wrong(&[("payload", nul)]);
        let batch = json!([{ "source": "s", "type": "t", "payload": payload }]);
        admin.post("/api/v1/signals/batch", batch).await.wrong(&[("signals[0].payload", nul)]);
        admin.post("/api/v1/templates", json!({ "slug": "s", "name": "n", "conditions": payload })).await.wrong(&[("conditions", nul)]);
        admin.patch(&template, json!({ "conditions": payload })).await.wrong(&[("conditions", nul)]);
    }
    admin.post("/api/v1/labels", json!({ "name": "\0", "color": "\0" })).await.wrong(&[("name", nul), ("color", nul)]);
    admin.post("/api/v1/templates", json!({ "slug": "a\0", "name": "\0" })).await.wrong(&[("slug", nul), ("name", nul)]);
    admin.post("/api/v1/signals", json!({ "source": "s", "type": "t", "tags": ["a", "\0"] })).await.wrong(&[("tags[1]", nul)]);
    let nested = json!({
        "title": "t", "hypothesis": { "statement": "s", "confidence": 1, "validationCriteria": "v", "evidence": ["e", "\0"] },
        "commits": [{ "sha": "a", "message": "\0" }], "pullRequests": [{ "number": 1, "title": "t" }, { "number": 2, "title": "\0" }],
    });
    let wrong = [("hypothesis.evidence[1]", nul), ("commits[0].message", nul), ("pullRequests[1].title", nul)];
    admin.post("/api/v1/issues", &nested).await.wrong(&wrong);
    admin.patch(&issue, nested).await.wrong(&[&wrong[..], &[]].concat());
}

#[tokio::test]
async fn slugs_have_a_form() {
    let (_app, admin) = TestApp::with_admin().await;
    let form = "Must be lower-case letters and digits in words joined by single hyphens";
    for slug in ["A", "a_b", "a b", "-a", "a-", "a--b", "ä", "a.b"] {
        admin.post("/api/v1/templates", json!({ "slug": slug, "name": "n" })).await.wrong(&[("slug", form)]);
    }
    let long = "a".repeat(201);
    admin.post("/api/v1/templates", json!({ "slug": long, "name": "n" })).await.wrong(&[("slug", "Must be at most 200 characters long")]);
    for slug in ["a", "0", "a-1-b", &long[1..]] {
        admin.post("/api/v1/templates", json!({ "slug": slug, "name": "n" })).await.created();
    }
}
