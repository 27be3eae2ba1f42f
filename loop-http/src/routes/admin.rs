use axum::extract::State;
use http::{StatusCode, request::Parts};
use loop_core::MigrationReport;
use tracing::Instrument as _;

use super::{Answer, answer};
use crate::{
    auth::{bearer, client_address},
    error::ApiError,
    openapi::Routes,
    state::AppState,
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Service").post("/admin/migrate", "migrate", "Bring the database's schema up to date", migrate).also(|operation| {
        operation.security("adminSecret");
        operation.errors([StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS]);
    })
}

async fn migrate(State(state): State<AppState>, parts: Parts) -> Answer<MigrationReport> {
    let token = bearer(&parts.headers).ok_or_else(|| ApiError::bearer_required("Missing or malformed Authorization header"))?;
    // Each try is counted, the right one too: who guesses must not learn that a guess was right once there were too many.
    state.limits().admin_try(client_address(&parts, &state))?;
    if !state.admin_secret().is_some_and(|secret| secret.is(token)) {
        return Err(ApiError::bearer_required("Invalid admin secret"));
    }
    // On a task of its own: a caller that does not wait for the end, or waits longer than a request may take, does not roll it back.
    let migrating = tokio::spawn(async move { state.store().migrate().await }.in_current_span());
    answer(migrating.await.map_err(|_| ApiError::internal())??)
}
