//! What a store tells of its work: to whoever counts it, and to the log.

use std::time::{Duration, Instant};

use tracing::{Span, field::Empty, level_filters::LevelFilter};

use crate::{Error, Ingested};

/// Who is told what a store does, for metrics: see [`LoopStore::observed_by`](crate::LoopStore::observed_by).
///
/// It is called while a caller waits, so it must be quick, and must not wait for anything itself. Names of statements are few and fixed. None of
/// this holds a value that was stored or asked for, except the errors, whose causes may.
pub trait Observer: Send + Sync + 'static {
    /// A statement ended, so long after it was sent. Its name is that of its first line, such as `issues.get`. What several callers ask for together is
    /// told once, to the observer of whoever asked first.
    fn statement(&self, name: &'static str, took: Duration, end: StatementEnd<'_>) {
        let _ = (name, took, end);
    }

    /// A caller, or several who ask together, waited so long for a connection of the pool, and got one or not.
    fn connection(&self, waited: Duration, got: Result<(), &Error>) {
        let _ = (waited, got);
    }

    /// So many signals arrived. Those of a transaction are told when they are taken in, whatever becomes of it.
    fn signals(&self, arrival: Arrival, count: usize) {
        let _ = (arrival, count);
    }
}

/// How a statement ended.
#[derive(Debug, Clone, Copy)]
pub enum StatementEnd<'a> {
    /// It answered so many rows.
    Rows(usize),
    /// It failed.
    Failed(&'a Error),
    /// Its caller went away before it answered.
    Abandoned,
}

/// What a signal was when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arrival {
    /// One of its own.
    New,
    /// A delivery that had arrived before.
    Redelivered,
    /// Another one of what an open issue is about already.
    Deduplicated,
}

/// Tells what became of signals that arrived.
pub(super) fn arrived(observer: Option<&dyn Observer>, signals: &[Ingested]) {
    let Some(observer) = observer else { return };
    let arrival = |signal: &Ingested| match (signal.redelivered, signal.attached) {
        (true, _) => Arrival::Redelivered,
        (false, true) => Arrival::Deduplicated,
        (false, false) => Arrival::New,
    };
    for kind in [Arrival::New, Arrival::Redelivered, Arrival::Deduplicated] {
        let count = signals.iter().filter(|signal| arrival(signal) == kind).count();
        if count > 0 {
            observer.signals(kind, count);
        }
    }
}

/// A statement under way, whose end is told: in a span of its own, in a line of the log, and to the observer.
pub(super) struct Watched<'a> {
    observer: Option<&'a dyn Observer>,
    name: &'static str,
    span: Span,
    /// Where somebody is told how long it took.
    begun: Option<Instant>,
    ended: bool,
}

impl<'a> Watched<'a> {
    /// Begins to watch. `travel` says how it is sent.
    pub(super) fn begin(observer: Option<&'a dyn Observer>, name: &'static str, travel: &'static str) -> Self {
        // The names of the fields are those that OpenTelemetry knows.
        let span = tracing::debug_span!(
            "statement",
            otel.name = name,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = "postgresql",
            travel,
            first_use = Empty,
            rows = Empty
        );
        let begun = (observer.is_some() || !span.is_disabled()).then(Instant::now);
        Self { observer, name, span, begun, ended: false }
    }

    /// What its work belongs to.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    pub(super) fn end(mut self, end: StatementEnd<'_>) {
        self.tell(end);
    }

    fn tell(&mut self, end: StatementEnd<'_>) {
        self.ended = true;
        let Some(begun) = self.begun else { return };
        let took = begun.elapsed();
        if let Some(observer) = self.observer {
            observer.statement(self.name, took, end);
        }
        if self.span.is_disabled() {
            return;
        }
        let elapsed_ms = took.as_secs_f64() * 1000.0;
        self.span.in_scope(|| match end {
            StatementEnd::Rows(rows) => {
                self.span.record("rows", rows);
                tracing::debug!(elapsed_ms, "a statement ran");
            }
            // What is behind it is logged where it is answered, if it has to be.
            StatementEnd::Failed(error) => {
                self.span.record("otel.status_code", "ERROR");
                tracing::debug!(elapsed_ms, %error, "a statement failed");
            }
            StatementEnd::Abandoned => tracing::debug!(elapsed_ms, "nobody waits for a statement any more"),
        });
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(StatementEnd::Abandoned);
        }
    }
}

/// A caller that waits for a connection. How that ended is told, unless the caller goes away.
pub(super) struct Waiting<'a> {
    observer: Option<&'a dyn Observer>,
    /// Where somebody is told how long it took.
    begun: Option<Instant>,
}

impl<'a> Waiting<'a> {
    pub(super) fn begin(observer: Option<&'a dyn Observer>) -> Self {
        // To ask the filters of layers leaves them with an answer that the next span would be taken for (tokio-rs/tracing, issue 2519).
        let is_told = observer.is_some() || LevelFilter::current() >= LevelFilter::DEBUG;
        Self { observer, begun: is_told.then(Instant::now) }
    }

    pub(super) fn end<T>(self, got: &Result<T, Error>) {
        let Some(waited) = self.begun.map(|begun| begun.elapsed()) else { return };
        if let Some(observer) = self.observer {
            observer.connection(waited, got.as_ref().map(drop));
        }
        tracing::debug!(waited_ms = waited.as_secs_f64() * 1000.0, got = got.is_ok(), "waited for a connection");
    }
}
