use std::{borrow::Borrow, ops::Range};

use http::HeaderMap;

use super::{Intake, IntakeError, UNKNOWN, cut, delivery_key, json_body, tags};
use crate::{Fingerprint, NewSignal, Severity, Title, json::Part, webhook::standard};

/// What a payload may call the metric, the change in percent and the timeframe, of each the first that is found counts; and where these may
/// be, so that nothing is read twice.
const NAMES: [&str; 25] = [
    "metric",
    "metric_name",
    "metricName",
    "insight_name",
    "alert_name",
    "alertname",
    "change",
    "change_percent",
    "changePercent",
    "change_percentage",
    "changePercentage",
    "percent_change",
    "percentChange",
    "percentage_change",
    "percentageChange",
    "timeframe",
    "time_frame",
    "timeFrame",
    "period",
    "event",
    "properties",
    "data",
    "commonLabels",
    "eventUuid",
    "uuid",
];
const METRIC: Range<usize> = 0..6;
const CHANGE: Range<usize> = 6..15;
const TIMEFRAME: Range<usize> = 15..19;

/// What a delivery of PostHog's becomes.
///
/// A PostHog payload has the shape its author gave it. Metric, change and timeframe are looked for, in this order, at the top, in
/// `event.properties`, `event`, `properties`, `data.properties`, `data` and `commonLabels`:
///
/// - the metric as `metric`, `metric_name` or `metricName`, in PostHog's own alerts as `insight_name`, `alert_name` or `alertname`, else the
///   event's name;
/// - the change as `change`, or as `change` or `percent` and `change`, `percent` or `percentage` joined in snake case or camel case; a
///   number, or a string that spells one, with or without `%`; in percent already;
/// - the timeframe as `timeframe`, `time_frame`, `timeFrame` or `period`.
///
/// The signal comes from `posthog`; its type is the event's name, else `metric_change`; its `source_id` is the event's uuid. The delivery
/// is known by the id it is signed with, else by that uuid, else by its body.
///
/// | change in either direction | severity |
/// |---|---|
/// | 50 % and more | critical |
/// | 25 % and more | high |
/// | 10 % and more | medium |
/// | less, or none that can be read | low |
///
/// # Errors
///
/// [`IntakeError`] if the body is of another type than JSON, not UTF-8 or not a JSON object.
pub fn posthog_signal(headers: &HeaderMap, body: &[u8]) -> Result<Intake, IntakeError> {
    let payload = json_body(headers, body)?;
    let root = Part::of(&payload).fields(NAMES);
    let [.., event, properties, data, labels, uuid, bare_uuid] = root;
    let [event_parts, properties, data_parts, labels] = [event, properties, data, labels].map(|place| place.fields(NAMES));
    let [.., event_name, event_properties, _, _, _, event_uuid] = event_parts;
    let [.., data_name, data_properties, _, _, data_uuid, data_bare_uuid] = data_parts;
    let [event_properties, data_properties] = [event_properties, data_properties].map(|place| place.fields(NAMES));

    let places = [root, event_properties, event_parts, properties, data_properties, data_parts, labels];
    let name = first([event, event_name, data_name], Part::text);
    let metric = first(places.iter().flat_map(|parts| &parts[METRIC]), Part::text).or_else(|| name.clone());
    let change = first(places.iter().flat_map(|parts| &parts[CHANGE]), Part::number);
    let timeframe = first(places.iter().flat_map(|parts| &parts[TIMEFRAME]), Part::text);
    let uuid = first([event_uuid, data_uuid, data_bare_uuid, uuid, bare_uuid], Part::text);

    let [of, within] = [&metric, &timeframe].map(|text| text.as_deref().unwrap_or(UNKNOWN));
    let percent = change.map_or_else(|| UNKNOWN.to_owned(), |change| change.to_string());
    let title = format!("PostHog: {of} {percent}% ({within})");

    Ok(Intake::Signal(Box::new(NewSignal {
        source: cut("source", "posthog")?,
        source_id: uuid.as_deref().map(|uuid| cut("uuid", uuid)).transpose()?,
        kind: cut("event", name.as_deref().unwrap_or("metric_change"))?,
        severity: severity(change),
        tags: tags([metric.as_deref(), timeframe.as_deref()])?,
        project_id: None,
        title: Title::cut(&title, "PostHog"),
        delivery: Some(delivery_key(standard::delivery_id(headers).or(uuid.as_deref()), body)),
        fingerprint: metric.as_deref().map(|metric| Fingerprint::of(&[metric])),
        payload,
    })))
}

/// The first of these parts that can be read.
fn first<'a, T>(parts: impl IntoIterator<Item = impl Borrow<Part<'a>>>, read: fn(Part<'a>) -> Option<T>) -> Option<T> {
    parts.into_iter().find_map(|part| read(*part.borrow()))
}

fn severity(change: Option<f64>) -> Severity {
    match change.map(f64::abs) {
        Some(50.0..) => Severity::Critical,
        Some(25.0..) => Severity::High,
        Some(10.0..) => Severity::Medium,
        _ => Severity::Low,
    }
}
