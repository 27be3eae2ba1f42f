use serde_json::{Value, json};

use crate::support::{TestApp, id, is_id, is_time};

#[tokio::test]
async fn created_and_seen_from_both_sides() {
    let (_app, admin) = TestApp::with_admin().await;
    let (one, other) = (admin.issue("one").await, admin.issue("other").await);
    let path = |issue: &Value| format!("/api/v1/issues/{}/relations", issue["number"]);
    for kind in ["blocks", "blocked_by", "related", "duplicate"] {
        let relation = admin.post(path(&one), json!({ "type": kind, "relatedIssueId": other["id"] })).await.created();
        assert!(is_id(&relation["id"]) && is_time(&relation["createdAt"]));
        let expected = json!({
            "id": relation["id"], "type": kind, "issueId": one["id"], "relatedIssueId": other["id"],
            "createdAt": relation["createdAt"], "updatedAt": relation["createdAt"],
        });
        assert_eq!(relation, expected);

        for (seen_from, direction, far_end) in [(&one, "outgoing", &other), (&other, "incoming", &one)] {
            let mut view = relation.clone();
            view["direction"] = json!(direction);
            view["issue"] = far_end.clone();
            assert_eq!(admin.get(path(seen_from)).await.ok(), json!({ "data": [view], "nextCursor": null }));
        }
        admin.delete(format!("/api/v1/relations/{}", id(&relation))).await.no_content();
        admin.delete(format!("/api/v1/relations/{}", id(&relation))).await.not_found("Relation not found");
    }
    assert_eq!(admin.get(path(&other)).await.ok(), json!({ "data": [], "nextCursor": null }));
}

#[tokio::test]
async fn one_of_a_type_per_pair_and_never_to_itself() {
    let (_app, admin) = TestApp::with_admin().await;
    let (one, other) = (id(&admin.issue("one").await), id(&admin.issue("other").await));
    let path = format!("/api/v1/issues/{one}/relations");
    let blocks = json!({ "type": "blocks", "relatedIssueId": other });
    admin.post(&path, &blocks).await.created();
    assert_eq!(admin.post(&path, &blocks).await.error(409, "conflict"), "This relation already exists");
    admin.post(&path, json!({ "type": "related", "relatedIssueId": other })).await.created();
    admin.post(format!("/api/v1/issues/{other}/relations"), json!({ "type": "blocks", "relatedIssueId": one })).await.created();
    let itself = admin.post(&path, json!({ "type": "related", "relatedIssueId": one })).await;
    itself.wrong(&[("relatedIssueId", "An issue cannot be related to itself")]);
    assert_eq!(admin.ids(&path).await.len(), 3);
}

#[tokio::test]
async fn hidden_with_either_issue() {
    let (_app, admin) = TestApp::with_admin().await;
    let (one, other) = (id(&admin.issue("one").await), id(&admin.issue("other").await));
    let path = format!("/api/v1/issues/{one}/relations");
    let new = json!({ "type": "related", "relatedIssueId": other });
    let relation = id(&admin.post(&path, &new).await.created());
    admin.delete(format!("/api/v1/issues/{other}")).await.no_content();
    assert!(admin.ids(&path).await.is_empty());
    admin.delete(format!("/api/v1/relations/{relation}")).await.not_found("Relation not found");
    admin.post(&path, &new).await.dangling(&["relatedIssueId"]);
    for missing in [other.as_str(), "abcdefghijklmnopqrstuvwx", "4711"] {
        admin.get(format!("/api/v1/issues/{missing}/relations")).await.not_found("Issue not found");
        let new = json!({ "type": "related", "relatedIssueId": one });
        admin.post(format!("/api/v1/issues/{missing}/relations"), new).await.not_found("Issue not found");
    }
}
