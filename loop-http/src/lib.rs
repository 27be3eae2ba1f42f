//! Loop's HTTP API, as an axum router that any host can mount.
//!
//! [`router`] is the whole API over a store; [`serve`] serves it on hyper with the limits a server on the open network needs.
//! The binary of this package is both, configured from the environment ([`config`]).
#![deny(missing_docs)]

mod auth;
pub mod config;
mod connections;
mod error;
mod extract;
mod fields;
mod idempotency;
mod json;
mod layers;
mod limits;
mod lines;
mod logs;
mod metrics;
mod openapi;
#[cfg(feature = "otlp")]
mod otlp;
mod query;
mod revision;
mod routes;
mod serve;
mod state;
mod unread;

use axum::Router;

pub use config::Config;
pub use error::{ApiError, Details};
pub use layers::around;
pub use limits::LimitOptions;
pub use logs::Logs;
pub use metrics::MetricsAccess;
pub use serve::{ServeOptions, serve};
pub use state::{AppState, Webhooks};

/// The whole API: every route, its errors as JSON, request ids, logs.
///
/// It can be served by itself, nested below any path, or merged into a router that has no fallback of its own. Requests that name no route of
/// it answer 404 in JSON.
pub fn router(state: AppState, options: &RouterOptions) -> Router {
    let metrics = state.metrics().cloned();
    let routes = routes::all(&state)
        .fallback(async || ApiError::no_route())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(state);
    layers::layered(routes, options, metrics)
}

/// What is put around the routes.
#[derive(Debug, Clone)]
pub struct RouterOptions {
    /// The origins whose pages may call the API from a browser; `*` for any. None without.
    pub cors_origins: Vec<http::HeaderValue>,
    /// How long a request may take before it is answered with 503.
    pub request_timeout: std::time::Duration,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self { cors_origins: Vec::new(), request_timeout: std::time::Duration::from_secs(30) }
    }
}
