//! What is around every route: request ids, logs, panics, time limits, CORS.

use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    trace::TraceLayer,
};
use tracing::{Span, field::Empty};

use crate::{
    RouterOptions,
    error::{ApiError, Cause},
    extract::single,
    idempotency, unread,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a request id of a client's may be, to be kept.
const REQUEST_ID_LENGTH: usize = 128;

/// What [`router`](crate::router) puts around its own routes, for others that stand beside them.
pub fn around(routes: Router, options: &RouterOptions) -> Router {
    let limit = options.request_timeout;
    // The last added is the outermost.
    let mut layered = routes
        .layer(middleware::from_fn(move |request: Request, next: Next| deadline(limit, request, next)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(unread::drain));
    if !options.cors_origins.is_empty() {
        layered = layered.layer(cors(&options.cors_origins));
    }
    layered
        .layer(middleware::from_fn(log_cause))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_request(()).on_response(log_response).on_failure(()))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(middleware::from_fn(tame_request_id))
}

/// A client's own request id is kept if it is one word that can stand in a log.
async fn tame_request_id(mut request: Request, next: Next) -> Response {
    let tame =
        |value: &HeaderValue| value.len() <= REQUEST_ID_LENGTH && !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_graphic);
    if !single(request.headers(), REQUEST_ID).is_some_and(tame) {
        request.headers_mut().remove(REQUEST_ID);
    }
    next.run(request).await
}

/// The span of a request. Neither its query string nor its headers are in it: both may hold secrets.
fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str);
    let request_id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    // Of the highest level, so that a line of any level says which request it is about.
    #[cfg(not(feature = "otlp"))]
    return tracing::error_span!("request", method = %request.method(), path = request.uri().path(), route, request_id, status = Empty);
    #[cfg(feature = "otlp")]
    {
        let span = tracing::error_span!(
            "request", method = %request.method(), path = request.uri().path(), route, request_id, status = Empty,
            otel.name = Empty, otel.kind = Empty, otel.status_code = Empty,
        );
        crate::otlp::describe(&span, request);
        span
    }
}

fn log_response(response: &Response, latency: Duration, span: &Span) {
    span.record("status", response.status().as_u16());
    #[cfg(feature = "otlp")]
    crate::otlp::answered(span, response.status().as_u16());
    tracing::info!(status = response.status().as_u16(), latency_ms = latency.as_secs_f64() * 1000.0, "answered");
}

/// Logs what is behind an answer of the 5xx kind, once and whole, since none of it is sent.
async fn log_cause(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(Cause(cause)) = response.extensions().get() {
        let mut chain = cause.to_string();
        let mut source = std::error::Error::source(&**cause);
        while let Some(error) = source {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            source = error.source();
        }
        tracing::error!(error = chain, "a request failed");
    }
    response
}

async fn deadline(limit: Duration, request: Request, next: Next) -> Response {
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| ApiError::deadline().into_response())
}

/// What a panic says is not logged: it may quote what a client sent, as one about a string that was cut in the middle of a character does.
fn panicked(_: Box<dyn Any + Send>) -> Response {
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
