//! `ETag` and `If-Match`: two editors do not overwrite each other.

use serde_json::json;

use crate::support::{Caller, TestApp, id, send};

/// A row of each kind that can be changed: its path, whether it can be read by itself, and a change.
async fn rows(admin: &Caller) -> Vec<(String, bool, serde_json::Value)> {
    let (project, issue, label, template) =
        (admin.project("Shop").await, admin.issue("a crash").await, admin.label("slow").await, admin.template("fix").await);
    let goal = id(&admin.post("/api/v1/goals", json!({ "title": "More sales" })).await.created());
    let comment = json!({ "body": "first", "authorName": "Ada", "authorType": "human" });
    let comment = id(&admin.post(format!("/api/v1/issues/{}/comments", id(&issue)), comment).await.created());
    vec![
        (format!("/api/v1/comments/{comment}"), false, json!({ "body": "changed" })),
        (format!("/api/v1/issues/{}", issue["number"]), true, json!({ "title": "changed" })),
        (format!("/api/v1/projects/{project}"), true, json!({ "name": "changed" })),
        (format!("/api/v1/labels/{label}"), true, json!({ "color": "changed" })),
        (format!("/api/v1/templates/{template}"), true, json!({ "name": "changed" })),
        (format!("/api/v1/goals/{goal}"), true, json!({ "title": "changed" })),
    ]
}

#[tokio::test]
async fn a_change_is_made_on_the_revision_it_was_meant_for() {
    let (_app, admin) = TestApp::with_admin().await;
    for (path, readable, change) in rows(&admin).await {
        let patch = async |tag: &str| send(admin.request("PATCH", &path).header("if-match", tag).json(&change)).await;
        let delete = async |tag: &str| send(admin.request("DELETE", &path).header("if-match", tag)).await;
        if readable {
            assert_eq!(admin.get(&path).await.headers["etag"], "\"1\"", "{path}");
        }
        for tag in ["\"2\"", "\"nonsense\"", "W/\"1\"", "\"2\", \"3\""] {
            let refused = patch(tag).await.error(412, "precondition_failed");
            assert!(refused.ends_with("was changed meanwhile"), "{refused}");
            delete(tag).await.error(412, "precondition_failed");
        }
        for tag in ["1", "\"1", "\"1\" \"2\"", ","] {
            patch(tag).await.error(400, "malformed_if_match");
            delete(tag).await.error(400, "malformed_if_match");
        }
        for (tag, revision) in [("\"1\"", 2), ("\"9\", \"2\"", 3), ("*", 4)] {
            let answer = patch(tag).await;
            assert_eq!(answer.headers["etag"], format!("\"{revision}\""), "{path} {tag}");
            assert_eq!(answer.ok()["revision"], revision);
        }
        assert_eq!(admin.patch(&path, &change).await.ok()["revision"], 5);
        if readable {
            let read = admin.get(&path).await;
            assert_eq!(read.headers["etag"], "\"5\"");
            assert_eq!(read.ok()["revision"], 5);
        }
        delete("\"4\"").await.error(412, "precondition_failed");
        delete("\"5\"").await.no_content();
        for tag in ["\"5\"", "\"1\"", "*"] {
            assert_eq!((patch(tag).await.status, delete(tag).await.status), (404, 404), "{path} {tag}");
        }
    }
}

#[tokio::test]
async fn a_stale_change_is_told_before_what_else_is_wrong_with_it() {
    let (_app, admin) = TestApp::with_admin().await;
    let issue = format!("/api/v1/issues/{}", id(&admin.issue("a crash").await));
    let dangling = json!({ "projectId": "abcdefghijklmnopqrstuvwx" });
    let patch = async |tag: &str| send(admin.request("PATCH", &issue).header("if-match", tag).json(&dangling)).await;
    patch("\"7\"").await.error(412, "precondition_failed");
    assert_eq!(patch("\"1\"").await.status, 422);
    assert_eq!(admin.get(&issue).await.ok()["revision"], 1);
}
