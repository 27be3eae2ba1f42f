//! What all lists have in common.

use serde_json::{Value, json};

use crate::support::{Caller, TestApp, id, ids};

/// Every list, with three rows in it.
async fn lists(admin: &Caller) -> Vec<String> {
    let mut issue = Value::Null;
    for n in 0..3 {
        issue = admin.issue(&format!("issue {n}")).await;
        admin.project(&format!("project {n}")).await;
        admin.post("/api/v1/goals", json!({ "title": "goal" })).await.created();
        admin.label(&format!("label {n}")).await;
        admin.template(&format!("template-{n}")).await;
        admin.post("/api/v1/keys", json!({ "name": "key" })).await.created();
    }
    let issue = id(&issue);
    let template = admin.template("with-versions").await;
    let version = json!({ "content": "c", "authorType": "agent", "authorName": "A" });
    for n in 0..3 {
        let comment = json!({ "body": "b", "authorName": "Ada", "authorType": "human" });
        admin.post(format!("/api/v1/issues/{issue}/comments"), comment).await.created();
        let other = id(&admin.issue(&format!("other {n}")).await);
        admin.post(format!("/api/v1/issues/{issue}/relations"), json!({ "type": "related", "relatedIssueId": other })).await.created();
        admin.post("/api/v1/signals", json!({ "source": "s", "type": "t" })).await.created();
        let version = id(&admin.post(format!("/api/v1/templates/{template}/versions"), &version).await.created());
        let review =
            json!({ "versionId": version, "issueId": issue, "clarity": 1, "completeness": 2, "relevance": 3, "authorType": "agent" });
        admin.post("/api/v1/prompt-reviews", review).await.created();
    }
    let of_issue = ["comments", "relations"].map(|part| format!("/api/v1/issues/{issue}/{part}"));
    let of_template = ["versions", "reviews"].map(|part| format!("/api/v1/templates/{template}/{part}"));
    let top = ["projects", "goals", "issues", "labels", "signals", "templates", "keys"].map(|part| format!("/api/v1/{part}"));
    top.into_iter().chain(of_issue).chain(of_template).collect()
}

#[tokio::test]
async fn pages_by_cursor_and_by_offset_hold_every_row_once() {
    let (_app, admin) = TestApp::with_admin().await;
    for list in lists(&admin).await {
        let whole = admin.get(format!("{list}?limit=200")).await.ok();
        let names: Vec<_> = whole.as_object().unwrap().keys().collect();
        assert_eq!(names, ["data", "nextCursor"], "{list}");
        assert_eq!(whole["nextCursor"], Value::Null, "{list}");
        let all = ids(&whole);
        assert!(all.len() >= 3, "{list}");
        let mut walked = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = admin.get(format!("{list}?limit=1&total=true{cursor}")).await.ok();
            assert_eq!(page["total"], all.len(), "{list}");
            assert_eq!(admin.ids(format!("{list}?limit=1&offset={}", walked.len())).await, ids(&page), "{list}");
            walked.extend(ids(&page));
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(walked, all, "{list}");
        let beyond = admin.get(format!("{list}?offset=4294967295&total=true")).await.ok();
        assert_eq!(beyond, json!({ "data": [], "nextCursor": null, "total": all.len() }), "{list}");
        assert_eq!(admin.get(format!("{list}?total=false&limit=200")).await.ok(), whole, "{list}");
    }
}

#[tokio::test]
async fn wrong_parameters_are_all_named() {
    let (_app, admin) = TestApp::with_admin().await;
    let limit = "Must be a whole number from 1 to 200";
    for list in lists(&admin).await {
        for wrong in ["0", "201", "256", "-1", "1.5", "", "ten", "99999999999999999999"] {
            admin.get(format!("{list}?limit={wrong}")).await.wrong(&[("limit", limit)]);
        }
        for wrong in ["-1", "4294967296", "", "x"] {
            admin.get(format!("{list}?offset={wrong}")).await.wrong(&[("offset", "Must be a whole number from 0 to 4294967295")]);
        }
        let answer = admin.get(format!("{list}?bogus=1&limit=x&total=yes&Limit=1&limit=5")).await;
        let wrong = answer.field_errors();
        assert_eq!(wrong.keys().collect::<Vec<_>>(), ["Limit", "bogus", "limit", "total"], "{list}");
        assert_eq!(wrong["bogus"], ["Unknown parameter"]);
        assert_eq!(wrong["total"], ["Must be true or false"]);
        assert_eq!(wrong["limit"], ["Must be given once"]);
    }
}

#[tokio::test]
async fn malformed_cursors_are_told_from_wrong_parameters() {
    let (_app, admin) = TestApp::with_admin().await;
    let of_another_list = admin.post("/api/v1/keys", json!({ "name": "key" })).await.created();
    assert!(of_another_list["id"].is_string());
    for list in lists(&admin).await {
        // Not base64, not UTF-8, no order, another order, too long a number, no id, and too many parts.
        let wrong = ["%21", "", "_w", "eA", "LWNyZWF0ZWRBdHwxMjM", "LWNyZWF0ZWRBdHw5OTk5OTk5OTk5OTk5OTk5OTk5OXxhYmM", "LWNyZWF0ZWRBdHwxfA"];
        for cursor in wrong {
            let answer = admin.get(format!("{list}?cursor={cursor}")).await;
            assert_eq!(answer.error(400, "malformed_cursor"), "Malformed cursor", "{list} {cursor}");
        }
        let page = admin.get(format!("{list}?limit=1")).await.ok();
        let cursor = page["nextCursor"].as_str().unwrap();
        let both = admin.get(format!("{list}?cursor={cursor}&offset=0")).await;
        both.wrong(&[("offset", "Cannot be given together with cursor")]);
        admin.get(format!("{list}?cursor={cursor}.")).await.error(400, "malformed_cursor");
    }
}
