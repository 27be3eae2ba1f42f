//! What verified deliveries become.

use loop_http::{AppState, RouterOptions, ServeOptions, Webhooks};
use serde_json::{Value, json};

use crate::{
    signatures::Delivery,
    support::{POSTHOG_SECRET, Server, TestApp, assert_row, id, webhooks},
};

/// A signal and its issue as the design has them: what is the same for every provider, and what is not.
#[track_caller]
fn assert_ingested(answer: &Value, source: &str, kind: &str, source_id: &Value, severity: &str, title: &str, payload: &Value) {
    assert_eq!(answer.as_object().unwrap().len(), 2);
    let (signal, issue) = (&answer["signal"], &answer["issue"]);
    assert_row(
        issue,
        &json!({
            "number": issue["number"], "title": title, "description": null, "type": "signal", "status": "triage", "priority": severity,
            "parentId": null, "projectId": null, "signalSource": source, "signalPayload": payload, "hypothesis": null,
            "agentSessionId": null, "agentSummary": null, "commits": null, "pullRequests": null, "completedAt": null, "signalCount": 1,
            "signalSeverity": severity, "lastSignalAt": signal["createdAt"],
        }),
    );
    assert_row(
        signal,
        &json!({
            "source": source, "sourceId": source_id, "type": kind, "severity": severity, "projectId": null, "issueId": issue["id"],
            "metadata": { "source": source, "rawPayload": payload, "tags": signal["metadata"]["tags"] }, "fingerprint": signal["fingerprint"],
        }),
    );
}

#[tokio::test]
async fn github_deliveries_become_issues() {
    let (app, admin) = TestApp::with_admin().await;
    let payload =
        json!({ "action": "opened", "repository": { "full_name": "acme/shop" }, "sender": { "login": "octocat" }, "text": "Café ☃" });
    for (event, severity) in [
        ("security_advisory", "critical"),
        ("code_scanning_alert", "critical"),
        ("dependabot_alert", "high"),
        ("secret_scanning_alert", "high"),
        ("issues", "medium"),
        ("release", "medium"),
        ("pull_request", "low"),
        ("push", "low"),
        ("issue_comment", "low"),
    ] {
        let answer = Delivery::github(event, event, payload.to_string()).send(&app.nobody()).await.created();
        let title = format!("GitHub: {event} on acme/shop by octocat");
        assert_ingested(&answer, "github", event, &json!(format!("{event}.opened")), severity, &title, &payload);
        let mut shown = admin.get(format!("/api/v1/signals/{}", id(&answer["signal"]))).await.ok();
        assert_eq!(shown.take(), answer["signal"]);
    }
    let failed = json!({ "workflow_run": { "conclusion": "failure" } });
    let answer = Delivery::github("workflow_run", "f", failed.to_string()).send(&app.nobody()).await.created();
    let title = "GitHub: workflow_run on unknown by unknown";
    assert_ingested(&answer, "github", "workflow_run", &json!("workflow_run"), "high", title, &failed);
}

#[tokio::test]
async fn github_s_form_encoding_is_understood() {
    let (app, _admin) = TestApp::with_admin().await;
    for (id, content_type) in [("1", "application/x-www-form-urlencoded"), ("2", "application/x-www-form-urlencoded; charset=utf-8")] {
        // Each about an issue of its own.
        let payload = json!({ "action": "closed", "issue": { "number": id }, "repository": { "full_name": "acme/café" } });
        let body = form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish();
        let delivery = Delivery::github("issues", id, body).with("content-type", content_type);
        let answer = delivery.send(&app.nobody()).await.created();
        let title = "GitHub: issues on acme/café by unknown";
        assert_ingested(&answer, "github", "issues", &json!("issues.closed"), "medium", title, &payload);
    }
    let without = Delivery::github("issues", "3", "other=1").with("content-type", "application/x-www-form-urlencoded");
    without.send(&app.nobody()).await.wrong(&[("payload", "The form must have this field")]);
}

#[tokio::test]
async fn a_ping_stores_nothing() {
    let (app, admin) = TestApp::with_admin().await;
    let answer = Delivery::github("ping", "p", r#"{"zen":"Café ☃","hook_id":1}"#).send(&app.nobody()).await.ok();
    assert_eq!(answer, json!({ "ok": true, "event": "ping" }));
    Delivery::sentry("installation", r#"{"action":"created"}"#).send(&app.nobody()).await.ok();
    let project = admin.project("Shop").await;
    let ping = |project: &str| Delivery::github("ping", "p", "{}").to(&format!("/webhooks/github?project={project}"));
    ping(&project).send(&app.nobody()).await.ok();
    for unknown in ["abcdefghijklmnopqrstuvwx", "A"] {
        assert_eq!(ping(unknown).send(&app.nobody()).await.status, 422, "{unknown}");
    }
    for table in ["signals", "issues", "deliveries"] {
        assert_eq!(app.query(&format!("SELECT count(*) FROM {table}")).await, ["0"]);
    }
    assert!(admin.ids("/api/v1/signals").await.is_empty());
}

#[tokio::test]
async fn sentry_deliveries_become_issues() {
    let (app, _admin) = TestApp::with_admin().await;
    for (level, count, severity) in [
        ("fatal", "1", "critical"),
        ("error", "100", "critical"),
        ("error", "99", "high"),
        ("warning", "500", "medium"),
        ("info", "1", "low"),
    ] {
        let sentry_id = format!("{level} {count}");
        let issue = json!({ "id": sentry_id, "title": "TypeError: x is undefined", "level": level, "count": count });
        let payload = json!({ "action": "created", "data": { "issue": issue } });
        let answer = Delivery::sentry("issue", payload.to_string()).send(&app.nobody()).await.created();
        let title = format!("Sentry: TypeError: x is undefined ({count} events)");
        assert_ingested(&answer, "sentry", "issue.created", &json!(sentry_id), severity, &title, &payload);
    }
}

#[tokio::test]
async fn posthog_deliveries_become_issues() {
    let (app, _admin) = TestApp::with_admin().await;
    for (change, severity) in [(-50.0, "critical"), (49.9, "high"), (25.0, "high"), (-10.0, "medium"), (9.5, "low")] {
        let properties = json!({ "metric": format!("signups {severity} {change}"), "change": change, "timeframe": "7d" });
        let payload = json!({ "event": { "uuid": format!("uuid-{change}"), "event": "metric_alert", "properties": properties } });
        let answer = Delivery::posthog(payload.to_string()).send(&app.nobody()).await.created();
        let title = format!("PostHog: signups {severity} {change} {change}% (7d)");
        assert_ingested(&answer, "posthog", "metric_alert", &payload["event"]["uuid"], severity, &title, &payload);
    }
    let by_query = Delivery::posthog("{}").without("x-posthog-secret").to(&format!("/webhooks/posthog?secret={POSTHOG_SECRET}"));
    let answer = by_query.send(&app.nobody()).await.created();
    let title = "PostHog: unknown unknown% (unknown)";
    assert_ingested(&answer, "posthog", "metric_change", &Value::Null, "low", title, &json!({}));
}

#[tokio::test]
async fn a_redelivery_answers_the_first_and_creates_nothing() {
    let (app, admin) = TestApp::with_admin().await;
    let nobody = app.nobody();
    for (first, again, other) in [
        // The same name, whatever is in it.
        (
            Delivery::github("issues", "d", "{\"n\":1}"),
            Delivery::github("issues", "d", "{\"n\":2}"),
            Delivery::github("issues", "e", "{\"n\":1}"),
        ),
        (
            Delivery::github("issues", "d", "{\"n\":1}").with("x-github-hook-id", "7"),
            Delivery::github("issues", "d", "{\"n\":1}").with("x-github-hook-id", "7"),
            Delivery::github("issues", "d", "{\"n\":1}").with("x-github-hook-id", "8"),
        ),
        (
            Delivery::sentry("issue", "{\"n\":1}").with("idempotency-key", "k"),
            Delivery::sentry("issue", "{\"n\":2}").with("idempotency-key", "k").with("request-id", "another"),
            Delivery::sentry("issue", "{\"n\":1}").with("idempotency-key", "l"),
        ),
        // Without a name, the same bytes.
        (Delivery::sentry("issue", "{\"n\":3}"), Delivery::sentry("issue", "{\"n\":3}"), Delivery::sentry("issue", "{\"n\": 3}")),
        (
            Delivery::posthog_signed("msg_1", "{\"n\":1}"),
            Delivery::posthog_signed("msg_1", "{\"n\":2}"),
            Delivery::posthog_signed("msg_2", "{\"n\":1}"),
        ),
        (
            Delivery::posthog("{\"event\":{\"uuid\":\"u\"},\"n\":1}"),
            Delivery::posthog("{\"event\":{\"uuid\":\"u\"},\"n\":2}"),
            Delivery::posthog("{\"event\":{\"uuid\":\"v\"},\"n\":1}"),
        ),
        (Delivery::posthog("{\"n\":9}"), Delivery::posthog("{\"n\":9}"), Delivery::posthog("{\"n\":10}")),
    ] {
        let created = first.send(&nobody).await.created();
        for _ in 0..2 {
            assert_eq!(again.send(&nobody).await.ok(), created);
        }
        assert_ne!(other.send(&nobody).await.created()["signal"]["id"], created["signal"]["id"]);
    }
    assert_eq!(admin.get("/api/v1/issues?total=true").await.ok()["total"], 14);

    // What became of the issue since is shown as it is.
    let created = Delivery::github("issues", "later", "{}").send(&nobody).await.created();
    let path = format!("/api/v1/issues/{}", id(&created["issue"]));
    admin.patch(&path, json!({ "title": "renamed", "status": "closed" })).await.ok();
    assert_eq!(Delivery::github("issues", "later", "{}").send(&nobody).await.ok()["issue"]["title"], "renamed");
    admin.delete(&path).await.no_content();
    let again = Delivery::github("issues", "later", "{}").send(&nobody).await.ok();
    assert_ne!(again["issue"]["deletedAt"], Value::Null);
    assert_eq!(app.query("SELECT attempts FROM deliveries WHERE key LIKE '%/later'").await, ["3"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn eight_deliveries_at_the_same_moment_become_one_issue() {
    let (app, admin) = TestApp::with_admin().await;
    for round in 0..10 {
        let delivery = Delivery::github("issues", &round.to_string(), "{}");
        let nobody = app.nobody();
        let answers = futures_util::future::join_all((0..8).map(|_| delivery.send(&nobody))).await;
        let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201]);
        assert!(answers.iter().all(|answer| answer.json() == answers[0].json()));
        assert_eq!(admin.get("/api/v1/issues?total=true").await.ok()["total"], round + 1);
        assert_eq!(admin.get("/api/v1/signals?total=true").await.ok()["total"], round + 1);
    }
}

#[tokio::test]
async fn a_delivery_may_name_its_project() {
    let (app, admin) = TestApp::with_admin().await;
    let (one, other) = (admin.project("one").await, admin.project("other").await);
    let gone = admin.project("gone").await;
    admin.delete(format!("/api/v1/projects/{gone}")).await.no_content();
    let deliver = async |id: &str, query: &str| {
        Delivery::github("issues", id, "{}").to(&format!("/webhooks/github?{query}")).send(&app.nobody()).await
    };
    let created = deliver("d", &format!("project={one}")).await.created();
    assert_eq!((&created["signal"]["projectId"], &created["issue"]["projectId"]), (&json!(one), &json!(one)));
    assert_eq!(deliver("d", &format!("project={one}")).await.ok(), created);
    // Two projects that hear of the same event each have an issue.
    assert_eq!(deliver("d", &format!("project={other}")).await.created()["issue"]["projectId"], other);
    for missing in [gone.as_str(), "abcdefghijklmnopqrstuvwx"] {
        deliver("e", &format!("project={missing}")).await.dangling(&["project"]);
    }
    for malformed in ["", "A", "%00"] {
        deliver("e", &format!("project={malformed}")).await.wrong(&[("project", "Not an id")]);
    }
    deliver("e", &format!("project={one}&project={other}")).await.wrong(&[("project", "Must be given once")]);
    let by_sentry = Delivery::sentry("issue", "{}").to(&format!("/webhooks/sentry?project={one}"));
    assert_eq!(by_sentry.send(&app.nobody()).await.created()["issue"]["projectId"], one);
    let by_posthog = Delivery::posthog("{}").to(&format!("/webhooks/posthog?project={one}"));
    assert_eq!(by_posthog.send(&app.nobody()).await.created()["issue"]["projectId"], one);
    assert_eq!(admin.ids(format!("/api/v1/signals?projectId={one}")).await.len(), 3);
}

#[tokio::test]
async fn verified_deliveries_that_are_no_signals_are_refused() {
    let (app, admin) = TestApp::with_admin().await;
    let nobody = app.nobody();
    for (body, message) in
        [(&b"{"[..], "The body is not JSON: "), (b"", "The body is not JSON: "), (b"{\"a\":\"\xff\"}", "The body is not UTF-8")]
    {
        for delivery in [Delivery::github("issues", "d", body), Delivery::sentry("issue", body), Delivery::posthog(body)] {
            let error = delivery.send(&nobody).await.error(400, "invalid_json");
            assert!(error.starts_with(message), "{error}");
        }
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    Delivery::github("issues", "d", deep).send(&nobody).await.error(400, "invalid_json");
    for delivery in [Delivery::github("issues", "d", "[]"), Delivery::sentry("issue", "7"), Delivery::posthog("null")] {
        delivery.send(&nobody).await.wrong(&[("body", "Must be a JSON object")]);
    }
    let nul = "{\"a\":{\"b\":[\"\\u0000\"]}}";
    for delivery in [Delivery::github("issues", "d", nul), Delivery::sentry("issue", nul), Delivery::posthog(nul)] {
        delivery.send(&nobody).await.wrong(&[("body", "Must not contain NUL characters")]);
    }
    let good = Delivery::github("issues", "d", "{}");
    good.clone().without("x-github-event").send(&nobody).await.wrong(&[("X-GitHub-Event", "The header is missing")]);
    good.clone().with("x-github-event", "a b").send(&nobody).await.wrong(&[("X-GitHub-Event", "Must be the name of one event")]);
    for delivery in [good, Delivery::sentry("issue", "{}"), Delivery::posthog("{}")] {
        delivery.with("content-type", "text/xml").send(&nobody).await.error(415, "unsupported_media_type");
    }
    assert!(admin.ids("/api/v1/signals").await.is_empty());
    // What was refused is no delivery: the same id is taken in when it is right.
    Delivery::github("issues", "d", "{}").send(&nobody).await.created();
}

#[tokio::test]
async fn a_delivery_has_a_limit() {
    let (app, admin) = TestApp::with_admin().await;
    let body = |bytes: usize| format!("{{\"fill\":\"{}\"}}", "x".repeat(bytes - 11));
    let most = Webhooks::DEFAULT_BODY_LIMIT;
    let created = Delivery::github("push", "most", body(most)).send(&app.nobody()).await.created();
    assert_eq!(created["issue"]["signalPayload"]["fill"].as_str().unwrap().len(), most - 11);
    for delivery in [
        Delivery::github("push", "more", body(most + 1)),
        Delivery::sentry("issue", body(most + 1)),
        Delivery::posthog(body(most + 1)),
        // Whether it is signed is not even looked at.
        Delivery::github("push", "more", body(6 << 20)).without("x-hub-signature-256"),
    ] {
        let error = delivery.send(&app.nobody()).await.error(413, "payload_too_large");
        assert_eq!(error, "The body is larger than 5242880 bytes");
    }
    assert_eq!(admin.ids("/api/v1/signals").await.len(), 1);

    let state = AppState::new(app.db.store().clone(), Webhooks { body_limit: 2048, ..webhooks() }, None);
    let server = Server::start(state, &RouterOptions::default(), ServeOptions::default()).await;
    Delivery::github("push", "a", body(2048)).send(&server.caller(None)).await.created();
    Delivery::github("push", "b", body(2049)).send(&server.caller(None)).await.error(413, "payload_too_large");
}

#[tokio::test]
async fn titles_are_cut_on_a_character_s_border() {
    let (app, _admin) = TestApp::with_admin().await;
    let payload = json!({ "data": { "issue": { "id": "1", "title": "ü".repeat(1000), "level": "error" } } });
    let created = Delivery::sentry("issue", payload.to_string()).send(&app.nobody()).await.created();
    assert_eq!(created["issue"]["title"], format!("Sentry: {}", "ü".repeat(492)));
}
