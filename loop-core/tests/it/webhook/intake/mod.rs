//! What each provider's deliveries become, and what of them is refused.

mod github;
mod posthog;
mod sentry;

use http::HeaderMap;
use loop_core::{
    DeliveryKey, NewSignal, Severity,
    webhook::{Intake, IntakeError, github_signal, posthog_signal, sentry_signal},
};
use serde_json::Value;

use super::headers;

type Signals = fn(&HeaderMap, &[u8]) -> Result<Intake, IntakeError>;

type Headers = &'static [(&'static str, &'static str)];

/// Every provider, and the headers it cannot do without.
const PROVIDERS: [(&str, Signals, Headers); 3] =
    [("github", github_signal, &[("x-github-event", "issues")]), ("sentry", sentry_signal, &[]), ("posthog", posthog_signal, &[])];

fn signal(intake: Result<Intake, IntakeError>) -> NewSignal {
    intake.expect("a delivery that is taken in").into_signal().expect("a signal")
}

/// Runs `check` for every provider with its needed headers and `more`.
fn with_each(more: &[(&'static str, &str)], check: impl Fn(&str, Result<Intake, IntakeError>), body: &[u8]) {
    for (name, signals, needed) in PROVIDERS {
        check(name, signals(&headers(needed.iter().chain(more).copied()), body));
    }
}

/// Every value a part may have by mistake or by malice.
fn wrong_types() -> [&'static str; 10] {
    ["null", "true", "[]", "{}", "[[{}]]", "{\"a\":[1]}", "\"\"", "\" \"", "-1.5e300", "123456789012345678901234567890"]
}

#[test]
fn the_payload_is_kept_as_it_came() {
    let body = "{ \"b\":1.10,  \"a\" : \"\\u00e9 é\", \"b\":1e2 }";
    with_each(&[], |name, intake| assert_eq!(signal(intake).payload.as_str(), body, "{name}"), format!(" {body}\n").as_bytes());
}

#[test]
fn the_signal_names_its_provider_and_belongs_to_no_project() {
    with_each(
        &[],
        |name, intake| {
            let signal = signal(intake);
            assert_eq!(signal.source.as_str(), name);
            assert_eq!(signal.project_id, None);
        },
        b"{}",
    );
}

#[test]
fn a_body_that_is_not_json_in_utf8_is_refused() {
    let not_utf8: [&[u8]; 3] = [b"\xff\xfe", b"{\"a\":\"\xe9\"}", b"{\"a\":\"\xf0\x9f\x98\"}"];
    for body in not_utf8 {
        with_each(&[], |name, intake| assert_eq!(intake.err(), Some(IntakeError::NotUtf8), "{name}"), body);
    }
    for body in
        ["", " ", "{", "{\"a\":}", "{}{}", "{} x", "{'a':1}", "nope", "\u{feff}{}", "{\"a\":\"\\ud800\"}", "{\"a\":01}", "{\"a\":NaN}"]
    {
        let check = |name: &str, intake: Result<Intake, _>| {
            assert!(matches!(intake, Err(IntakeError::NotJson { .. })), "{name}: {body:?} gives {:?}", intake.err());
        };
        with_each(&[], check, body.as_bytes());
    }
}

#[test]
fn the_reason_does_not_repeat_the_body() {
    let check = |name: &str, intake: Result<Intake, IntakeError>| {
        let error = intake.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("the body is not JSON: ") && !error.contains("hush"), "{name}: {error}");
    };
    with_each(&[], check, b"{\"a\":\"hush\" hush}");
}

#[test]
fn json_that_is_no_object_is_refused() {
    for body in ["[]", "null", "1", "\"text\"", "true", "[{}]"] {
        let check = |name: &str, intake: Result<Intake, _>| {
            assert!(matches!(intake, Err(IntakeError::Invalid { field: "body", .. })), "{name}: {body} gives {:?}", intake.err());
        };
        with_each(&[], check, body.as_bytes());
    }
}

#[test]
fn nul_characters_are_refused_wherever_they_are() {
    for body in [r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"{"a":[{"b":"x\u0000y"}]}"#] {
        let check = |name: &str, intake: Result<Intake, IntakeError>| {
            let error = intake.err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), Some("body: Must not contain NUL characters"), "{name}: {body}");
        };
        with_each(&[], check, body.as_bytes());
    }
}

#[test]
fn deep_nesting_is_refused_without_harm() {
    let nested = |depth: usize, open: &str, close: &str| format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        with_each(&[], |name, intake| assert!(intake.is_ok(), "{name}"), nested(126, open, close).as_bytes());
        for depth in [127, 128, 100_000] {
            let check = |name: &str, intake: Result<Intake, _>| {
                assert!(matches!(intake, Err(IntakeError::NotJson { .. })), "{name}: {depth} deep");
            };
            with_each(&[], check, nested(depth, open, close).as_bytes());
        }
        let unclosed = format!("{{\"data\":{}", open.repeat(1_000_000));
        with_each(&[], |name, intake| assert!(matches!(intake, Err(IntakeError::NotJson { .. })), "{name}"), unclosed.as_bytes());
    }
}

#[test]
fn content_types_that_mean_json_are_accepted() {
    for media in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;a=b",
        "application/cloudevents+json",
        " application/json ",
    ] {
        with_each(&[("content-type", media)], |name, intake| assert!(intake.is_ok(), "{name}: {media}"), b"{}");
    }
    with_each(&[], |name, intake| assert!(intake.is_ok(), "{name} without a type"), b"{}");
}

#[test]
fn other_content_types_are_refused() {
    for media in
        ["text/plain", "text/json", "application/xml", "application/jsonx", "", "json", "+json", "multipart/form-data", "é", "x/y+json"]
    {
        let check = |name: &str, intake: Result<Intake, _>| {
            assert!(matches!(intake, Err(IntakeError::UnsupportedContentType { .. })), "{name}: {media:?}");
        };
        with_each(&[("content-type", media)], check, b"{}");
    }
    let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
    with_each(&twice, |name, intake| assert!(intake.is_err(), "{name}"), b"{}");
    let form = headers([("content-type", "application/x-www-form-urlencoded")]);
    for signals in [sentry_signal, posthog_signal] {
        let error = signals(&form, b"payload=%7B%7D").err();
        assert_eq!(error, Some(IntakeError::UnsupportedContentType { expected: "application/json" }));
    }
}

#[test]
fn without_a_name_a_delivery_is_known_by_its_body() {
    for body in [b"{}".as_slice(), b"{ }"] {
        with_each(&[], |name, intake| assert_eq!(signal(intake).delivery, Some(DeliveryKey::of_body(body)), "{name}"), body);
    }
}

#[test]
fn severities_are_priorities() {
    // What the tables call by a word is the issue's priority of the same word.
    for severity in Severity::ALL {
        assert_eq!(loop_core::IssuePriority::from(*severity).as_str(), severity.as_str());
    }
}

/// The value in JSON, for building bodies.
fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}
