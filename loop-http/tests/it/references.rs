//! Every field that refers to another row, to rows that are not there.

use serde_json::{Value, json};

use crate::{
    routes::World,
    support::{Caller, TestApp, id},
};

/// A request, the field that refers, and a deleted row that it could refer to.
struct Reference {
    method: &'static str,
    path: &'static str,
    body: Value,
    field: &'static str,
    deleted: String,
}

/// Rows of every kind that a field can refer to, deleted.
async fn references(admin: &Caller, world: &World) -> Vec<Reference> {
    let gone = World::new(admin, "gone", true).await;
    let project = gone.project.clone().unwrap();
    for path in [
        format!("goals/{}", gone.goal),
        format!("issues/{}", gone.issue),
        format!("labels/{}", gone.label),
        format!("templates/{}", gone.template),
        format!("projects/{project}"),
    ] {
        admin.delete(format!("/api/v1/{path}")).await.no_content();
    }
    let issue = json!({ "title": "t" });
    let signal = json!({ "source": "s", "type": "t" });
    let template = json!({ "slug": "new", "name": "n" });
    let review = json!({
        "versionId": world.version, "issueId": world.issue, "clarity": 1, "completeness": 1, "relevance": 1, "authorType": "human",
    });
    let comment = json!({ "body": "b", "authorName": "a", "authorType": "agent" });
    let reference = |method, path, body: &Value, field, deleted: &String| Reference {
        method,
        path,
        body: body.clone(),
        field,
        deleted: deleted.clone(),
    };
    let none = json!({});
    vec![
        reference("POST", "/api/v1/projects", &json!({ "name": "n" }), "goalId", &gone.goal),
        reference("PATCH", "/api/v1/projects/{project}", &none, "goalId", &gone.goal),
        reference("POST", "/api/v1/goals", &issue, "projectId", &project),
        reference("PATCH", "/api/v1/goals/{goal}", &none, "projectId", &project),
        reference("POST", "/api/v1/issues", &issue, "parentId", &gone.issue),
        reference("PATCH", "/api/v1/issues/{issue}", &none, "parentId", &gone.issue),
        reference("POST", "/api/v1/issues", &issue, "projectId", &project),
        reference("PATCH", "/api/v1/issues/{issue}", &none, "projectId", &project),
        reference("POST", "/api/v1/issues/{issue}/comments", &comment, "parentId", &gone.comment),
        reference("POST", "/api/v1/issues/{issue}/relations", &json!({ "type": "blocks" }), "relatedIssueId", &gone.issue),
        reference("POST", "/api/v1/signals", &signal, "projectId", &project),
        reference("POST", "/api/v1/templates", &template, "projectId", &project),
        reference("PATCH", "/api/v1/templates/{template}", &none, "projectId", &project),
        reference("POST", "/api/v1/prompt-reviews", &review, "versionId", &gone.version),
        reference("POST", "/api/v1/prompt-reviews", &review, "issueId", &gone.issue),
        reference("POST", "/api/v1/keys", &json!({ "name": "n" }), "projectId", &project),
    ]
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let (_app, admin) = TestApp::with_admin().await;
    let world = World::new(&admin, "world", true).await;
    for Reference { method, path, body, field, deleted } in references(&admin, &world).await {
        let send = async |value: Value| {
            let mut body = body.clone();
            body[field] = value;
            admin.call(method, &world.path(path), Some(&body)).await
        };
        // Deleted, never there, and of another kind.
        for missing in [deleted.as_str(), "abcdefghijklmnopqrstuvwx", "zz", &world.label] {
            send(json!(missing)).await.dangling(&[field]);
        }
        for malformed in ["", "A", "1abc", "abc-def", "a", "a'b", "\u{e4}bc", &"a".repeat(33), "a\0b"] {
            send(json!(malformed)).await.wrong(&[(field, "Not an id")]);
        }
        for wrong in [json!(7), json!([]), json!({}), json!(false)] {
            send(wrong).await.wrong(&[(field, "Must be a string")]);
        }
    }
}

#[tokio::test]
async fn labels_are_refused_together() {
    let (_app, admin) = TestApp::with_admin().await;
    let (label, gone) = (admin.label("a").await, admin.label("b").await);
    admin.delete(format!("/api/v1/labels/{gone}")).await.no_content();
    let issue = format!("/api/v1/issues/{}", id(&admin.issue("a").await));
    for missing in [gone.as_str(), "abcdefghijklmnopqrstuvwx"] {
        let body = json!({ "title": "t", "labelIds": [label, missing] });
        admin.post("/api/v1/issues", &body).await.dangling(&["labelIds"]);
        admin.patch(&issue, &body).await.dangling(&["labelIds"]);
    }
    admin.patch(&issue, json!({ "labelIds": [label, "A"] })).await.wrong(&[("labelIds[1]", "Not an id")]);
    admin.patch(&issue, json!({ "labelIds": label })).await.wrong(&[("labelIds", "Must be a list")]);
    admin.patch(&issue, json!({ "labelIds": null })).await.wrong(&[("labelIds", "Must not be null")]);
    assert_eq!(admin.ids("/api/v1/issues").await.len(), 1);
}

#[tokio::test]
async fn all_that_is_missing_is_named_at_once() {
    let (_app, admin) = TestApp::with_admin().await;
    let missing = "abcdefghijklmnopqrstuvwx";
    let issue = json!({ "title": "t", "parentId": missing, "projectId": missing, "labelIds": [missing] });
    admin.post("/api/v1/issues", &issue).await.dangling(&["parentId", "projectId", "labelIds"]);
    let path = format!("/api/v1/issues/{}", id(&admin.issue("a").await));
    admin.patch(path, &issue).await.dangling(&["parentId", "projectId", "labelIds"]);
    // What the path names comes before what the body names.
    admin.patch(format!("/api/v1/issues/{missing}"), &issue).await.not_found("Issue not found");
    let review =
        json!({ "versionId": missing, "issueId": missing, "clarity": 1, "completeness": 1, "relevance": 1, "authorType": "human" });
    admin.post("/api/v1/prompt-reviews", review).await.dangling(&["versionId", "issueId"]);
}
