use http::HeaderMap;

use super::{Intake, IntakeError, UNKNOWN, cut, delivery_key, json_body, tags, token};
use crate::{Fingerprint, NewSignal, Severity, Title, json::Part};

/// What a delivery of Sentry's becomes.
///
/// The announcement of an installation is [`Intake::Ping`]. Everything else is a signal from `sentry`, of the type `{resource}.{action}`,
/// such as `issue.created`; its `source_id` is the id of the Sentry issue. Title, level, number of events and id are looked for where the
/// different resources keep them: in `data.issue`, `data.event`, `data.error`, `data.metric_alert`, in `data` itself, and in the flat
/// body of the older plugin. The delivery is known by its `Idempotency-Key`, else by its body: a `Request-ID` changes at each attempt.
///
/// | level | severity |
/// |---|---|
/// | `fatal`, or `error` with 100 events or more | critical |
/// | `error` | high |
/// | `warning` | medium |
/// | any other, or none | low |
///
/// A metric alert has no level; one that turns `critical` counts as `fatal`, one that turns `warning` as `warning`.
///
/// # Errors
///
/// [`IntakeError`] if the body is of another type than JSON, not UTF-8 or not a JSON object.
pub fn sentry_signal(headers: &HeaderMap, body: &[u8]) -> Result<Intake, IntakeError> {
    let payload = json_body(headers, body)?;
    let resource = token(headers, "sentry-hook-resource");
    if resource == Some("installation") {
        return Ok(Intake::Ping);
    }

    let root = Place::read(Part::of(&payload));
    let data = Place::read(root.data);
    let (issue, event, error, metric_alert) = (data.issue, data.event, data.error, data.metric_alert);
    let action = root.action.text();

    let [issue_place, alert_place] = [issue, metric_alert].map(Place::read);
    let (root_id, issue_id, alert_id) = (root.id, issue_place.id, alert_place.id.text());
    let plugin_event = Place::read(root.event);
    let places = [issue_place, Place::read(event), Place::read(error), alert_place, data, root, plugin_event];
    let text = |read: fn(&Place<'_>) -> Option<String>| places.iter().find_map(read);
    let title = text(|place| place.title.text()).or_else(|| text(|place| place.description_title.text()));
    let title = title.or_else(|| text(|place| place.message.text())).or_else(|| text(|place| place.culprit.text()));
    let count = places.iter().find_map(|place| place.count.count()).unwrap_or(1);
    let level = text(|place| place.level.text()).map(|level| level.to_ascii_lowercase());
    let level = level.or_else(|| alert_level(metric_alert, action.as_deref()));
    let issue_id = issue_id.text().or_else(|| text(|place| place.issue_id.text()));
    // Only the plugin's flat body has the issue's id at the top.
    let issue_id = issue_id.or_else(|| root_id.text().filter(|_| alert_id.is_none()));
    // Issues and alerts are numbered apart.
    let fingerprint = match (&issue_id, &alert_id) {
        (Some(id), _) => Some(Fingerprint::of(&["issue", id])),
        (None, Some(id)) => Some(Fingerprint::of(&["metric_alert", id])),
        (None, None) => None,
    };
    let id = issue_id.or(alert_id);

    let inferred = [(issue, "issue"), (event, "event_alert"), (error, "error"), (metric_alert, "metric_alert")];
    let inferred = inferred.into_iter().find(|(part, _)| part.is_object()).map_or("event", |(_, resource)| resource);
    let resource = resource.unwrap_or(inferred);
    let kind = action.map_or_else(|| resource.to_owned(), |action| format!("{resource}.{action}"));

    Ok(Intake::Signal(Box::new(NewSignal {
        source: cut("source", "sentry")?,
        source_id: id.as_deref().map(|id| cut("id", id)).transpose()?,
        kind: cut("action", &kind)?,
        severity: severity(level.as_deref(), count),
        tags: tags([level.as_deref()])?,
        project_id: None,
        title: Title::cut(&format!("Sentry: {} ({count} events)", title.as_deref().unwrap_or(UNKNOWN)), "Sentry"),
        delivery: Some(delivery_key(token(headers, "idempotency-key"), body)),
        fingerprint,
        payload,
    })))
}

fn severity(level: Option<&str>, count: u64) -> Severity {
    match level {
        Some("fatal") => Severity::Critical,
        Some("error") if count >= 100 => Severity::Critical,
        Some("error") => Severity::High,
        Some("warning") => Severity::Medium,
        _ => Severity::Low,
    }
}

/// The action of a metric alert is the state it turned to.
fn alert_level(metric_alert: Part<'_>, action: Option<&str>) -> Option<String> {
    match action.filter(|_| metric_alert.is_object())? {
        "critical" => Some("fatal".to_owned()),
        "warning" => Some("warning".to_owned()),
        _ => None,
    }
}

/// What a resource may say of an event or an issue, and where: read all at once, so that nothing is read twice.
struct Place<'a> {
    title: Part<'a>,
    description_title: Part<'a>,
    message: Part<'a>,
    culprit: Part<'a>,
    level: Part<'a>,
    count: Part<'a>,
    issue_id: Part<'a>,
    id: Part<'a>,
    action: Part<'a>,
    data: Part<'a>,
    issue: Part<'a>,
    event: Part<'a>,
    error: Part<'a>,
    metric_alert: Part<'a>,
}

impl<'a> Place<'a> {
    fn read(part: Part<'a>) -> Self {
        let [title, description_title, message, culprit, level, count, issue_id, id, action, data, issue, event, error, metric_alert] =
            part.fields([
                "title",
                "description_title",
                "message",
                "culprit",
                "level",
                "count",
                "issue_id",
                "id",
                "action",
                "data",
                "issue",
                "event",
                "error",
                "metric_alert",
            ]);
        Self { title, description_title, message, culprit, level, count, issue_id, id, action, data, issue, event, error, metric_alert }
    }
}
