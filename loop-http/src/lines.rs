//! Lines of the log, as text or as JSON.
//!
//! The formats of `tracing-subscriber` take a third of what a small request takes altogether, and half with JSON: they write each value by way
//! of [`core::fmt`] several times, and for JSON they write what is known of a span, read it, and write it again with every line. Lines look the same
//! here, but for this: times are to the millisecond, as everywhere in Loop; an error is followed by what is behind it; and no text can end a line.

use std::{
    cell::Cell,
    error::Error,
    fmt::{self, Debug, Write},
    mem,
};

use loop_core::Timestamp;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::{LookupSpan, Scope, SpanRef},
};

use crate::error::Chain;

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// The time, the level, the spans with what is known of them, where it comes from, and what it says.
    Text,
    /// An object with all of that.
    Json,
}

impl<'w> FormatFields<'w> for Lines {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        at_once(&mut writer, |text| self.fields(text, true, fields))
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &tracing::span::Record<'_>) -> fmt::Result {
        let is_first = current.is_empty();
        self.fields(&mut current.fields, is_first, fields)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, Self> for Lines {
    fn format_event(&self, ctx: &FmtContext<'_, S, Self>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        at_once(&mut writer, |text| {
            match self {
                Self::Text => self.text(text, ctx, event)?,
                Self::Json => self.json(text, ctx, event)?,
            }
            text.write_char('\n')
        })
    }
}

/// Has something written to a string that is kept for that, and then to the writer, which would grow for each part.
fn at_once(writer: &mut Writer<'_>, write: impl FnOnce(&mut String) -> fmt::Result) -> fmt::Result {
    thread_local! {
        static KEPT: Cell<String> = const { Cell::new(String::new()) };
    }
    // What is written may itself write to the log, which finds an empty string then.
    let mut text = KEPT.take();
    text.clear();
    let written = write(&mut text).and_then(|()| writer.write_str(&text));
    KEPT.set(text);
    written
}

impl Lines {
    const fn separator(self) -> char {
        match self {
            Self::Text => ' ',
            Self::Json => ',',
        }
    }

    /// Writes fields, the first of them or behind others.
    fn fields(self, text: &mut String, is_first: bool, fields: impl RecordFields) -> fmt::Result {
        let mut written = Fields { lines: self, text, is_first, result: Ok(()) };
        fields.record(&mut written);
        written.result
    }

    fn text<S: Subscriber + for<'a> LookupSpan<'a>>(
        self,
        text: &mut String,
        ctx: &FmtContext<'_, S, Self>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = name(*metadata.level());
        write!(text, "{}", Timestamp::now())?;
        text.push_str(if level.len() < 5 { "  " } else { " " });
        text.push_str(level);
        text.push(' ');
        let before = text.len();
        for span in ctx.event_scope().into_iter().flat_map(Scope::from_root) {
            text.push_str(span.name());
            if let Some(fields) = span.extensions().get::<FormattedFields<Self>>().filter(|fields| !fields.is_empty()) {
                text.extend(["{", fields, "}"]);
            }
            text.push(':');
        }
        if text.len() > before {
            text.push(' ');
        }
        text.extend([metadata.target(), ": "]);
        self.fields(text, true, event)
    }

    fn json<S: Subscriber + for<'a> LookupSpan<'a>>(
        self,
        text: &mut String,
        ctx: &FmtContext<'_, S, Self>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        write!(text, "{{\"timestamp\":\"{}\",\"level\":\"{}\",", Timestamp::now(), name(*metadata.level()))?;
        let before = text.len();
        self.fields(text, true, event)?;
        text.push_str(if text.len() > before { ",\"target\":" } else { "\"target\":" });
        self.quote(text, metadata.target())?;
        if let Some(current) = ctx.parent_span() {
            text.push_str(",\"span\":");
            object(text, &current)?;
            text.push_str(",\"spans\":");
            let mut opening = '[';
            for span in ctx.event_scope().into_iter().flat_map(Scope::from_root) {
                text.push(opening);
                object(text, &span)?;
                opening = ',';
            }
            text.push(']');
        }
        text.push('}');
        Ok(())
    }

    /// Writes a text in quotes: as a string of JSON, or as [`Debug`] does.
    fn quote(self, text: &mut String, value: &str) -> fmt::Result {
        let is_plain = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        match self {
            _ if value.bytes().all(is_plain) => text.extend(["\"", value, "\""]),
            Self::Text => write!(text, "{value:?}")?,
            Self::Json => text.push_str(&serde_json::to_string(value).map_err(|_| fmt::Error)?),
        }
        Ok(())
    }
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// Writes a span as an object of JSON.
fn object<S: for<'a> LookupSpan<'a>>(text: &mut String, span: &SpanRef<'_, S>) -> fmt::Result {
    text.push('{');
    if let Some(fields) = span.extensions().get::<FormattedFields<Lines>>().filter(|fields| !fields.is_empty()) {
        text.extend([fields, ","]);
    }
    text.push_str("\"name\":");
    Lines::Json.quote(text, span.name())?;
    text.push('}');
    Ok(())
}

/// Writes fields one after the other. A span's that is recorded again is there again, and of an object of JSON the last one counts.
struct Fields<'t> {
    lines: Lines,
    text: &'t mut String,
    is_first: bool,
    result: fmt::Result,
}

/// The field that is what an event says. In text it stands without its name.
const MESSAGE: &str = "message";

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut String) -> fmt::Result) {
        if self.result.is_err() {
            return;
        }
        if !mem::take(&mut self.is_first) {
            self.text.push(self.lines.separator());
        }
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        match self.lines {
            Lines::Text if name == MESSAGE => {}
            Lines::Text => self.text.extend([name, "="]),
            Lines::Json => {
                self.result = self.lines.quote(self.text, name);
                self.text.push(':');
            }
        }
        self.result = self.result.and_then(|()| value(self.text));
    }

    fn push(&mut self, field: &Field, value: &str) {
        self.write(field, |text| {
            text.push_str(value);
            Ok(())
        });
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let lines = self.lines;
        self.write(field, |text| match lines {
            Lines::Text if field.name() == MESSAGE => Tame(text).write_str(value),
            _ => lines.quote(text, value),
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, if value { "true" } else { "false" });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let is_json = self.lines == Lines::Json;
        self.write(field, |text| if is_json && !value.is_finite() { text.write_str("null") } else { write!(text, "{value:?}") });
    }

    /// With what is behind it.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let lines = self.lines;
        self.write(field, |text| match lines {
            Lines::Text => write!(Tame(text), "{value:?}"),
            Lines::Json => lines.quote(text, &format!("{value:?}")),
        });
    }
}

/// Takes what may be of somebody else's making without its control characters, which could end a line, or move about in a terminal.
struct Tame<'t>(&'t mut String);

impl Write for Tame<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(char::is_control) {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            if character.is_control() { self.0.extend(character.escape_debug()) } else { self.0.push(character) }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::{Registry, fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Log {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }
    }

    /// What is logged meanwhile, as these lines and, for text, as those of `tracing-subscriber`.
    fn logged(lines: Lines, work: impl FnOnce()) -> (String, String) {
        let (ours, theirs) = (Log::default(), Log::default());
        let subscriber = Registry::default()
            .with(tracing_subscriber::fmt::layer().with_writer(ours.clone()).fmt_fields(lines).event_format(lines))
            .with(tracing_subscriber::fmt::layer().with_writer(theirs.clone()).with_ansi(false));
        tracing::subscriber::with_default(subscriber, work);
        (ours.take(), theirs.take())
    }

    /// A line without its time.
    fn timeless(line: &str) -> &str {
        let (time, rest) = line.split_once(' ').unwrap();
        time.parse::<Timestamp>().unwrap();
        rest
    }

    fn day(text: &str) {
        let span = tracing::error_span!("request", path = "/a", later = tracing::field::Empty, r#type = 7u8);
        span.in_scope(|| {
            tracing::warn!(text, number = -3, share = 0.25, is = true, "said");
            span.record("later", None::<u64>);
            span.record("later", text);
            let inner = tracing::info_span!("inner");
            inner.in_scope(|| tracing::error!(debug = ?Some(text), "{text}"));
        });
        tracing::info!(parent: &span, text = %text);
        span.in_scope(|| tracing::trace!(parent: None, "alone"));
        tracing::debug!(cause = &io::Error::other("broken") as &dyn Error);
    }

    proptest! {
        #[test]
        fn text_is_what_others_write(text in "[ -~äöü€😀]*") {
            let (ours, theirs) = logged(Lines::Text, || day(&text));
            // They leave room for a field that is recorded without a value.
            let theirs = theirs.replace("type=7  later", "type=7 later");
            let lines: Vec<_> = ours.lines().map(timeless).collect();
            prop_assert_eq!(lines, theirs.lines().map(timeless).collect::<Vec<_>>());
        }

        #[test]
        fn each_line_of_json_is_an_object_with_all_that_is_known(text in any::<String>()) {
            let (ours, _) = logged(Lines::Json, || day(&text));
            let mut lines: Vec<Value> = ours.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(lines.len(), 5);
            for line in &mut lines {
                let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
                time.as_str().unwrap().parse::<Timestamp>().unwrap();
                prop_assert_eq!(line.as_object_mut().unwrap().remove("target").unwrap(), json!(module_path!()));
            }
            let (before, request) = (json!({ "path": "/a", "type": 7, "name": "request" }), json!({ "path": "/a", "type": 7, "later": text, "name": "request" }));
            prop_assert_eq!(&lines[0], &json!({
                "level": "WARN", "message": "said", "text": text, "number": -3, "share": 0.25, "is": true, "span": before, "spans": [before],
            }));
            let debug = format!("{:?}", Some(&text));
            prop_assert_eq!(&lines[1], &json!({
                "level": "ERROR", "message": text, "debug": debug, "span": { "name": "inner" }, "spans": [request, { "name": "inner" }],
            }));
            prop_assert_eq!(&lines[2], &json!({ "level": "INFO", "text": text, "span": request, "spans": [request] }));
            prop_assert_eq!(&lines[3], &json!({ "level": "TRACE", "message": "alone" }));
            prop_assert_eq!(&lines[4], &json!({ "level": "DEBUG", "cause": "broken" }));
        }

        #[test]
        fn no_text_of_somebody_else_s_ends_a_line_or_steers_a_terminal(text in any::<String>()) {
            for lines in [Lines::Text, Lines::Json] {
                let (ours, _) = logged(lines, || day(&text));
                prop_assert_eq!(ours.matches('\n').count(), 5);
                // JSON may have the controls beyond ASCII as they are.
                let may_be = |character: char| !character.is_control() || character == '\n' || (lines == Lines::Json && character >= '\u{7f}');
                prop_assert!(ours.chars().all(may_be), "{:?}", ours);
            }
        }
    }

    #[test]
    fn numbers_that_json_does_not_have_are_null() {
        let (ours, _) = logged(Lines::Json, || tracing::info!(share = f64::NAN, most = f64::INFINITY, large = 1e300));
        let line: Value = serde_json::from_str(&ours).unwrap();
        assert_eq!((&line["share"], &line["most"], &line["large"]), (&Value::Null, &Value::Null, &json!(1e300)));
    }

    #[test]
    fn what_is_logged_while_a_line_is_written_has_a_line_of_its_own() {
        struct Talkative;
        impl fmt::Display for Talkative {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                tracing::info!("inner");
                f.write_str("outer")
            }
        }
        let (ours, _) = logged(Lines::Text, || tracing::info!(text = %Talkative));
        assert!(ours.lines().any(|line| line.ends_with("text=outer")), "{ours}");
    }
}
