use http::HeaderMap;

use super::{Intake, IntakeError, Media, UNKNOWN, cut, delivery_key, media, object, tags, token, utf8};
use crate::{Fingerprint, JsonObject, NewSignal, Severity, Title, json::Part};

const EVENT: &str = "X-GitHub-Event";

/// What a delivery of GitHub's becomes, in JSON or in the form encoding.
///
/// `ping` is [`Intake::Ping`]. Any other event is a signal from `github` of the event's name: its title names the event, the repository
/// and the sender, its `source_id` is `{event}.{action}`. The delivery is known by the hook's id and the delivery's, because two hooks
/// may report one event under one delivery id.
///
/// It is about the repository, the event and its subject: the issue, the pull request, the branch, the alert.
///
/// | event | severity |
/// |---|---|
/// | `security_advisory`, `code_scanning_alert` | critical |
/// | `dependabot_alert`, `secret_scanning_alert` | high |
/// | `workflow_run`, `check_run`, `check_suite` with the conclusion `failure`, `timed_out` or `startup_failure` | high |
/// | `pull_request`, `push`, `issue_comment` | low |
/// | `issues` and all others | medium |
///
/// # Errors
///
/// [`IntakeError`] if the body is of another type, not UTF-8 or not a JSON object, if a form lacks the field `payload`, or if
/// `X-GitHub-Event` is absent, given twice or not a name.
pub fn github_signal(headers: &HeaderMap, body: &[u8]) -> Result<Intake, IntakeError> {
    let payload = payload(headers, body)?;
    let event = event(headers)?;
    if event == "ping" {
        return Ok(Intake::Ping);
    }

    let subject = subject(event);
    let (member, field) = subject.unwrap_or_default();
    let [action, repository, sender, about] = Part::of(&payload).fields(["action", "repository", "sender", member]);
    let [name, branch, conclusion] = about.fields([field, "head_branch", "conclusion"]);
    let (action, repository, sender) = (action.text(), repository.field("full_name").text(), sender.field("login").text());
    let severity = severity(event, conclusion.text().as_deref());
    let subject = subject.and_then(|_| if field.is_empty() { about.text() } else { name.text() });
    let branch = branch.text().filter(|_| subject.is_some() && matches!(event, "check_run" | "workflow_run" | "workflow_job"));
    let fingerprint = repository.as_deref().map(|repository| {
        let words = [Some(repository), Some(event), subject.as_deref(), branch.as_deref()];
        Fingerprint::of(&words.into_iter().flatten().collect::<Vec<_>>())
    });

    let [on, by] = [&repository, &sender].map(|text| text.as_deref().unwrap_or(UNKNOWN));
    let title = format!("GitHub: {event} on {on} by {by}");

    Ok(Intake::Signal(Box::new(NewSignal {
        source: cut("source", "github")?,
        source_id: Some(match &action {
            Some(action) => cut("action", &format!("{event}.{action}"))?,
            None => cut(EVENT, event)?,
        }),
        kind: cut(EVENT, event)?,
        severity,
        tags: tags([repository.as_deref(), action.as_deref()])?,
        project_id: None,
        title: Title::cut(&title, "GitHub"),
        delivery: Some(delivery_key(delivery_name(headers).as_deref(), body)),
        fingerprint,
        payload,
    })))
}

fn payload(headers: &HeaderMap, body: &[u8]) -> Result<JsonObject, IntakeError> {
    match media(headers) {
        Some(Media::Json) => object("body", utf8(body)?),
        Some(Media::Form) => {
            // The form's own decoder replaces escapes that are not UTF-8, and what was signed is not to be changed.
            percent_encoding::percent_decode(body).decode_utf8().map_err(|_| IntakeError::NotUtf8)?;
            let mut payloads = form_urlencoded::parse(body).filter(|(name, _)| name == "payload").map(|(_, value)| value);
            match (payloads.next(), payloads.next()) {
                (Some(payload), None) => object("payload", &payload),
                (Some(_), Some(_)) => Err(IntakeError::invalid("payload", "Must be given once")),
                (None, _) => Err(IntakeError::invalid("payload", "The form must have this field")),
            }
        }
        None => Err(IntakeError::UnsupportedContentType { expected: "application/json or application/x-www-form-urlencoded" }),
    }
}

fn event(headers: &HeaderMap) -> Result<&str, IntakeError> {
    if !headers.contains_key(EVENT) {
        return Err(IntakeError::invalid(EVENT, "The header is missing"));
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let event = token(headers, EVENT).filter(|event| event.len() <= 100 && event.bytes().all(name));
    event.ok_or_else(|| IntakeError::invalid(EVENT, "Must be the name of one event"))
}

fn severity(event: &str, conclusion: Option<&str>) -> Severity {
    match event {
        "security_advisory" | "code_scanning_alert" => Severity::Critical,
        "dependabot_alert" | "secret_scanning_alert" => Severity::High,
        "workflow_run" | "check_run" | "check_suite" if matches!(conclusion, Some("failure" | "timed_out" | "startup_failure")) => {
            Severity::High
        }
        "pull_request" | "push" | "issue_comment" => Severity::Low,
        _ => Severity::Medium,
    }
}

/// Where a payload names the one of many things in the repository that an event happened to: which member it is, and which field of it is
/// the name, unless the member is the name itself.
fn subject(event: &str) -> Option<(&str, &'static str)> {
    Some(match event {
        "issues" | "issue_comment" => ("issue", "number"),
        "push" | "create" | "delete" => ("ref", ""),
        "release" => ("release", "tag_name"),
        "security_advisory" => ("security_advisory", "ghsa_id"),
        "check_run" | "workflow_run" | "workflow_job" => (event, "name"),
        "check_suite" => (event, "head_branch"),
        _ if event.starts_with("pull_request") => ("pull_request", "number"),
        _ if event.starts_with("discussion") => ("discussion", "number"),
        _ if event.ends_with("_alert") => ("alert", "number"),
        _ => return None,
    })
}

/// Hook id and delivery id; without a delivery id a delivery has no name.
fn delivery_name(headers: &HeaderMap) -> Option<String> {
    let delivery = token(headers, "x-github-delivery")?;
    // An id is a number, so that the hyphen and the slash cannot be part of it.
    let hook = token(headers, "x-github-hook-id").filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
    Some(format!("{}/{delivery}", hook.unwrap_or("-")))
}
