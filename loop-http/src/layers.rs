//! What is around every route: request ids, logs, metrics, panics, time limits, CORS.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, header};
use loop_core::time_limit::limited;
use tower::ServiceBuilder;
use tower_http::cors::{AllowOrigin, CorsLayer};
#[cfg(feature = "otlp")]
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::{
    RouterOptions,
    error::{ApiError, Cause, Chain},
    extract::single,
    idempotency,
    metrics::Metrics,
    unread,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a request id of a client's may be, to be kept.
const REQUEST_ID_LENGTH: usize = 128;

/// What [`router`](crate::router) puts around its own routes, for others that stand beside them.
pub fn around(routes: Router, options: &RouterOptions) -> Router {
    layered(routes, options, None)
}

/// Puts everything around the routes at once: each layer of a router's own costs every request.
pub(crate) fn layered(routes: Router, options: &RouterOptions, metrics: Option<Arc<Metrics>>) -> Router {
    let limit = options.request_timeout;
    let cors = (!options.cors_origins.is_empty()).then(|| cors(&options.cors_origins));
    let layers = ServiceBuilder::new()
        .layer(middleware::from_fn(move |request, next| observe(metrics.clone(), request, next)))
        // What is refused or cut off is for browsers to read, too.
        .option_layer(cors)
        .layer(middleware::from_fn(move |request, next| protect(limit, request, next)));
    routes.layer(layers)
}

/// Gives a request its id, counts it, and logs how it was answered.
async fn observe(metrics: Option<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let underway = metrics.as_ref().map(|metrics| metrics.begin(&request));
    let id = request_id(&request);
    let span = span(&request, &id);
    let answer = async {
        let mut response = next.run(request).await;
        log_cause(&response);
        log_response(&response, begun.elapsed());
        response.headers_mut().insert(REQUEST_ID, id);
        response
    };
    let response = answer.instrument(span).await;
    if let Some(underway) = underway {
        underway.end(&response);
    }
    response
}

/// Answers in time, whatever happens, and once the client has said all that it has to say.
async fn protect(limit: Duration, request: Request, next: Next) -> Response {
    let answer = async |request| {
        let answer = limited(limit, next.run(request));
        match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(answered) => answered.unwrap_or_else(|| ApiError::deadline().into_response()),
            Err(_) => panicked(),
        }
    };
    unread::drain(request, answer).await
}

/// The id of a request: a client's own is kept if it is one word that can stand in a log.
fn request_id(request: &Request) -> HeaderValue {
    let tame =
        |value: &&HeaderValue| value.len() <= REQUEST_ID_LENGTH && !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_graphic);
    let own = || HeaderValue::from_str(Uuid::new_v4().hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    let given = single(request.headers(), REQUEST_ID).filter(tame).cloned();
    given.or_else(|| own().ok()).unwrap_or_else(|| HeaderValue::from_static("-"))
}

/// The span of a request. Neither its query string nor its headers are in it: both may hold secrets.
fn span(request: &Request, id: &HeaderValue) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str);
    let (method, path, request_id) = (request.method().as_str(), request.uri().path(), id.to_str().unwrap_or_default());
    // Of the highest level, so that a line of any level says which request it is about.
    #[cfg(not(feature = "otlp"))]
    return tracing::error_span!("request", method, path, route, request_id);
    #[cfg(feature = "otlp")]
    {
        let span = tracing::error_span!(
            "request",
            method,
            path,
            route,
            request_id,
            otel.name = Empty,
            otel.kind = Empty,
            otel.status_code = Empty,
        );
        crate::otlp::describe(&span, request);
        span
    }
}

fn log_response(response: &Response, latency: Duration) {
    let status = response.status().as_u16();
    #[cfg(feature = "otlp")]
    crate::otlp::answered(&Span::current(), status);
    // To the microsecond.
    let latency_ms = (latency.as_secs_f64() * 1e6).round() / 1e3;
    tracing::info!(status, latency_ms, "answered");
}

/// Logs what is behind an answer of the 5xx kind, once and whole, since none of it is sent.
fn log_cause(response: &Response) {
    if let Some(Cause(cause)) = response.extensions().get() {
        tracing::error!(error = Chain(&**cause).to_string(), "a request failed");
    }
}

/// Where it was is logged where panics are; what it says is not, for it may quote what a client sent.
fn panicked() -> Response {
    tracing::error!("a handler panicked");
    ApiError::internal().into_response()
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let origin = if origins.iter().any(|origin| origin == "*") { AllowOrigin::any() } else { AllowOrigin::list(origins.iter().cloned()) };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH, idempotency::KEY, REQUEST_ID])
        .expose_headers([header::ETAG, idempotency::REPLAYED, REQUEST_ID, header::RETRY_AFTER])
        .max_age(Duration::from_hours(1))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use http::StatusCode;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_that_tells_nothing() {
        for text in [true, false] {
            let handler = async move || -> StatusCode { if text { panic!("secret {}", 1) } else { std::panic::panic_any(7) } };
            let router = around(Router::new().route("/", get(handler)), &RouterOptions::default());
            let answer = router.oneshot(Request::new(Body::empty())).await.unwrap();
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert!(answer.headers().contains_key(REQUEST_ID));
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, r#"{"error":"Internal server error","code":"internal"}"#);
        }
    }
}
