use loop_core::Role;
use serde_json::json;

use crate::support::{TestApp, assert_changed, assert_row, id};

#[tokio::test]
async fn created_shown_changed_and_deleted() {
    let (_app, admin) = TestApp::with_admin().await;
    let mut label = admin.post("/api/v1/labels", json!({ "name": "Größe", "color": "#00ff00" })).await.created();
    assert_row(&label, &json!({ "name": "Größe", "color": "#00ff00" }));
    let path = format!("/api/v1/labels/{}", id(&label));
    assert_eq!(admin.get(&path).await.ok(), label);

    for change in [json!({}), json!({ "name": "größe" }), json!({ "color": "tomato" }), json!({ "name": "size", "color": "red" })] {
        let after = admin.patch(&path, &change).await.ok();
        assert_changed(&after, &label, &change);
        label = after;
    }
    assert_eq!(admin.get("/api/v1/labels").await.ok(), json!({ "data": [label], "nextCursor": null }));

    admin.delete(&path).await.no_content();
    for method in ["GET", "PATCH", "DELETE"] {
        let body = (method == "PATCH").then(|| json!({}));
        admin.call(method, &path, body.as_ref()).await.not_found("Label not found");
    }
    assert_eq!(admin.get("/api/v1/labels").await.ok(), json!({ "data": [], "nextCursor": null }));
}

#[tokio::test]
async fn one_name_is_one_label_in_whatever_case() {
    let (_app, admin) = TestApp::with_admin().await;
    let bug = admin.label("Bug").await;
    let other = admin.label("other").await;
    let taken = "A label with this name already exists";
    assert_eq!(admin.post("/api/v1/labels", json!({ "name": "bUG", "color": "red" })).await.error(409, "conflict"), taken);
    assert_eq!(admin.patch(format!("/api/v1/labels/{other}"), json!({ "name": "BUG" })).await.error(409, "conflict"), taken);
    // The name of a deleted label is free.
    admin.delete(format!("/api/v1/labels/{bug}")).await.no_content();
    admin.patch(format!("/api/v1/labels/{other}"), json!({ "name": "BUG" })).await.ok();
}

#[tokio::test]
async fn put_on_issues_and_taken_off_any_number_of_times() {
    let (_app, admin) = TestApp::with_admin().await;
    let (issue, label) = (admin.issue("a crash").await, admin.label("bug").await);
    let by_id = format!("/api/v1/issues/{}", id(&issue));
    let by_number = format!("/api/v1/issues/{}", issue["number"]);
    let labels = async || admin.get(&by_id).await.ok()["labels"].as_array().unwrap().len();

    admin.put(format!("{by_id}/labels/{label}")).await.no_content();
    admin.put(format!("{by_number}/labels/{label}")).await.no_content();
    assert_eq!(labels().await, 1);
    admin.delete(format!("{by_number}/labels/{label}")).await.no_content();
    admin.delete(format!("{by_id}/labels/{label}")).await.no_content();
    assert_eq!(labels().await, 0);
}

#[tokio::test]
async fn neither_put_on_nor_taken_off_what_is_not_there() {
    let (_app, admin) = TestApp::with_admin().await;
    let (issue, label) = (id(&admin.issue("a crash").await), admin.label("bug").await);
    let (gone_issue, gone_label) = (id(&admin.issue("gone").await), admin.label("gone").await);
    admin.delete(format!("/api/v1/issues/{gone_issue}")).await.no_content();
    admin.delete(format!("/api/v1/labels/{gone_label}")).await.no_content();
    for method in ["PUT", "DELETE"] {
        for issue in [gone_issue.as_str(), "abcdefghijklmnopqrstuvwx", "99999", "0", "-1", "+1", "%31%20", "NO"] {
            admin.call(method, &format!("/api/v1/issues/{issue}/labels/{label}"), None).await.not_found("Issue not found");
        }
        for label in [gone_label.as_str(), "abcdefghijklmnopqrstuvwx", "1", "%00"] {
            admin.call(method, &format!("/api/v1/issues/{issue}/labels/{label}"), None).await.not_found("Label not found");
        }
    }
}

#[tokio::test]
async fn shared_by_all_projects() {
    let (app, admin) = TestApp::with_admin().await;
    let label = admin.label("bug").await;
    let bound = app.caller(Role::Write, Some(&admin.project("Shop").await)).await;
    bound.get(format!("/api/v1/labels/{label}")).await.ok();
    bound.patch(format!("/api/v1/labels/{label}"), json!({ "color": "red" })).await.ok();
    assert_eq!(bound.ids("/api/v1/labels").await, [label]);
    let of_bound = bound.label("feature").await;
    admin.get(format!("/api/v1/labels/{of_bound}")).await.ok();
}
