use serde_json::{Value, json};

use crate::support::{TestApp, assert_row, id, ids};

fn encoded(value: &Value) -> String {
    form_urlencoded::byte_serialize(value.to_string().as_bytes()).collect()
}

#[tokio::test]
async fn created_with_the_issue_it_becomes() {
    let (_app, admin) = TestApp::with_admin().await;
    let project = admin.project("Shop").await;
    let payload = json!({ "message": "disk full", "free": 0.5 });
    let new = json!({
        "source": "monitoring", "sourceId": "alert-7", "type": "disk", "severity": "high", "payload": payload, "tags": ["eu", "disk"],
        "projectId": project,
    });
    let created = admin.post("/api/v1/signals", new).await.created();
    assert_eq!(created.as_object().unwrap().len(), 2);
    let (signal, issue) = (&created["signal"], &created["issue"]);
    assert_row(
        signal,
        &json!({
            "source": "monitoring", "sourceId": "alert-7", "type": "disk", "severity": "high", "projectId": project, "issueId": issue["id"],
            "metadata": { "source": "monitoring", "rawPayload": payload, "tags": ["eu", "disk"] }, "fingerprint": null,
        }),
    );
    assert_row(
        issue,
        &json!({
            "number": issue["number"], "title": "[monitoring] disk: disk full", "description": null, "type": "signal", "status": "triage",
            "priority": "high", "parentId": null, "projectId": project, "signalSource": "monitoring", "signalPayload": payload,
            "hypothesis": null, "agentSessionId": null, "agentSummary": null, "commits": null, "pullRequests": null, "completedAt": null,
            "signalCount": 1, "signalSeverity": "high", "lastSignalAt": signal["createdAt"],
        }),
    );
    assert_eq!(&admin.get(format!("/api/v1/signals/{}", id(signal))).await.ok(), signal);
    let mut shown = admin.get(format!("/api/v1/issues/{}", id(issue))).await.ok();
    shown.as_object_mut().unwrap().retain(|name, _| issue.get(name).is_some());
    assert_eq!(&shown, issue);
}

#[tokio::test]
async fn created_with_defaults_and_a_title_of_what_there_is() {
    let (_app, admin) = TestApp::with_admin().await;
    let created = admin.post("/api/v1/signals", json!({ "source": "cron", "type": "late" })).await.created();
    let expected = json!({
        "source": "cron", "sourceId": null, "type": "late", "severity": "medium", "projectId": null, "issueId": created["issue"]["id"],
        "metadata": { "source": "cron", "rawPayload": {}, "tags": [] }, "fingerprint": null,
    });
    assert_row(&created["signal"], &expected);
    for (payload, title) in [
        (json!({}), "[cron] late: late".to_owned()),
        (json!({ "title": "T" }), "[cron] late: T".to_owned()),
        (json!({ "message": "M", "title": "T" }), "[cron] late: M".to_owned()),
        (json!({ "message": "", "title": "T" }), "[cron] late: T".to_owned()),
        (json!({ "message": 7, "title": ["T"] }), "[cron] late: late".to_owned()),
        (json!({ "message": "ü".repeat(1000) }), format!("[cron] late: {}", "ü".repeat(500 - 13))),
    ] {
        let new = json!({ "source": "cron", "type": "late", "payload": payload });
        assert_eq!(admin.post("/api/v1/signals", new).await.created()["issue"]["title"], title);
    }
}

#[tokio::test]
async fn listed_by_every_filter() {
    let (_app, admin) = TestApp::with_admin().await;
    let project = admin.project("Shop").await;
    let mut signals = Vec::new();
    let mut issues = Vec::new();
    for (source, kind, severity, project, tags) in [
        ("sentry", "error", "low", None, json!(["a"])),
        ("cron", "error", "critical", Some(&project), json!(["a", "b"])),
        ("cron", "late", "high", None, json!([])),
    ] {
        let payload = json!({ "deep": { "kind": kind } });
        let new = json!({ "source": source, "type": kind, "severity": severity, "projectId": project, "tags": tags, "payload": payload });
        let created = admin.post("/api/v1/signals", new).await.created();
        signals.push(id(&created["signal"]));
        issues.push(id(&created["issue"]));
    }
    for (query, expected) in [
        (String::new(), vec![0, 1, 2]),
        ("source=cron".to_owned(), vec![1, 2]),
        ("type=error".to_owned(), vec![0, 1]),
        ("source=cron&type=error".to_owned(), vec![1]),
        ("severity=low,high".to_owned(), vec![0, 2]),
        (format!("projectId={project}"), vec![1]),
        (format!("issueId={}", issues[2]), vec![2]),
        (format!("metadata={}", encoded(&json!({ "tags": ["a"] }))), vec![0, 1]),
        (format!("metadata={}", encoded(&json!({ "tags": ["b", "a"] }))), vec![1]),
        (format!("metadata={}", encoded(&json!({ "rawPayload": { "deep": { "kind": "late" } } }))), vec![2]),
        (format!("metadata={}", encoded(&json!({}))), vec![0, 1, 2]),
        (format!("metadata={}", encoded(&json!({ "tags": ["c"] }))), vec![]),
        ("source=nobody".to_owned(), vec![]),
    ] {
        let page = admin.get(format!("/api/v1/signals?total=true&{query}")).await.ok();
        let mut listed = ids(&page);
        let mut expected: Vec<_> = expected.into_iter().map(|place: usize| signals[place].clone()).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{query}");
        assert_eq!(page["total"], expected.len(), "{query}");
    }
    let answer = admin.get("/api/v1/signals?severity=bad&projectId=1&issueId=2&metadata=%5B%5D&source=%00").await;
    answer.wrong(&[
        ("severity", "Must be one of low, medium, high, critical"),
        ("projectId", "Not an id"),
        ("issueId", "Not an id"),
        ("metadata", "Must be a JSON object"),
        ("source", "Must not contain NUL characters"),
    ]);
    let answer = admin.get("/api/v1/signals?metadata=%7B").await;
    assert!(answer.field_errors()["metadata"][0].starts_with("Must be JSON: "));
}

#[tokio::test]
async fn a_batch_answers_item_by_item() {
    let (_app, admin) = TestApp::with_admin().await;
    let new: Vec<_> = (0..1000).map(|n| json!({ "source": "load", "type": "t", "sourceId": n.to_string() })).collect();
    for body in [json!({ "signals": new }), json!(new)] {
        let answer = admin.post("/api/v1/signals/batch", body).await.created();
        assert_eq!(answer.as_object().unwrap().len(), 1);
        let items = answer["data"].as_array().unwrap();
        assert_eq!(items.len(), 1000);
        for (n, item) in items.iter().enumerate() {
            assert_eq!(item["signal"]["sourceId"], n.to_string());
            assert_eq!(item["signal"]["issueId"], item["issue"]["id"]);
        }
    }
    assert_eq!(admin.get("/api/v1/signals?total=true&limit=1").await.ok()["total"], 2000);
    assert_eq!(admin.get("/api/v1/issues?total=true&limit=1").await.ok()["total"], 2000);
}

#[tokio::test]
async fn a_batch_is_taken_in_whole_or_not_at_all() {
    let (_app, admin) = TestApp::with_admin().await;
    let good = json!({ "source": "s", "type": "t" });
    let unknown = json!({ "source": "s", "type": "t", "projectId": "abcdefghijklmnopqrstuvwx" });
    let answer = admin.post("/api/v1/signals/batch", json!([good, unknown, good, unknown])).await;
    answer.dangling(&["signals[1].projectId", "signals[3].projectId"]);

    let wrong = json!([good, { "source": "", "type": 7, "extra": 1 }, 5, { "type": "t", "severity": "bad", "tags": "x" }]);
    for body in [wrong.clone(), json!({ "signals": wrong })] {
        admin.post("/api/v1/signals/batch", body).await.wrong(&[
            ("signals[1].source", "Must not be empty"),
            ("signals[1].type", "Must be a string"),
            ("signals[1].extra", "Unknown field"),
            ("signals[2]", "Must be a JSON object"),
            ("signals[3].source", "Required"),
            ("signals[3].severity", "Must be one of low, medium, high, critical"),
            ("signals[3].tags", "Must be a list"),
        ]);
    }
    for body in [json!([]), json!({ "signals": [] }), json!(vec![good; 1001])] {
        admin.post("/api/v1/signals/batch", body).await.wrong(&[("signals", "Must be 1 to 1000 signals")]);
    }
    admin.post("/api/v1/signals/batch", json!({})).await.wrong(&[("signals", "Required")]);
    for wrong in [json!(null), json!({}), json!("x")] {
        let body = json!({ "signals": wrong, "also": 1 });
        admin.post("/api/v1/signals/batch", body).await.wrong(&[("signals", "Must be a list"), ("also", "Unknown field")]);
    }
    assert_eq!(admin.get("/api/v1/signals?total=true").await.ok()["total"], 0);
    assert_eq!(admin.get("/api/v1/issues?total=true").await.ok()["total"], 0);
}

#[tokio::test]
async fn not_shown_unless_there() {
    let (_app, admin) = TestApp::with_admin().await;
    for id in ["abcdefghijklmnopqrstuvwx", "7", "A", "%ff"] {
        admin.get(format!("/api/v1/signals/{id}")).await.not_found("Signal not found");
    }
}
