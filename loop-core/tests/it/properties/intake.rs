//! Payloads: whatever arrives is refused or becomes a signal that can be stored and shown.

use http::{HeaderMap, HeaderValue};
use loop_core::{
    InvalidJson, JsonObject, NewSignal, Severity, Title, check_syntax,
    test_util::arbitrary::{check, header_value, json, near_json},
    webhook::{Intake, IntakeError, github_signal, posthog_signal, sentry_signal},
};
use proptest::{collection::vec, prelude::*};

use super::check_store;
use crate::support::valid;

/// What the three intakes look for.
const NAMES: &[&str] = &[
    "action",
    "repository",
    "full_name",
    "sender",
    "login",
    "workflow_run",
    "conclusion",
    "name",
    "head_branch",
    "issue",
    "number",
    "ref",
    "pull_request",
    "alert",
    "data",
    "event",
    "error",
    "metric_alert",
    "title",
    "description_title",
    "message",
    "culprit",
    "level",
    "count",
    "issue_id",
    "id",
    "properties",
    "commonLabels",
    "eventUuid",
    "uuid",
    "metric",
    "change",
    "changePercent",
    "timeframe",
    "insight_name",
];

type Read = fn(&HeaderMap, &[u8]) -> Result<Intake, IntakeError>;
const INTAKES: [Read; 3] = [github_signal, sentry_signal, posthog_signal];

fn headers() -> impl Strategy<Value = HeaderMap> {
    let names = vec![
        "content-type",
        "x-github-event",
        "x-github-delivery",
        "x-github-hook-id",
        "sentry-hook-resource",
        "idempotency-key",
        "webhook-id",
    ];
    let value = prop_oneof![
        2 => header_value(0..300),
        4 => proptest::sample::select(&["application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded",
                                        "workflow_run", "issues", "push", "installation", "issue"][..]).prop_map(HeaderValue::from_static),
    ];
    vec((proptest::sample::select(names), value), 0..5).prop_map(|pairs| {
        let mut headers = HeaderMap::new();
        // Most deliveries are not refused for their event's name.
        headers.insert("x-github-event", HeaderValue::from_static("workflow_run"));
        for (name, value) in pairs {
            headers.insert(name, value);
        }
        headers
    })
}

/// What holds of every signal, whatever it was made of.
fn assert_storable(signal: &NewSignal) {
    let title = signal.title.as_str();
    let chars = |text: &str| text.chars().count();
    assert!((1..=Title::MAX_CHARS).contains(&chars(title)), "{title:?}");
    assert!(!title.chars().any(char::is_control), "{title:?}");
    let source_id = signal.source_id.as_ref().map_or("", |id| id.as_str());
    assert!(chars(source_id) <= 200 && chars(signal.kind.as_str()) <= 200, "{source_id:?}");
    if let Some(fingerprint) = signal.fingerprint.as_ref().map(ToString::to_string) {
        assert!((1..=200).contains(&chars(&fingerprint)), "{fingerprint:?}");
    }
    let texts = [title, source_id, signal.kind.as_str()].into_iter().chain(signal.tags.iter().map(loop_core::Text::as_str));
    assert!(!texts.into_iter().any(|text| text.contains('\0')));
}

#[test]
fn whatever_arrives_is_refused_or_storable() {
    let form = |bytes: Vec<u8>| [b"payload=".as_slice(), &bytes].concat();
    let bodies = prop_oneof![4 => near_json(NAMES), 1 => near_json(NAMES).prop_map(form)];
    check(3000, &(headers(), bodies), |(headers, body)| {
        for intake in INTAKES {
            if let Some(signal) = intake(&headers, &body).ok().and_then(Intake::into_signal) {
                assert_storable(&signal);
            }
        }
    });
}

#[test]
fn json_is_checked_as_its_reader_reads_it() {
    check(3000, &near_json(NAMES), |bytes| {
        let Ok(text) = std::str::from_utf8(&bytes) else { return };
        let read = serde_json::from_str::<serde_json::Value>(text);
        match text.parse::<JsonObject>() {
            Ok(object) => {
                check_syntax(text).unwrap();
                assert_eq!(object.as_str(), text.trim_matches([' ', '\t', '\r', '\n']));
                let signal = NewSignal::new(valid("s"), valid("t"), Severity::Low, object);
                assert_storable(&signal);
                // A tree of values cannot hold the largest numbers, but everything else.
                if let Ok(read) = read {
                    let mut words = [&read["message"], &read["title"]].into_iter().filter_map(serde_json::Value::as_str);
                    let message = words.find(|text| !text.is_empty()).unwrap_or("t");
                    let title = format!("[s] t: {message}").replace(char::is_control, " ");
                    assert_eq!(signal.title.as_str(), title.chars().take(Title::MAX_CHARS).collect::<String>());
                }
            }
            Err(InvalidJson::Syntax(_)) => assert!(check_syntax(text).is_err() && read.is_err(), "{text}"),
            Err(InvalidJson::NotAnObject) => assert!(!text.trim_start().starts_with('{'), "{text}"),
            Err(_) => check_syntax(text).unwrap(),
        }
    });
}

/// What is accepted is stored, and comes back without having grown by more than it may.
#[test]
fn what_is_accepted_is_stored() {
    check_store(150, &vec((headers(), json(NAMES)), 1..8), async |store, deliveries| {
        let mut signals = Vec::new();
        for (headers, body) in &deliveries {
            let body = format!("{{\"data\": {body}, \"repository\": {{\"full_name\": {body}}}, \"metric\": {body}}}");
            signals.extend(INTAKES.iter().filter_map(|intake| intake(headers, body.as_bytes()).ok()?.into_signal()));
            if let Ok(payload) = body.parse() {
                signals.push(NewSignal::new(valid("s"), valid("t"), Severity::Low, payload));
            }
        }
        let sent: Vec<_> = signals.iter().map(|signal| signal.payload.as_str().len()).collect();
        for (done, sent) in store.signals().ingest_batch(signals).await.unwrap().iter().zip(sent) {
            let stored = store.signals().get(&done.signal.id).await.unwrap();
            assert_eq!((&stored.fingerprint, &stored.source_id), (&done.signal.fingerprint, &done.signal.source_id));
            // Twice as much for white space, the rest for numbers.
            let length = stored.metadata.raw_payload.as_str().len();
            assert!(length <= 2 * sent + (64 << 10), "{sent} became {length}");
            store.issues().detail(&done.issue.id).await.unwrap();
        }
    });
}
