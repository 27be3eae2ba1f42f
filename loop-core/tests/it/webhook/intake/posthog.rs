use http::HeaderMap;
use loop_core::{DeliveryKey, NewSignal, Severity, Text, webhook::posthog_signal};

use super::{headers, json, signal, wrong_types};

fn of(body: &str) -> NewSignal {
    signal(posthog_signal(&HeaderMap::new(), body.as_bytes()))
}

#[test]
fn severity_by_change_in_either_direction() {
    for (change, printed, severity) in [
        ("50", "50", Severity::Critical),
        ("-50", "-50", Severity::Critical),
        ("1e3", "1000", Severity::Critical),
        ("49.99", "49.99", Severity::High),
        ("-30", "-30", Severity::High),
        ("25.0", "25", Severity::High),
        ("24.9", "24.9", Severity::Medium),
        ("-10", "-10", Severity::Medium),
        ("9.999", "9.999", Severity::Low),
        ("0", "0", Severity::Low),
        ("-0.0", "0", Severity::Low),
        ("\"-30%\"", "-30", Severity::High),
        ("\"+12.5 %\"", "12.5", Severity::Medium),
        ("\" 50 \"", "50", Severity::Critical),
        ("\"1e2\"", "100", Severity::Critical),
    ] {
        let signal = of(&format!(r#"{{"metric":"signups","change":{change},"timeframe":"7d"}}"#));
        assert_eq!((signal.title.as_str(), signal.severity), (format!("PostHog: signups {printed}% (7d)").as_str(), severity), "{change}");
        assert_eq!(signal.kind.as_str(), "metric_change");
        assert_eq!(signal.source_id, None);
    }
}

#[test]
fn a_change_that_cannot_be_read_is_low() {
    for change in
        ["null", "\"\"", "\"NaN\"", "\"inf\"", "\"-Infinity%\"", "\"lots\"", "\"50%%\"", "\"fifty\"", "[50]", "{\"value\":50}", "true"]
    {
        let signal = of(&format!(r#"{{"metric":"signups","change":{change}}}"#));
        assert_eq!((signal.title.as_str(), signal.severity), ("PostHog: signups unknown% (unknown)", Severity::Low), "{change}");
    }
    assert_eq!(of("{}").title.as_str(), "PostHog: unknown unknown% (unknown)");
    let signal = of(r#"{"change":"1e999","percent_change":60}"#);
    assert_eq!(signal.severity, Severity::Critical, "what cannot be read does not hide what can");
}

#[test]
fn parts_are_found_by_several_names_in_several_places() {
    let places =
        ["@", r#"{"event":{"properties":@}}"#, r#"{"event":@}"#, r#"{"properties":@}"#, r#"{"data":{"properties":@}}"#, r#"{"data":@}"#];
    let changes = [
        "change",
        "change_percent",
        "changePercent",
        "change_percentage",
        "changePercentage",
        "percent_change",
        "percentChange",
        "percentage_change",
        "percentageChange",
    ];
    for place in places {
        for change in changes {
            let body = place.replace('@', &format!(r#"{{"metric":"m","{change}":-25,"timeframe":"t"}}"#));
            assert_eq!(of(&body).title.as_str(), "PostHog: m -25% (t)", "{body}");
        }
        for metric in ["metric", "metric_name", "metricName"] {
            for timeframe in ["timeframe", "time_frame", "timeFrame", "period"] {
                let body = place.replace('@', &format!(r#"{{"{metric}":"m","change":1,"{timeframe}":24}}"#));
                assert_eq!(of(&body).title.as_str(), "PostHog: m 1% (24)", "{body}");
            }
        }
    }
    let nested = r#"{"metric":"top","event":{"properties":{"metric":"deep","change":11}},"data":{"change":99}}"#;
    assert_eq!(of(nested).title.as_str(), "PostHog: top 11% (unknown)");
}

#[test]
fn the_usual_payload_is_an_event() {
    let body = r#"{"event":{"uuid":"0190-a","event":"checkout dropped","distinct_id":"d","properties":{"change":-51.5,"period":"1 hour"},"timestamp":"t"},"person":{"id":"p"}}"#;
    let signal = of(body);
    assert_eq!(signal.title.as_str(), "PostHog: checkout dropped -51.5% (1 hour)");
    assert_eq!(signal.kind.as_str(), "checkout dropped");
    assert_eq!(signal.severity, Severity::Critical);
    assert_eq!(signal.source_id.as_ref().map(Text::as_str), Some("0190-a"));
    assert_eq!(signal.delivery, Some(DeliveryKey::named("0190-a")));

    let hook = of(r#"{"hook":{"id":"h"},"data":{"eventUuid":"0190-b","event":"$pageview","properties":{"metric":"views"}}}"#);
    assert_eq!(hook.title.as_str(), "PostHog: views unknown% (unknown)");
    assert_eq!((hook.kind.as_str(), hook.source_id.as_ref().map(Text::as_str)), ("$pageview", Some("0190-b")));

    let flat = of(r#"{"event":"signup","uuid":"0190-c"}"#);
    assert_eq!((flat.kind.as_str(), flat.source_id.as_ref().map(Text::as_str)), ("signup", Some("0190-c")));
    assert_eq!(flat.title.as_str(), "PostHog: signup unknown% (unknown)");
}

#[test]
fn posthog_s_own_alerts_name_what_they_are_about() {
    let event =
        of(r#"{"event":{"uuid":"0190-d","event":"$insight_alert_firing","properties":{"alert_name":"Few","insight_name":"Sign-ups"}}}"#);
    assert_eq!(event.title.as_str(), "PostHog: Sign-ups unknown% (unknown)");
    assert_eq!(event.kind.as_str(), "$insight_alert_firing");
    let alertmanager =
        of(r#"{"version":"4","status":"firing","commonLabels":{"alertname":"Few sign-ups"},"alerts":[{"status":"firing"}]}"#);
    assert_eq!(alertmanager.title.as_str(), "PostHog: Few sign-ups unknown% (unknown)");
}

#[test]
fn wrong_types_cost_a_word_and_never_the_signal() {
    for value in wrong_types() {
        for body in [
            format!(r#"{{"metric":{value},"timeframe":{value},"event":{value},"properties":{value},"data":{value},"uuid":{value}}}"#),
            format!(
                r#"{{"event":{{"event":{value},"uuid":{value},"properties":{value}}},"data":{{"event":{value},"properties":{value}}}}}"#
            ),
        ] {
            let signal = of(&body);
            assert!(signal.title.as_str().starts_with("PostHog: "), "{body}");
            assert_eq!(signal.severity, Severity::Low, "{body}");
        }
    }
}

#[test]
fn long_and_odd_texts_are_cut_and_cleaned() {
    let mut body = json(r#"{"event":{},"change":10}"#);
    body["event"]["event"] = "Ω".repeat(3000).into();
    body["event"]["uuid"] = "u".repeat(3000).into();
    body["timeframe"] = "a\u{7f}b\nc".into();
    let signal = of(&body.to_string());
    assert_eq!(signal.title.as_str().chars().count(), 500);
    assert!(signal.title.as_str().ends_with('Ω'));
    assert_eq!(signal.kind.as_str().chars().count(), 200);
    assert_eq!(signal.source_id.map(|id| id.as_str().len()), Some(200));
    assert_eq!(of(r#"{"timeframe":"a\u007fb\nc"}"#).title.as_str(), "PostHog: unknown unknown% (a b c)");
    assert_eq!(of(r#"{"change":1e300}"#).title.as_str().chars().count(), "PostHog: unknown % (unknown)".len() + 301);
}

#[test]
fn a_delivery_is_known_by_the_id_it_is_signed_with() {
    let body = br#"{"event":{"uuid":"0190-a"}}"#;
    let key = |pairs: &[(&'static str, &str)]| signal(posthog_signal(&headers(pairs.iter().copied()), body)).delivery;
    assert_eq!(key(&[("webhook-id", "msg_1")]), Some(DeliveryKey::named("msg_1")));
    assert_eq!(key(&[("svix-id", "msg_2")]), Some(DeliveryKey::named("msg_2")));
    assert_eq!(key(&[]), Some(DeliveryKey::named("0190-a")));
    assert_eq!(key(&[("webhook-id", "")]), Some(DeliveryKey::named("0190-a")));
    assert_eq!(key(&[("webhook-id", "msg_1"), ("webhook-id", "msg_1"), ("svix-id", "msg_2")]), Some(DeliveryKey::named("0190-a")));
    assert_eq!(of(r#"{"event":{"uuid":""}}"#).delivery, Some(DeliveryKey::of_body(br#"{"event":{"uuid":""}}"#)));
}

#[test]
fn metric_and_timeframe_are_tags() {
    let tags: Vec<_> = of(r#"{"metric":"m","timeframe":"7d"}"#).tags.iter().map(|tag| tag.as_str().to_owned()).collect();
    assert_eq!(tags, ["m", "7d"]);
}

#[test]
fn it_is_about_its_metric() {
    let fingerprint = |body: &str| of(body).fingerprint.map(|fingerprint| fingerprint.to_string());
    assert_eq!(fingerprint(r#"{"metric":"signups","change":5}"#).as_deref(), Some("signups"));
    assert_eq!(fingerprint(r#"{"event":{"event":"$pageview"}}"#).as_deref(), Some("$pageview"));
    assert_eq!(fingerprint("{}"), None);
}
