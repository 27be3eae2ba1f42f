use serde_json::{Value, json};

use crate::support::{TestApp, assert_changed, assert_row, id};

/// An issue of an open task with this title and nothing else, as it is shown.
fn plain(title: &str, number: &Value) -> Value {
    json!({
        "number": number, "title": title, "description": null, "type": "task", "status": "open", "priority": "medium", "parentId": null,
        "projectId": null, "signalSource": null, "hypothesis": null, "agentSessionId": null, "agentSummary": null, "commits": null,
        "pullRequests": null, "completedAt": null, "signalCount": 0, "signalSeverity": null, "lastSignalAt": null,
    })
}

#[tokio::test]
async fn created_with_defaults() {
    let (_app, admin) = TestApp::with_admin().await;
    let issue = admin.issue("a crash").await;
    assert!(issue["number"].as_i64().unwrap() > 0);
    assert_row(&issue, &plain("a crash", &issue["number"]));
}

#[tokio::test]
async fn created_with_everything_and_shown_with_everything_around_it() {
    let (_app, admin) = TestApp::with_admin().await;
    let project = admin.post("/api/v1/projects", json!({ "name": "Shop" })).await.created();
    let parent = admin.issue("the parent").await;
    let (b, a) = (admin.label("b").await, admin.label("A").await);
    let new = json!({
        "title": "a crash", "description": "at the till", "type": "hypothesis", "status": "backlog", "priority": "critical",
        "parentId": parent["id"], "projectId": project["id"], "signalSource": "sentry",
        "signalPayload": { "nested": { "number": 1.5, "list": [1, "two", null, true] } },
        "hypothesis": { "statement": "it leaks", "confidence": 0.75, "evidence": ["a graph"], "validationCriteria": "no more", "prediction": "less" },
        "agentSessionId": "session-1", "agentSummary": "looked",
        "commits": [{ "sha": "abc", "message": "fix", "url": "https://example.com/abc", "author": "Ada", "timestamp": "2026-01-31T12:00:00.000Z" }],
        "pullRequests": [{ "number": 7, "title": "Fix", "url": "https://example.com/7", "state": "merged", "mergedAt": "2026-01-31T13:00:00.000Z" }],
        "labelIds": [b, a, b],
    });
    let created = admin.post("/api/v1/issues", &new).await.created();
    let mut expected = new.clone();
    expected.as_object_mut().unwrap().remove("labelIds");
    expected["number"] = created["number"].clone();
    expected["completedAt"] = Value::Null;
    expected["signalCount"] = json!(0);
    expected["signalSeverity"] = Value::Null;
    expected["lastSignalAt"] = Value::Null;
    assert_row(&created, &expected);

    let relation = json!({ "type": "blocks", "relatedIssueId": created["id"] });
    let relation = admin.post(format!("/api/v1/issues/{}/relations", id(&parent)), relation).await.created();
    let child_of_parent = admin.get(format!("/api/v1/issues/{}", id(&parent))).await.ok();
    let detail = admin.get(format!("/api/v1/issues/{}", id(&created))).await.ok();
    let mut expected = created.clone();
    expected["parent"] = parent.clone();
    expected["children"] = json!([]);
    expected["labels"] = json!([admin.get(format!("/api/v1/labels/{a}")).await.ok(), admin.get(format!("/api/v1/labels/{b}")).await.ok(),]);
    let mut view = relation;
    view["direction"] = json!("incoming");
    view["issue"] = parent.clone();
    expected["relations"] = json!([view]);
    expected["project"] = project;
    assert_eq!(detail, expected);
    assert_eq!(admin.get(format!("/api/v1/issues/{}", created["number"])).await.ok(), expected);

    // Around others, as in lists, an issue stands without what its signal said.
    let mut brief = created;
    brief.as_object_mut().unwrap().remove("signalPayload");
    assert_eq!(child_of_parent["children"], json!([brief]));
    assert_eq!(child_of_parent["parent"], Value::Null);
    assert_eq!(child_of_parent["project"], Value::Null);
}

#[tokio::test]
async fn parts_of_nested_values_may_be_left_out() {
    let (_app, admin) = TestApp::with_admin().await;
    let new = json!({
        "title": "a guess", "hypothesis": { "statement": "it leaks", "confidence": 1, "validationCriteria": "no more" },
        "commits": [{ "sha": "abc", "message": "" }], "pullRequests": [{ "number": 7, "title": "" }],
    });
    let issue = admin.post("/api/v1/issues", new).await.created();
    let hypothesis =
        json!({ "statement": "it leaks", "confidence": 1.0, "evidence": [], "validationCriteria": "no more", "prediction": null });
    assert_eq!(issue["hypothesis"], hypothesis);
    assert_eq!(issue["commits"], json!([{ "sha": "abc", "message": "", "url": null, "author": null, "timestamp": null }]));
    assert_eq!(issue["pullRequests"], json!([{ "number": 7, "title": "", "url": null, "state": null, "mergedAt": null }]));
}

#[tokio::test]
async fn changed_field_by_field() {
    let (_app, admin) = TestApp::with_admin().await;
    let (project, parent) = (admin.project("Shop").await, admin.issue("the parent").await);
    let mut issue = admin.issue("a crash").await;
    let path = format!("/api/v1/issues/{}", issue["number"]);
    let changes = [
        json!({}),
        json!({ "title": "two crashes", "type": "bug", "priority": "low", "status": "in_progress" }),
        json!({ "description": "at the till" }),
        json!({ "parentId": parent["id"], "projectId": project }),
        json!({ "signalSource": "sentry", "signalPayload": { "a": 1 } }),
        json!({ "hypothesis": { "statement": "s", "confidence": 0.5, "evidence": [], "validationCriteria": "v", "prediction": null } }),
        json!({ "agentSessionId": "session", "agentSummary": "" }),
        json!({ "commits": [], "pullRequests": [] }),
        json!({ "title": "three crashes" }),
    ];
    for change in changes {
        let after = admin.patch(&path, &change).await.ok();
        assert_changed(&after, &issue, &change);
        issue = after;
    }
    for name in [
        "description",
        "parentId",
        "projectId",
        "signalSource",
        "signalPayload",
        "hypothesis",
        "agentSessionId",
        "agentSummary",
        "commits",
        "pullRequests",
    ] {
        let after = admin.patch(&path, json!({ name: null })).await.ok();
        if name == "signalPayload" {
            issue.as_object_mut().unwrap().remove(name);
            assert_changed(&after, &issue, &json!({}));
        } else {
            assert_changed(&after, &issue, &json!({ name: null }));
        }
        issue = after;
    }
    let mut expected = plain("three crashes", &issue["number"]);
    expected["type"] = json!("bug");
    expected["priority"] = json!("low");
    expected["status"] = json!("in_progress");
    assert_row(&issue, &expected);
}

#[tokio::test]
async fn labels_are_replaced_as_a_whole() {
    let (_app, admin) = TestApp::with_admin().await;
    let (a, b, c) = (admin.label("a").await, admin.label("b").await, admin.label("c").await);
    let path = format!("/api/v1/issues/{}", id(&admin.issue("a crash").await));
    let names = async || -> Vec<String> {
        let issue = admin.get(&path).await.ok();
        issue["labels"].as_array().unwrap().iter().map(|label| label["name"].as_str().unwrap().to_owned()).collect()
    };
    admin.patch(&path, json!({ "labelIds": [a, b, a] })).await.ok();
    assert_eq!(names().await, ["a", "b"]);
    admin.patch(&path, json!({ "title": "kept" })).await.ok();
    assert_eq!(names().await, ["a", "b"]);
    admin.patch(&path, json!({ "labelIds": [c, b] })).await.ok();
    assert_eq!(names().await, ["b", "c"]);
    // A deleted label is on no issue any more.
    admin.delete(format!("/api/v1/labels/{c}")).await.no_content();
    assert_eq!(names().await, ["b"]);
    admin.patch(&path, json!({ "labelIds": [a, c], "title": "not changed" })).await.dangling(&["labelIds"]);
    assert_eq!(names().await, ["b"]);
    assert_eq!(admin.get(&path).await.ok()["title"], "kept");
    admin.patch(&path, json!({ "labelIds": [] })).await.ok();
    assert!(names().await.is_empty());
}

#[tokio::test]
async fn completion_is_when_the_status_became_resolved_or_closed() {
    let (_app, admin) = TestApp::with_admin().await;
    for status in ["resolved", "closed"] {
        let created = admin.post("/api/v1/issues", json!({ "title": "done", "status": status })).await.created();
        assert_eq!(created["completedAt"], created["createdAt"]);
    }
    let path = format!("/api/v1/issues/{}", id(&admin.issue("a crash").await));
    let completed_at = async |status: &str| admin.patch(&path, json!({ "status": status })).await.ok()["completedAt"].clone();
    let resolved = completed_at("resolved").await;
    assert_ne!(resolved, Value::Null);
    assert_eq!(completed_at("closed").await, resolved);
    assert_eq!(completed_at("in_progress").await, Value::Null);
    assert_eq!(completed_at("triage").await, Value::Null);
}

#[tokio::test]
async fn the_hierarchy_is_one_level_deep() {
    let (_app, admin) = TestApp::with_admin().await;
    let (parent, other) = (id(&admin.issue("parent").await), id(&admin.issue("other").await));
    let child = id(&admin.post("/api/v1/issues", json!({ "title": "child", "parentId": parent })).await.created());
    let become_child =
        async |issue: &str, parent: &str| admin.patch(format!("/api/v1/issues/{issue}"), json!({ "parentId": parent })).await;

    let deep = "The parent has a parent itself; the hierarchy is one level deep";
    admin.post("/api/v1/issues", json!({ "title": "grandchild", "parentId": child })).await.wrong(&[("parentId", deep)]);
    become_child(&other, &child).await.wrong(&[("parentId", deep)]);
    let has_children = "The issue has children, so it cannot have a parent; the hierarchy is one level deep";
    become_child(&parent, &other).await.wrong(&[("parentId", has_children)]);
    become_child(&other, &other).await.wrong(&[("parentId", "An issue cannot be its own parent")]);
    become_child(&child, &other).await.ok();
    // Without children an issue may become a child.
    become_child(&parent, &other).await.ok();
}

#[tokio::test]
async fn deleting_an_issue_hides_it_everywhere() {
    let (_app, admin) = TestApp::with_admin().await;
    let parent = admin.issue("parent").await;
    let child = admin.post("/api/v1/issues", json!({ "title": "child", "parentId": parent["id"] })).await.created();
    let child_path = format!("/api/v1/issues/{}", id(&child));
    assert_eq!(admin.get(&child_path).await.ok()["parent"]["id"], parent["id"]);
    admin.delete(format!("/api/v1/issues/{}", parent["number"])).await.no_content();
    assert_eq!(admin.get(&child_path).await.ok()["parent"], Value::Null);
    assert_eq!(admin.ids("/api/v1/issues").await, [id(&child)]);
    for path in [format!("/api/v1/issues/{}", id(&parent)), format!("/api/v1/issues/{}", parent["number"])] {
        admin.get(&path).await.not_found("Issue not found");
        admin.patch(&path, json!({})).await.not_found("Issue not found");
        admin.delete(&path).await.not_found("Issue not found");
    }
    // A child whose parent is gone can be changed, and can be a parent.
    admin.patch(&child_path, json!({ "title": "an orphan" })).await.ok();
    admin.post("/api/v1/issues", json!({ "title": "of the orphan", "parentId": child["id"] })).await.created();
}
