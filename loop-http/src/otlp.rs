//! Spans of requests and of their statements, to a collector over OTLP: protobuf over HTTP.
//!
//! Nobody waits for the collector. Spans that have ended are queued and sent in batches; where it is away and the queue is full, they are lost.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::extract::{MatchedPath, Request};
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use loop_core::rustls::{ClientConfig, RootCertStore, crypto::ring};
use opentelemetry::{propagation::TextMapPropagator as _, trace::TracerProvider as _};
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use crate::config::Collector;

/// How long the collector may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long the last spans may take at the end.
const LAST: Duration = Duration::from_secs(5);
/// How long an answer of the collector's may be. Nobody reads it.
const ANSWER_LIMIT: usize = 64 << 10;

/// Whether spans are exported, so that nothing is made for nobody.
static EXPORTS: AtomicBool = AtomicBool::new(false);

/// What exports spans.
#[derive(Debug)]
pub(crate) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Begins to export. What is sent is sent on the runtime that this is called on.
    pub(crate) fn begin<S>(collector: &Collector) -> Result<(impl Layer<S> + Send + Sync, Self), String>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(collector).map_err(|error| error.to_string())?)
            .with_endpoint(format!("{}/v1/traces", collector.endpoint.trim_end_matches('/')))
            .with_timeout(ANSWER)
            .build()
            .map_err(|error| error.to_string())?;
        let service = Resource::builder().with_service_name(collector.service_name.clone()).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(service).build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("loop"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(exported));
        EXPORTS.store(true, Ordering::Relaxed);
        Ok((layer, Self(provider)))
    }

    pub(crate) async fn end(self) {
        // It waits on the thread that it is called on.
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(LAST)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("the last spans did not reach the collector");
        }
    }
}

/// Loop's own spans, whatever the level of the log, and what went wrong within them.
fn exported(metadata: &Metadata<'_>) -> bool {
    let level = if metadata.is_span() { Level::DEBUG } else { Level::WARN };
    *metadata.level() <= level && ["loop_core", "loop_http"].iter().any(|target| metadata.target().starts_with(target))
}

/// Puts into the span of a request what OpenTelemetry knows requests by, and makes it part of the trace that its caller began, if it did.
pub(crate) fn describe(span: &Span, request: &Request) {
    if !EXPORTS.load(Ordering::Relaxed) {
        return;
    }
    let caller = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
    // It fails where the span is not exported, and then there is nothing to be part of.
    drop(span.set_parent(caller));
    let method = request.method().as_str();
    span.record("otel.kind", "server");
    span.set_attribute("http.request.method", method.to_owned());
    match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some(route) => {
            span.record("otel.name", format!("{method} {route}"));
            span.set_attribute("http.route", route.to_owned());
        }
        None => {
            span.record("otel.name", method);
        }
    }
}

/// Notes the answer in the span of its request.
pub(crate) fn answered(span: &Span, status: u16) {
    if EXPORTS.load(Ordering::Relaxed) {
        span.set_attribute("http.response.status_code", i64::from(status));
        if status >= 500 {
            span.record("otel.status_code", "error");
        }
    }
}

/// Sends spans with the runtime, for the thread of the exporter's own that is on none.
#[derive(Debug)]
struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    /// Whether the collector was away when it was last asked: that is logged once.
    away: Arc<AtomicBool>,
}

impl Client {
    fn new(collector: &Collector) -> Result<Self, HttpError> {
        let builder = HttpsConnectorBuilder::new();
        let provider = ring::default_provider();
        let builder = if collector.endpoint.starts_with("https:") {
            builder.with_provider_and_native_roots(provider)?
        } else {
            let tls = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?;
            builder.with_tls_config(tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        };
        let connector = builder.https_or_http().enable_http1().build();
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, runtime: Handle::try_current()?, away: Arc::default() })
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'this, 'answer>(&'this self, request: http::Request<Bytes>) -> Answer<'answer>
    where
        'this: 'answer,
        Self: 'answer,
    {
        let (sent, away) = (self.http.request(request.map(Full::new)), Arc::clone(&self.away));
        let answer = async {
            let (head, body) = sent.await?.into_parts();
            Ok::<_, HttpError>(Response::from_parts(head, Limited::new(body, ANSWER_LIMIT).collect().await?.to_bytes()))
        };
        let answering = self.runtime.spawn(async move {
            let answer = tokio::time::timeout(ANSWER, answer).await.map_err(HttpError::from).flatten();
            let reason = match &answer {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(answer.status().to_string()),
                Err(error) => Some(error.to_string()),
            };
            if away.swap(reason.is_some(), Ordering::Relaxed) != reason.is_some() {
                if let Some(reason) = reason {
                    tracing::warn!(reason, "the collector takes no spans");
                } else {
                    tracing::info!("the collector takes spans again");
                }
            }
            answer
        });
        Box::pin(async { answering.await? })
    }
}
