use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header, request::Parts};
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use utoipa::openapi::{Object, Type};

use crate::{
    auth::{bearer, client_address},
    error::ApiError,
    metrics::MetricsAccess,
    openapi::{Described, OperationDoc, Routes},
    state::AppState,
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Service").get("/metrics", "getMetrics", "Get what was counted, in Prometheus' text format", metrics).also(|operation| {
        operation.security("metricsToken");
        operation.errors([StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS]);
    })
}

/// What was counted.
struct Exposition(String);

impl IntoResponse for Exposition {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], self.0).into_response()
    }
}

impl Described for Exposition {
    fn describe(operation: &mut OperationDoc<'_>) {
        let text = Object::with_type(Type::String);
        operation.answer(StatusCode::OK, "What was counted.", Some(("text/plain", text.into())));
    }
}

async fn metrics(State(state): State<AppState>, parts: Parts) -> Result<Exposition, ApiError> {
    let metrics = state.metrics().ok_or_else(ApiError::no_route)?;
    if let MetricsAccess::Bearer(secret) = &metrics.access {
        let token = bearer(&parts.headers).ok_or_else(|| ApiError::bearer_required("Missing or malformed Authorization header"))?;
        if !secret.is(token) {
            state.limits().failed_authentication(client_address(&parts, &state), None)?;
            return Err(ApiError::bearer_required("Invalid metrics token"));
        }
    }
    metrics.render(state.store().pool_status()).map(Exposition).map_err(|_| ApiError::internal())
}
