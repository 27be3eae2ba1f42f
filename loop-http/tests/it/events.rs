//! The history of issues, and who is in it.

use loop_core::Role;
use serde_json::{Value, json};

use crate::{
    signatures::Delivery,
    support::{TestApp, id, is_time},
};

#[tokio::test]
async fn an_issue_and_its_project_tell_what_was_done_by_whom() {
    let (app, admin) = TestApp::with_admin().await;
    let project = admin.project("Shop").await;
    let writer = app.caller(Role::Write, Some(&project)).await;
    let keys = admin.get("/api/v1/keys").await.ok()["data"].as_array().unwrap().clone();
    let key = id(keys.iter().find(|key| key["projectId"] == json!(project)).unwrap());
    let issue = writer.issue("a crash").await;
    let path = format!("/api/v1/issues/{}", id(&issue));
    writer.patch(&path, json!({ "status": "resolved", "title": "a fixed crash" })).await.ok();

    let events = writer.get(format!("{path}/events?total=true")).await.ok();
    let [updated, created] = &events["data"].as_array().unwrap()[..] else { panic!("{events}") };
    assert_eq!((&events["total"], &events["nextCursor"]), (&json!(2), &Value::Null));
    assert!(is_time(&created["createdAt"]) && updated["id"].as_i64() > created["id"].as_i64());
    let actor = json!({ "type": "key", "id": key });
    for (event, action, changes) in [
        (created, "created", json!([])),
        (
            updated,
            "updated",
            json!([
                { "field": "title", "old": "a crash", "new": "a fixed crash" },
                { "field": "status", "old": "open", "new": "resolved" },
            ]),
        ),
    ] {
        let expected = json!({
            "id": event["id"], "issueId": issue["id"], "projectId": project, "action": action, "actor": actor, "changes": changes,
            "createdAt": event["createdAt"],
        });
        assert_eq!(event, &expected);
    }
    assert_eq!(writer.get(format!("/api/v1/issues/{}/events?total=true", issue["number"])).await.ok(), events);
    assert_eq!(admin.get(format!("/api/v1/projects/{project}/events?total=true")).await.ok(), events);

    let first = admin.get(format!("{path}/events?limit=1")).await.ok();
    let rest = admin.get(format!("{path}/events?limit=1&cursor={}", first["nextCursor"].as_str().unwrap())).await.ok();
    assert_eq!((&first["data"][0], &rest["data"][0], &rest["nextCursor"]), (updated, created, &Value::Null));
    admin.get(format!("{path}/events?cursor=x")).await.error(400, "malformed_cursor");
}

#[tokio::test]
async fn webhooks_act_in_their_provider_s_name() {
    let (app, admin) = TestApp::with_admin().await;
    let sentry = |level: &str| {
        let issue = json!({ "id": "4711", "title": "TypeError", "level": level, "count": "1" });
        Delivery::sentry("issue", json!({ "action": "created", "data": { "issue": issue } }).to_string())
    };
    let first = sentry("warning").send(&app.nobody()).await.created();
    let second = sentry("fatal").send(&app.nobody()).await.created();
    assert_eq!(first["issue"]["id"], second["issue"]["id"]);
    assert_eq!((&second["issue"]["priority"], &second["issue"]["signalCount"]), (&json!("critical"), &json!(2)));
    let events = admin.get(format!("/api/v1/issues/{}/events", id(&first["issue"]))).await.ok();
    let events = events["data"].as_array().unwrap();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event["actor"] == json!({ "type": "webhook", "id": "sentry" })), "{events:?}");
    assert_eq!(events[0]["changes"], json!([{ "field": "priority", "old": "medium", "new": "critical" }]));
}
