use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{header, request::Parts};
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

use crate::{
    auth::{bearer, client_address},
    error::ApiError,
    metrics::MetricsAccess,
    state::AppState,
};

pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(state): State<AppState>, parts: Parts) -> Result<Response, ApiError> {
    let metrics = state.metrics().ok_or_else(ApiError::no_route)?;
    if let MetricsAccess::Bearer(secret) = &metrics.access {
        let token = bearer(&parts.headers).ok_or_else(|| ApiError::bearer_required("Missing or malformed Authorization header"))?;
        if !secret.is(token) {
            state.limits().failed_authentication(client_address(&parts, &state), None)?;
            return Err(ApiError::bearer_required("Invalid metrics token"));
        }
    }
    let text = metrics.render(state.store().pool_status()).map_err(|_| ApiError::internal())?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
