use http::HeaderMap;
use loop_core::{
    DeliveryKey, NewSignal, Severity, Text,
    webhook::{Intake, sentry_signal},
};

use super::{headers, json, signal, wrong_types};

fn of(body: &str) -> NewSignal {
    signal(sentry_signal(&HeaderMap::new(), body.as_bytes()))
}

fn from(resource: &str, body: &str) -> NewSignal {
    signal(sentry_signal(&headers([("sentry-hook-resource", resource)]), body.as_bytes()))
}

/// Title, severity, type and source id.
fn summary(signal: &NewSignal) -> (&str, Severity, &str, Option<&str>) {
    (signal.title.as_str(), signal.severity, signal.kind.as_str(), signal.source_id.as_ref().map(Text::as_str))
}

#[test]
fn severity_by_level_and_count() {
    for (level, count, severity) in [
        ("fatal", "1", Severity::Critical),
        ("fatal", "0", Severity::Critical),
        ("error", "100", Severity::Critical),
        ("error", "\"100\"", Severity::Critical),
        ("error", "5000000000", Severity::Critical),
        ("error", "99", Severity::High),
        ("error", "\"99\"", Severity::High),
        ("error", "1", Severity::High),
        ("ERROR", "1", Severity::High),
        ("warning", "1", Severity::Medium),
        ("warning", "1000", Severity::Medium),
        ("info", "1000", Severity::Low),
        ("debug", "1", Severity::Low),
        ("sample", "1", Severity::Low),
    ] {
        let body = format!(r#"{{"action":"created","data":{{"issue":{{"id":"7","title":"Boom","level":"{level}","count":{count}}}}}}}"#);
        let signal = from("issue", &body);
        let count = count.trim_matches('"');
        assert_eq!(summary(&signal), (format!("Sentry: Boom ({count} events)").as_str(), severity, "issue.created", Some("7")), "{body}");
    }
    assert_eq!(of(r#"{"data":{"issue":{"title":"Boom"}}}"#).severity, Severity::Low, "no level");
}

#[test]
fn each_resource_keeps_its_parts_elsewhere() {
    let alert = r#"{"action":"triggered","data":{"event":{"event_id":"e1","issue_id":"1117540176","title":"Error: x","level":"error","timestamp":1.0,"count":null},"triggered_rule":"r"}}"#;
    assert_eq!(
        summary(&from("event_alert", alert)),
        ("Sentry: Error: x (1 events)", Severity::High, "event_alert.triggered", Some("1117540176"))
    );
    let error = r#"{"action":"created","data":{"error":{"event_id":"e2","issue_id":42,"title":"TypeError","level":"fatal"}}}"#;
    assert_eq!(summary(&from("error", error)), ("Sentry: TypeError (1 events)", Severity::Critical, "error.created", Some("42")));
    let comment = r#"{"action":"created","data":{"comment":"hi","comment_id":"9","issue_id":"8"}}"#;
    assert_eq!(summary(&from("comment", comment)), ("Sentry: unknown (1 events)", Severity::Low, "comment.created", Some("8")));
    let plugin = r#"{"id":"27379932","project":"p","logger":null,"level":"warning","culprit":"raven in main","message":"This is an example","url":"u","triggering_rules":[],"event":{"event_id":"e3","title":"Example","id":"e3"}}"#;
    assert_eq!(summary(&of(plugin)), ("Sentry: Example (1 events)", Severity::Medium, "event", Some("27379932")));
    let plain = r#"{"id":5,"level":"error","message":"just a message","culprit":"c","count":"12"}"#;
    assert_eq!(summary(&of(plain)), ("Sentry: just a message (12 events)", Severity::High, "event", Some("5")));
    assert_eq!(summary(&of("{}")), ("Sentry: unknown (1 events)", Severity::Low, "event", None));
}

#[test]
fn a_metric_alert_speaks_by_its_action() {
    for (action, severity) in
        [("critical", Severity::Critical), ("warning", Severity::Medium), ("resolved", Severity::Low), ("open", Severity::Low)]
    {
        let body = format!(
            r#"{{"action":"{action}","data":{{"metric_alert":{{"id":"4","alert_rule":{{"name":"n"}}}},"description_title":"Too many errors","description_text":"d"}}}}"#
        );
        let kind = format!("metric_alert.{action}");
        assert_eq!(summary(&from("metric_alert", &body)), ("Sentry: Too many errors (1 events)", severity, kind.as_str(), Some("4")));
    }
    let no_alert = r#"{"action":"critical","data":{"issue":{"id":"1"}}}"#;
    assert_eq!(from("issue", no_alert).severity, Severity::Low, "only a metric alert's action is a level");
}

#[test]
fn the_issue_goes_before_the_event() {
    let body = r#"{"data":{"event":{"title":"event","level":"info","count":3,"issue_id":"1"},"issue":{"id":"2","title":"issue","level":"fatal"}}}"#;
    assert_eq!(summary(&of(body)), ("Sentry: issue (3 events)", Severity::Critical, "issue", Some("2")));
}

#[test]
fn the_type_is_inferred_without_the_header() {
    for (part, kind) in [("issue", "issue.x"), ("event", "event_alert.x"), ("error", "error.x"), ("metric_alert", "metric_alert.x")] {
        assert_eq!(of(&format!(r#"{{"action":"x","data":{{"{part}":{{}}}}}}"#)).kind.as_str(), kind);
    }
    assert_eq!(of(r#"{"action":"x"}"#).kind.as_str(), "event.x");
    assert_eq!(from("seer", "{}").kind.as_str(), "seer");
    assert_eq!(from("", "{}").kind.as_str(), "event", "an empty header is none");
    assert_eq!(from("é", r#"{"data":{"error":{}}}"#).kind.as_str(), "error");
}

#[test]
fn wrong_types_cost_a_word_and_never_the_signal() {
    for value in wrong_types() {
        let every = format!(
            r#"{{"title":{value},"message":{value},"culprit":{value},"level":{value},"count":{value},"id":{value},"issue_id":{value}}}"#
        );
        for body in [
            format!(r#"{{"action":{value},"data":{value},"id":{value},"level":{value},"count":{value},"event":{value}}}"#),
            format!(r#"{{"data":{{"issue":{value},"event":{value},"error":{value},"metric_alert":{value},"description_title":{value}}}}}"#),
            format!(
                r#"{{"action":{value},"data":{{"issue":{every},"event":{every},"error":{every},"metric_alert":{every}}},"event":{every}}}"#
            ),
        ] {
            let signal = of(&body);
            assert!(signal.title.as_str().starts_with("Sentry: "), "{body}");
            assert_eq!(signal.severity, Severity::Low, "{body}");
        }
    }
    let body = r#"{"data":{"issue":{"title":["no"],"level":7,"count":"many","id":{}},"event":{"title":"yes","level":"error","count":2}}}"#;
    assert_eq!(summary(&of(body)), ("Sentry: yes (2 events)", Severity::Low, "issue", None), "a level that is a number is still a level");
}

#[test]
fn counts_that_are_none_are_one() {
    for count in ["-1", "1.5", "\"\"", "\"many\"", "null", "[100]", "true", "1e3", "99999999999999999999999"] {
        let body = format!(r#"{{"data":{{"issue":{{"level":"error","count":{count}}}}}}}"#);
        let signal = of(&body);
        assert_eq!((signal.title.as_str(), signal.severity), ("Sentry: unknown (1 events)", Severity::High), "{count}");
    }
}

#[test]
fn long_and_odd_texts_are_cut_and_cleaned() {
    let mut body = json(r#"{"data":{"issue":{}}}"#);
    body["action"] = "ü".repeat(1000).into();
    body["data"]["issue"]["title"] = "😀".repeat(1000).into();
    body["data"]["issue"]["id"] = "9".repeat(1000).into();
    body["data"]["issue"]["level"] = "l".repeat(1000).into();
    let signal = of(&body.to_string());
    assert_eq!(signal.title.as_str().chars().count(), 500);
    assert!(signal.title.as_str().starts_with("Sentry: 😀") && signal.title.as_str().ends_with('😀'));
    assert_eq!(signal.kind.as_str().chars().count(), 200);
    assert_eq!(signal.source_id.map(|id| id.as_str().len()), Some(200));
    assert!(signal.tags.iter().all(|tag| tag.as_str().len() == 200));
    assert_eq!(of(r#"{"message":"\u001b[2J\r\nforged line"}"#).title.as_str(), "Sentry: [2J  forged line (1 events)");
}

#[test]
fn an_installation_is_nothing_to_store() {
    let body = r#"{"action":"created","data":{"installation":{"uuid":"u"}},"installation":{"uuid":"u"}}"#;
    let intake = sentry_signal(&headers([("sentry-hook-resource", "installation")]), body.as_bytes());
    assert!(matches!(intake, Ok(Intake::Ping)));
}

#[test]
fn a_delivery_is_known_by_its_idempotency_key() {
    let key = |pairs: &[(&'static str, &str)]| signal(sentry_signal(&headers(pairs.iter().copied()), b"{}")).delivery;
    let name = ("idempotency-key", "0123456789abcdef0123456789abcdef");
    assert_eq!(key(&[name, ("request-id", "changes")]), Some(DeliveryKey::named(name.1)));
    for none in [&[("request-id", "changes")][..], &[("idempotency-key", "")], &[name, name], &[("idempotency-key", "é")]] {
        assert_eq!(key(none), Some(DeliveryKey::of_body(b"{}")), "{none:?}");
    }
}

#[test]
fn it_is_about_sentry_s_issue_or_alert() {
    let fingerprint = |body: &str| of(body).fingerprint.map(|fingerprint| fingerprint.to_string());
    for (body, expected) in [
        (r#"{"data":{"issue":{"id":"42"}}}"#, Some("issue 42")),
        (r#"{"data":{"event":{"issue_id":"42","event_id":"e"}}}"#, Some("issue 42")),
        (r#"{"data":{"metric_alert":{"id":42}}}"#, Some("metric_alert 42")),
        (r#"{"id":"42","message":"flat"}"#, Some("issue 42")),
        (r#"{"data":{}}"#, None),
    ] {
        assert_eq!(fingerprint(body).as_deref(), expected, "{body}");
    }
}
