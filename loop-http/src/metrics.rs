//! What is counted and measured, for `GET /metrics`. Each state has a registry of its own, so several routers in one process do not mix.
//!
//! No label holds what a client chose: routes are templates, methods those that are known, statements are named in the code.

use std::{
    fmt,
    hash::{Hash, Hasher},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    extract::{MatchedPath, Request},
    response::Response,
};
use http::Method;
use loop_core::{Arrival, Error, Observer, PoolStatus, StatementEnd, webhook::VerifyError};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, prometheus_text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::{config::BearerSecret, error::Code};

/// Who may read `GET /metrics`.
#[derive(Debug, Clone)]
pub enum MetricsAccess {
    /// Anybody who reaches it.
    Anyone,
    /// Whoever has this as a bearer token.
    Bearer(BearerSecret),
}

/// In place of the status of a request whose client went away before there was an answer, as nginx has it.
const CLIENT_GONE: u16 = 499;

const REQUEST_SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const DATABASE_SECONDS: [f64; 14] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];

/// A route by its template; none where a request named no route.
#[derive(Debug, Clone)]
struct Route(Option<MatchedPath>);

impl Route {
    fn as_str(&self) -> &str {
        self.0.as_ref().map_or("unmatched", MatchedPath::as_str)
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Route {}

impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
    route: Route,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    #[prometheus(flatten)]
    asked: Asked,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    route: Route,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    statement: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    statement: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unconnected {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivered {
    provider: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Arrived {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

type Histograms<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// The metrics of one state.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) access: MetricsAccess,
    registry: Registry,
    requests: Family<Answered, Counter>,
    request_seconds: Histograms<Asked>,
    errors: Family<Refused, Counter>,
    in_flight: Gauge,
    statement_seconds: Histograms<Named>,
    statement_failures: Family<Failed, Counter>,
    wait_seconds: Histogram,
    wait_failures: Family<Unconnected, Counter>,
    connections: Family<InState, Gauge>,
    max_connections: Gauge,
    waiting: Gauge,
    deliveries: Family<Delivered, Counter>,
    signals: Family<Arrived, Counter>,
    process: Option<Process>,
}

impl Metrics {
    pub(crate) fn new(access: MetricsAccess) -> Self {
        let mut registry = Registry::default();
        let request_seconds = Family::new_with_constructor((|| Histogram::new(REQUEST_SECONDS)) as fn() -> Histogram);
        let statement_seconds = Family::new_with_constructor((|| Histogram::new(DATABASE_SECONDS)) as fn() -> Histogram);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("loop_build", "The version that runs", build);
        let mut metrics = Self {
            access,
            requests: Family::default(),
            request_seconds,
            errors: Family::default(),
            in_flight: Gauge::default(),
            statement_seconds,
            statement_failures: Family::default(),
            wait_seconds: Histogram::new(DATABASE_SECONDS),
            wait_failures: Family::default(),
            connections: Family::default(),
            max_connections: Gauge::default(),
            waiting: Gauge::default(),
            deliveries: Family::default(),
            signals: Family::default(),
            process: Process::register(&mut registry),
            registry,
        };
        metrics.register();
        // What is rare is there from the beginning, so that its first time shows as an increase.
        for arrival in [Arrival::New, Arrival::Redelivered, Arrival::Deduplicated] {
            metrics.count_signals(arrival, 0);
        }
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("loop_http_requests", "Requests, by route template and status", self.requests.clone());
        registry.register(
            "loop_http_request_duration_seconds",
            "From a request's head to the answer that is ready to be sent",
            self.request_seconds.clone(),
        );
        registry.register("loop_http_errors", "Error answers, by the code in their bodies", self.errors.clone());
        registry.register("loop_http_requests_in_flight", "Requests that are being answered", self.in_flight.clone());
        registry.register("loop_db_statement_duration_seconds", "Statements, by name", self.statement_seconds.clone());
        registry.register("loop_db_statement_failures", "Statements that did not come to their end", self.statement_failures.clone());
        registry.register("loop_db_pool_wait_seconds", "How long callers waited for a connection", self.wait_seconds.clone());
        registry.register("loop_db_pool_failures", "Callers that got no connection", self.wait_failures.clone());
        registry.register("loop_db_pool_connections", "Open connections to the database", self.connections.clone());
        registry.register("loop_db_pool_max_connections", "The most connections there may be", self.max_connections.clone());
        registry.register("loop_db_pool_waiting", "Callers that wait for a connection now", self.waiting.clone());
        registry.register("loop_webhook_deliveries", "Deliveries of webhooks, by whether they were believed", self.deliveries.clone());
        registry.register("loop_signals", "Signals that arrived, by what became of them", self.signals.clone());
    }

    /// Everything, in the text format of Prometheus.
    pub(crate) fn render(&self, pool: PoolStatus) -> Result<String, fmt::Error> {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (state, connections) in [("idle", pool.idle), ("used", pool.size.saturating_sub(pool.idle))] {
            self.connections.get_or_create(&InState { state }).set(count(connections));
        }
        self.max_connections.set(count(pool.max_size));
        self.waiting.set(count(pool.waiting));
        if let Some(process) = &self.process {
            process.look();
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a delivery to a provider's route, by whether it was believed.
    pub(crate) fn count_delivery(&self, provider: &'static str, verified: Result<(), VerifyError>) {
        let result = match verified {
            Ok(()) => "verified",
            Err(VerifyError::MissingSignature) => "missing_signature",
            Err(VerifyError::InvalidSignature) => "invalid_signature",
            Err(VerifyError::MissingSecret) => "missing_secret",
            Err(VerifyError::InvalidSecret) => "invalid_secret",
            Err(VerifyError::TimestampOutOfTolerance) => "stale_timestamp",
        };
        self.deliveries.get_or_create(&Delivered { provider, result }).inc();
    }

    /// Counts a delivery to a provider's route that has no secret.
    pub(crate) fn count_not_configured(&self, provider: &'static str) {
        self.deliveries.get_or_create(&Delivered { provider, result: "not_configured" }).inc();
    }

    fn count_signals(&self, arrival: Arrival, count: u64) {
        let outcome = match arrival {
            Arrival::New => "ingested",
            Arrival::Redelivered => "redelivered",
            Arrival::Deduplicated => "deduplicated",
        };
        self.signals.get_or_create(&Arrived { outcome }).inc_by(count);
    }

    /// Begins to measure a request.
    pub(crate) fn begin(&self, request: &Request) -> Underway<'_> {
        self.in_flight.inc();
        let route = Route(request.extensions().get::<MatchedPath>().cloned());
        Underway { metrics: self, asked: Asked { method: known(request.method()), route }, begun: Instant::now(), answered: None }
    }
}

impl Observer for Metrics {
    fn statement(&self, name: &'static str, took: Duration, end: StatementEnd<'_>) {
        self.statement_seconds.get_or_create(&Named { statement: name }).observe(took.as_secs_f64());
        let kind = match end {
            StatementEnd::Rows(_) => return,
            StatementEnd::Failed(error) => kind(error),
            StatementEnd::Abandoned => "abandoned",
        };
        self.statement_failures.get_or_create(&Failed { statement: name, kind }).inc();
    }

    fn connection(&self, waited: Duration, got: Result<(), &Error>) {
        self.wait_seconds.observe(waited.as_secs_f64());
        if let Err(error) = got {
            self.wait_failures.get_or_create(&Unconnected { kind: kind(error) }).inc();
        }
    }

    fn signals(&self, arrival: Arrival, count: usize) {
        self.count_signals(arrival, count as u64);
    }
}

/// The word for why a statement failed.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Unavailable { .. } if error.is_timeout() => "timeout",
        Error::Unavailable { .. } => "unavailable",
        Error::Configuration { .. } => "configuration",
        Error::Conflict { .. } => "conflict",
        Error::InvalidReference { .. } => "reference",
        Error::Invalid { .. } => "invalid",
        Error::ReadOnly { .. } => "read_only",
        Error::Stale { .. } => "stale",
        Error::NotFound { .. }
        | Error::OutOfScope { .. }
        | Error::MalformedCursor
        | Error::Corrupt { .. }
        | Error::Database { .. }
        | Error::Migration { .. } => "database",
    }
}

/// A method as a label: clients may make up others.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A request that is being answered. It is counted when it is dropped, also where its client went away.
pub(crate) struct Underway<'a> {
    metrics: &'a Metrics,
    asked: Asked,
    begun: Instant,
    answered: Option<(u16, Option<&'static str>)>,
}

impl Underway<'_> {
    /// Counts it as answered.
    pub(crate) fn end(mut self, response: &Response) {
        self.answered = Some((response.status().as_u16(), response.extensions().get::<Code>().map(|code| code.0)));
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let Self { metrics, asked, begun, answered } = self;
        metrics.in_flight.dec();
        metrics.request_seconds.get_or_create(asked).observe(begun.elapsed().as_secs_f64());
        let (status, code) = answered.unwrap_or((CLIENT_GONE, None));
        metrics.requests.get_or_create(&Answered { asked: asked.clone(), status }).inc();
        if let Some(code) = code {
            metrics.errors.get_or_create(&Refused { route: asked.route.clone(), code }).inc();
        }
    }
}

/// What the system says of this process, under the names that all exporters use.
#[derive(Debug)]
struct Process {
    memory: Gauge,
    files: Gauge,
}

impl Process {
    /// Where the system says it in `/proc`.
    fn register(registry: &mut Registry) -> Option<Self> {
        let started: Gauge = Gauge::default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        started.set(i64::try_from(now.as_secs()).unwrap_or_default());
        registry.register("process_start_time_seconds", "When this began, since 1970", started);
        resident_bytes()?;
        let process = Self { memory: Gauge::default(), files: Gauge::default() };
        registry.register("process_resident_memory_bytes", "The memory it occupies", process.memory.clone());
        registry.register("process_open_fds", "The files and connections it holds open", process.files.clone());
        Some(process)
    }

    fn look(&self) {
        if let Some(bytes) = resident_bytes() {
            self.memory.set(bytes);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.files.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
    }
}

fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse::<i64>().ok()?;
    Some(kib << 10)
}
