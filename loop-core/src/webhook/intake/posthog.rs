use http::HeaderMap;

use super::{Intake, IntakeError, UNKNOWN, cut, delivery_key, json_body, part::Part, tags};
use crate::{NewSignal, Severity, Title, webhook::standard};

/// What a payload may call the metric, the change in percent and the time it took; the first that is found counts.
const METRIC: [&str; 3] = ["metric", "metric_name", "metricName"];
const CHANGE: [&str; 9] = [
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
const TIMEFRAME: [&str; 4] = ["timeframe", "time_frame", "timeFrame", "period"];

/// What a delivery of PostHog's becomes.
///
/// A PostHog payload has the shape its author gave it. Metric, change and timeframe are looked for, in this order, at the top, in
/// `event.properties`, `event`, `properties`, `data.properties` and `data`:
///
/// - the metric as `metric`, `metric_name` or `metricName`, else the event's name;
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
    let root = Part::of(&payload);
    let [event, properties, data] = root.fields(["event", "properties", "data"]);
    let places = [root, event.field("properties"), event, properties, data.field("properties"), data];

    let name = event.text().or_else(|| event.field("event").text()).or_else(|| data.field("event").text());
    let metric = first(&places, METRIC, Part::text).or_else(|| name.clone());
    let change = first(&places, CHANGE, Part::number);
    let timeframe = first(&places, TIMEFRAME, Part::text);
    let uuid = first(&[event, data, root], ["uuid", "eventUuid"], Part::text);

    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    let title = format!("PostHog: {} {}% ({})", known(&metric), known(&change.map(|change| change.to_string())), known(&timeframe));

    Ok(Intake::Signal(Box::new(NewSignal {
        source: cut("source", "posthog")?,
        source_id: uuid.as_deref().map(|uuid| cut("uuid", uuid)).transpose()?,
        kind: cut("event", name.as_deref().unwrap_or("metric_change"))?,
        severity: severity(change),
        tags: tags([metric.as_deref(), timeframe.as_deref()])?,
        project_id: None,
        title: Title::cut(&title, "PostHog"),
        delivery: Some(delivery_key(standard::delivery_id(headers).or(uuid.as_deref()), body)),
        payload,
    })))
}

/// The first of these names that can be read, place by place.
fn first<'a, T, const N: usize>(places: &[Part<'a>], names: [&str; N], read: impl Fn(Part<'a>) -> Option<T>) -> Option<T> {
    places.iter().flat_map(|place| place.fields(names)).find_map(read)
}

fn severity(change: Option<f64>) -> Severity {
    match change.map(f64::abs) {
        Some(50.0..) => Severity::Critical,
        Some(25.0..) => Severity::High,
        Some(10.0..) => Severity::Medium,
        _ => Severity::Low,
    }
}
