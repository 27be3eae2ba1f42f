use serde_json::{Value, json};

use crate::support::{TestApp, assert_changed, assert_row, id};

#[tokio::test]
async fn created_with_defaults() {
    let (_app, admin) = TestApp::with_admin().await;
    let created = admin.post("/api/v1/projects", json!({ "name": "Shop" })).await.created();
    let expected = json!({ "name": "Shop", "description": null, "status": "backlog", "health": "on_track", "goalId": null });
    assert_row(&created, &expected);
    assert_eq!(created["createdAt"], created["updatedAt"]);
}

#[tokio::test]
async fn shown_with_its_goal_and_its_issues_by_status() {
    let (_app, admin) = TestApp::with_admin().await;
    let goal = admin.post("/api/v1/goals", json!({ "title": "More sales" })).await.created();
    let new = json!({ "name": "Shop", "description": "", "status": "active", "health": "at_risk", "goalId": goal["id"] });
    let created = admin.post("/api/v1/projects", &new).await.created();
    assert_row(&created, &new);
    let project = id(&created);
    let mut deleted = Value::Null;
    for status in ["triage", "open", "open", "in_progress", "closed"] {
        let issue = json!({ "title": status, "status": status, "projectId": project });
        deleted = admin.post("/api/v1/issues", issue).await.created();
    }
    admin.issue("of no project").await;

    let mut expected = created.clone();
    expected["goal"] = goal;
    expected["issueCounts"] = json!({ "triage": 1, "backlog": 0, "open": 2, "in_progress": 1, "resolved": 0, "closed": 1 });
    assert_eq!(admin.get(format!("/api/v1/projects/{project}")).await.ok(), expected);

    admin.delete(format!("/api/v1/issues/{}", id(&deleted))).await.no_content();
    admin.delete(format!("/api/v1/goals/{}", id(&expected["goal"]))).await.no_content();
    let shown = admin.get(format!("/api/v1/projects/{project}")).await.ok();
    assert_eq!(shown["issueCounts"]["closed"], 0);
    assert_eq!(shown["goal"], Value::Null);
}

#[tokio::test]
async fn changed_field_by_field() {
    let (_app, admin) = TestApp::with_admin().await;
    let goal = id(&admin.post("/api/v1/goals", json!({ "title": "More sales" })).await.created());
    let mut project = admin.post("/api/v1/projects", json!({ "name": "Shop" })).await.created();
    let path = format!("/api/v1/projects/{}", id(&project));
    let changes = [
        json!({}),
        json!({ "name": "Store" }),
        json!({ "description": "sells" }),
        json!({ "status": "canceled", "health": "off_track" }),
        json!({ "goalId": goal }),
        json!({ "name": "Shop again" }),
        json!({ "description": null }),
        json!({ "goalId": null }),
    ];
    for change in changes {
        let after = admin.patch(&path, &change).await.ok();
        assert_changed(&after, &project, &change);
        project = after;
    }
    let mut shown = admin.get(&path).await.ok();
    shown.as_object_mut().unwrap().retain(|name, _| !["goal", "issueCounts"].contains(&name.as_str()));
    assert_eq!(shown, project);
}

#[tokio::test]
async fn listed_by_status_health_and_goal() {
    let (_app, admin) = TestApp::with_admin().await;
    let goal = id(&admin.post("/api/v1/goals", json!({ "title": "More sales" })).await.created());
    let mut projects = Vec::new();
    for (status, health) in [("backlog", "on_track"), ("active", "at_risk"), ("paused", "off_track"), ("active", "on_track")] {
        let new = json!({ "name": status, "status": status, "health": health, "goalId": (status == "active").then_some(&goal) });
        projects.push(id(&admin.post("/api/v1/projects", new).await.created()));
    }
    for (query, expected) in [
        ("", vec![3, 2, 1, 0]),
        ("?status=active", vec![3, 1]),
        ("?status=active,paused", vec![3, 2, 1]),
        ("?status=active&status=backlog", vec![3, 1, 0]),
        ("?health=at_risk,off_track", vec![2, 1]),
        ("?status=active&health=on_track", vec![3]),
        ("?status=completed", vec![]),
        (&format!("?goalId={goal}"), vec![3, 1]),
        ("?goalId=abcdefghijklmnopqrstuvwx", vec![]),
    ] {
        let mut listed = admin.ids(format!("/api/v1/projects{query}")).await;
        let mut expected: Vec<_> = expected.into_iter().map(|place: usize| projects[place].clone()).collect();
        // Within one millisecond the order is that of the ids.
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{query}");
    }
}

#[tokio::test]
async fn deleted_for_good() {
    let (_app, admin) = TestApp::with_admin().await;
    let path = format!("/api/v1/projects/{}", admin.project("Shop").await);
    admin.delete(&path).await.no_content();
    for method in ["GET", "PATCH", "DELETE"] {
        let body = (method == "PATCH").then(|| json!({}));
        admin.call(method, &path, body.as_ref()).await.not_found("Project not found");
    }
    assert!(admin.ids("/api/v1/projects").await.is_empty());
}
