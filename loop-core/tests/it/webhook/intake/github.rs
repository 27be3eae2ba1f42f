use http::HeaderMap;
use loop_core::{
    DeliveryKey, NewSignal, Severity, Text,
    webhook::{Intake, IntakeError, github_signal},
};
use serde_json::json;

use super::{headers, signal, wrong_types};

fn event(name: &str) -> HeaderMap {
    headers([("x-github-event", name), ("content-type", "application/json")])
}

fn of(name: &str, body: &str) -> NewSignal {
    signal(github_signal(&event(name), body.as_bytes()))
}

const OPENED: &str = r#"{"action":"opened","repository":{"full_name":"octo/cat"},"sender":{"login":"mona"}}"#;

#[test]
fn severity_by_event() {
    for (name, severity) in [
        ("security_advisory", Severity::Critical),
        ("code_scanning_alert", Severity::Critical),
        ("dependabot_alert", Severity::High),
        ("secret_scanning_alert", Severity::High),
        ("issues", Severity::Medium),
        ("pull_request", Severity::Low),
        ("push", Severity::Low),
        ("issue_comment", Severity::Low),
        ("release", Severity::Medium),
        ("workflow_run", Severity::Medium),
        ("check_run", Severity::Medium),
        ("check_suite", Severity::Medium),
        ("something_new", Severity::Medium),
    ] {
        let signal = of(name, OPENED);
        assert_eq!(signal.severity, severity, "{name}");
        assert_eq!(signal.kind.as_str(), name);
        assert_eq!(signal.title.as_str(), format!("GitHub: {name} on octo/cat by mona"));
        assert_eq!(signal.source_id.as_ref().map(Text::as_str), Some(format!("{name}.opened").as_str()));
    }
}

#[test]
fn a_run_that_failed_is_high() {
    for name in ["workflow_run", "check_run", "check_suite"] {
        for (conclusion, severity) in [
            ("\"failure\"", Severity::High),
            ("\"timed_out\"", Severity::High),
            ("\"startup_failure\"", Severity::High),
            ("\"success\"", Severity::Medium),
            ("\"cancelled\"", Severity::Medium),
            ("\"skipped\"", Severity::Medium),
            ("\"neutral\"", Severity::Medium),
            ("\"action_required\"", Severity::Medium),
            ("null", Severity::Medium),
            ("[\"failure\"]", Severity::Medium),
        ] {
            let body = format!(r#"{{"action":"completed","{name}":{{"id":1,"conclusion":{conclusion}}}}}"#);
            assert_eq!(of(name, &body).severity, severity, "{name} {conclusion}");
        }
        let elsewhere = r#"{"conclusion":"failure","workflow_job":{"conclusion":"failure"},"push":{"conclusion":"failure"}}"#;
        assert_eq!(of(name, elsewhere).severity, Severity::Medium, "{name}");
        assert_eq!(of("push", elsewhere).severity, Severity::Low);
    }
}

#[test]
fn unknown_parts_of_the_title_say_so() {
    for (body, title) in [
        ("{}", "GitHub: push on unknown by unknown"),
        (r#"{"repository":{"full_name":"octo/cat"}}"#, "GitHub: push on octo/cat by unknown"),
        (r#"{"sender":{"login":"mona"}}"#, "GitHub: push on unknown by mona"),
        (r#"{"repository":{"name":"cat"},"sender":{"id":1}}"#, "GitHub: push on unknown by unknown"),
        (r#"{"repository":null,"sender":{"login":""}}"#, "GitHub: push on unknown by unknown"),
    ] {
        let signal = of("push", body);
        assert_eq!(signal.title.as_str(), title);
        assert_eq!(signal.source_id.as_ref().map(Text::as_str), Some("push"));
    }
}

#[test]
fn wrong_types_cost_a_word_and_never_the_signal() {
    for value in wrong_types() {
        for body in [
            format!(r#"{{"action":{value},"repository":{value},"sender":{value},"check_run":{value}}}"#),
            format!(
                r#"{{"action":{value},"repository":{{"full_name":{value}}},"sender":{{"login":{value}}},"check_run":{{"conclusion":{value}}}}}"#
            ),
        ] {
            let signal = of("check_run", &body);
            assert_eq!(signal.severity, Severity::Medium, "{body}");
            assert!(signal.title.as_str().starts_with("GitHub: check_run on "), "{body}");
        }
    }
}

#[test]
fn of_repeated_members_the_last_counts() {
    let body = r#"{"action":"a","action":"b","sender":{"login":"x"},"sender":{"login":"y","login":"z"}}"#;
    let signal = of("issues", body);
    assert_eq!(signal.title.as_str(), "GitHub: issues on unknown by z");
    assert_eq!(signal.source_id.as_ref().map(Text::as_str), Some("issues.b"));
}

#[test]
fn escaped_names_and_texts_are_read() {
    let body = r#"{"\u0061ction":"op\u0065ned","sender":{"lo\u0067in":"m\u00f6na \ud83d\ude00"}}"#;
    let signal = of("issues", body);
    assert_eq!(signal.title.as_str(), "GitHub: issues on unknown by möna 😀");
    assert_eq!(signal.source_id.as_ref().map(Text::as_str), Some("issues.opened"));
}

#[test]
fn long_and_odd_texts_are_cut_and_cleaned() {
    let body = json!({
        "action": "a".repeat(5000),
        "repository": {"full_name": "☃".repeat(5000)},
        "sender": {"login": "line\none\u{1b}[31m"},
    });
    let signal = of("issues", &body.to_string());
    assert_eq!(signal.title.as_str().chars().count(), 500);
    assert!(signal.title.as_str().ends_with('☃'));
    assert_eq!(signal.source_id.map(|id| id.as_str().len()), Some(200));
    assert!(signal.tags.iter().all(|tag| tag.as_str().chars().count() <= 200));
    let body = json!({"repository": {"full_name": "r"}, "sender": {"login": " line\none\u{1b}[31m\t"}});
    assert_eq!(of("issues", &body.to_string()).title.as_str(), "GitHub: issues on r by line one [31m");
}

#[test]
fn a_form_is_the_same_as_json() {
    let form = headers([("x-github-event", "issues"), ("content-type", "application/x-www-form-urlencoded; charset=utf-8")]);
    let payload = r#"{"action":"opened","sender":{"login":"Café ☃ +&="}}"#;
    let body = format!("a=1&payload={}&b=2", form_urlencoded::byte_serialize(payload.as_bytes()).collect::<String>());
    let signal = signal(github_signal(&form, body.as_bytes()));
    assert_eq!(signal.payload.as_str(), payload);
    assert_eq!(signal.title.as_str(), "GitHub: issues on unknown by Café ☃ +&=");
    assert_eq!(signal.delivery, Some(DeliveryKey::of_body(body.as_bytes())), "the body on the wire is what was signed");

    let official = "payload=%7B%22zen%22%3A%22Caf%C3%A9+%E2%98%83%22%2C%22hook_id%22%3A1%7D";
    let zen = super::signal(github_signal(&form, official.as_bytes()));
    assert_eq!(zen.payload.as_str(), "{\"zen\":\"Café ☃\",\"hook_id\":1}");
}

#[test]
fn a_form_that_is_none_is_refused() {
    let form = headers([("x-github-event", "issues"), ("content-type", "application/x-www-form-urlencoded")]);
    for body in ["", "{}", "payloads=%7B%7D", "=%7B%7D"] {
        let error = github_signal(&form, body.as_bytes()).err();
        assert!(matches!(error, Some(IntakeError::Invalid { field: "payload", .. })), "{body}: {error:?}");
    }
    for body in ["payload", "payload=", "payload=%7B", "payload=%"] {
        let error = github_signal(&form, body.as_bytes()).err();
        assert!(matches!(error, Some(IntakeError::NotJson { .. })), "{body}: {error:?}");
    }
    for body in ["payload=%FF", "payload=%7B%22a%22%3A%22%FF%22%7D"] {
        assert!(matches!(github_signal(&form, body.as_bytes()), Err(IntakeError::NotUtf8)), "{body}");
    }
    for body in ["payload=[]", "payload=%7B%22a%22%3A%22%5Cu0000%22%7D", "payload=%7B%7D&payload=%7B%7D"] {
        let error = github_signal(&form, body.as_bytes()).err();
        assert!(matches!(error, Some(IntakeError::Invalid { field: "payload", .. })), "{body}: {error:?}");
    }
    assert_eq!(github_signal(&form, b"payload=\xff").err(), Some(IntakeError::NotUtf8));
}

#[test]
fn a_ping_is_nothing_to_store() {
    let body = r#"{"zen":"Keep it logically awesome.","hook_id":1,"hook":{"type":"Repository"}}"#;
    assert!(matches!(github_signal(&event("ping"), body.as_bytes()), Ok(Intake::Ping)));
    assert!(matches!(github_signal(&event("ping"), b"nonsense"), Err(IntakeError::NotJson { .. })));
}

#[test]
fn the_event_must_be_named_once() {
    let error = |headers: &HeaderMap| github_signal(headers, OPENED.as_bytes()).err();
    let missing = error(&HeaderMap::new());
    assert_eq!(missing.map(|error| error.to_string()).as_deref(), Some("X-GitHub-Event: The header is missing"));
    let long = "e".repeat(101);
    for name in ["", " ", "two words", "é", "a/b", "a\tb", "<script>", &long] {
        let error = error(&event(name));
        assert!(matches!(error, Some(IntakeError::Invalid { field: "X-GitHub-Event", .. })), "{name:?}: {error:?}");
    }
    let twice = headers([("x-github-event", "push"), ("x-github-event", "push")]);
    assert!(matches!(error(&twice), Some(IntakeError::Invalid { field: "X-GitHub-Event", .. })));
}

#[test]
fn a_delivery_is_known_by_hook_and_delivery_id() {
    let key = |pairs: &[(&'static str, &str)]| {
        let pairs = pairs.iter().copied().chain([("x-github-event", "push")]);
        signal(github_signal(&headers(pairs), b"{}")).delivery
    };
    let (hook, delivery) = (("x-github-hook-id", "292430182"), ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"));
    let named = |name| Some(DeliveryKey::named(name));
    assert_eq!(key(&[hook, delivery]), named("292430182/72d3162e-cc78-11e3-81ab-4c9367dc0958"));
    assert_eq!(key(&[delivery]), named("-/72d3162e-cc78-11e3-81ab-4c9367dc0958"));
    assert_eq!(key(&[("x-github-hook-id", "1/2"), delivery]), named("-/72d3162e-cc78-11e3-81ab-4c9367dc0958"));
    assert_ne!(key(&[hook, delivery]), key(&[("x-github-hook-id", "1"), delivery]));
    for none in [&[hook][..], &[], &[hook, ("x-github-delivery", "")], &[hook, ("x-github-delivery", "é")], &[hook, delivery, delivery]] {
        assert_eq!(key(none), Some(DeliveryKey::of_body(b"{}")), "{none:?}");
    }
}

#[test]
fn repository_and_action_are_tags() {
    let tags: Vec<_> = of("issues", OPENED).tags.iter().map(|tag| tag.as_str().to_owned()).collect();
    assert_eq!(tags, ["octo/cat", "opened"]);
    assert!(of("issues", "{}").tags.is_empty());
}

#[test]
fn it_is_about_its_subject_in_the_repository() {
    let fingerprint = |event: &str, rest: &str| {
        let signal = of(event, &format!(r#"{{"repository":{{"full_name":"octo/cat"}}{rest}}}"#));
        signal.fingerprint.map(|fingerprint| fingerprint.to_string())
    };
    for (event, rest, subject) in [
        ("issues", r#","issue":{"number":7}"#, " 7"),
        ("issue_comment", r#","issue":{"number":7},"comment":{"id":1}"#, " 7"),
        ("pull_request", r#","pull_request":{"number":8}"#, " 8"),
        ("pull_request_review", r#","pull_request":{"number":8},"review":{"id":1}"#, " 8"),
        ("push", r#","ref":"refs/heads/main""#, " refs/heads/main"),
        ("workflow_run", r#","workflow_run":{"name":"CI","head_branch":"main","id":1}"#, " CI main"),
        ("check_run", r#","check_run":{"name":"lint"}"#, " lint"),
        ("check_suite", r#","check_suite":{"head_branch":"main"}"#, " main"),
        ("dependabot_alert", r#","alert":{"number":9}"#, " 9"),
        ("code_scanning_alert", r#","alert":{"number":9}"#, " 9"),
        ("security_advisory", r#","security_advisory":{"ghsa_id":"GHSA-1"}"#, " GHSA-1"),
        ("release", r#","release":{"tag_name":"v1"}"#, " v1"),
        ("discussion", r#","discussion":{"number":3}"#, " 3"),
        // Without one it is about the repository.
        ("star", "", ""),
        ("issues", r#","issue":{"number":[]}"#, ""),
    ] {
        assert_eq!(fingerprint(event, rest), Some(format!("octo/cat {event}{subject}")), "{event}");
    }
    let long = "x".repeat(300);
    let of_long = fingerprint("push", &format!(r#","ref":"{long}""#)).unwrap();
    assert!(of_long.starts_with("sha256:") && of_long.len() == 71);
    // Events of an organisation are about nothing that is known here.
    assert_eq!(of("membership", "{}").fingerprint, None);
}
