use serde_json::json;

use crate::support::{TestApp, assert_changed, assert_row, id};

#[tokio::test]
async fn created_with_defaults_and_with_everything() {
    let (_app, admin) = TestApp::with_admin().await;
    let created = admin.post("/api/v1/goals", json!({ "title": "More sales" })).await.created();
    let mut expected = json!({
        "title": "More sales", "description": null, "metric": null, "targetValue": null, "currentValue": null, "unit": null,
        "status": "active", "projectId": null,
    });
    assert_row(&created, &expected);

    let project = admin.project("Shop").await;
    expected = json!({
        "title": "Less waiting", "description": "at the till", "metric": "p95", "targetValue": 0.5, "currentValue": -1.25e-3, "unit": "s",
        "status": "achieved", "projectId": project,
    });
    let created = admin.post("/api/v1/goals", &expected).await.created();
    assert_row(&created, &expected);
    assert_eq!(admin.get(format!("/api/v1/goals/{}", id(&created))).await.ok(), created);
}

#[tokio::test]
async fn changed_field_by_field() {
    let (_app, admin) = TestApp::with_admin().await;
    let project = admin.project("Shop").await;
    let mut goal = admin.post("/api/v1/goals", json!({ "title": "More sales" })).await.created();
    let path = format!("/api/v1/goals/{}", id(&goal));
    let changes = [
        json!({}),
        json!({ "title": "Fewer returns", "status": "abandoned" }),
        json!({ "description": "of shoes", "metric": "returns", "targetValue": 10, "currentValue": 12.5, "unit": "%", "projectId": project }),
        json!({ "status": "active" }),
        json!({ "description": null }),
        json!({ "metric": null, "unit": null }),
        json!({ "targetValue": null, "currentValue": null }),
        json!({ "projectId": null }),
    ];
    for change in changes {
        let after = admin.patch(&path, &change).await.ok();
        let mut change = change;
        if change["targetValue"] == 10 {
            change["targetValue"] = json!(10.0);
        }
        assert_changed(&after, &goal, &change);
        goal = after;
    }
    assert_eq!(admin.get(&path).await.ok(), goal);
}

#[tokio::test]
async fn listed_by_status_and_project() {
    let (_app, admin) = TestApp::with_admin().await;
    let project = admin.project("Shop").await;
    let mut goals = Vec::new();
    for status in ["active", "achieved", "abandoned"] {
        let new = json!({ "title": status, "status": status, "projectId": (status != "active").then_some(&project) });
        goals.push(id(&admin.post("/api/v1/goals", new).await.created()));
    }
    for (query, expected) in [
        (String::new(), vec![0, 1, 2]),
        ("?status=achieved".to_owned(), vec![1]),
        ("?status=achieved,active".to_owned(), vec![0, 1]),
        (format!("?projectId={project}"), vec![1, 2]),
        (format!("?projectId={project}&status=active"), vec![]),
    ] {
        let mut listed = admin.ids(format!("/api/v1/goals{query}")).await;
        let mut expected: Vec<_> = expected.into_iter().map(|place: usize| goals[place].clone()).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{query}");
    }
}

#[tokio::test]
async fn deleted_for_good() {
    let (_app, admin) = TestApp::with_admin().await;
    let goal = admin.post("/api/v1/goals", json!({ "title": "More sales" })).await.created();
    let path = format!("/api/v1/goals/{}", id(&goal));
    admin.delete(&path).await.no_content();
    for method in ["GET", "PATCH", "DELETE"] {
        let body = (method == "PATCH").then(|| json!({}));
        admin.call(method, &path, body.as_ref()).await.not_found("Goal not found");
    }
    assert!(admin.ids("/api/v1/goals").await.is_empty());
}
