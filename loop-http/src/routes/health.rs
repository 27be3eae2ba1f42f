use axum::extract::State;
use loop_core::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answer, answer};
use crate::{error::ApiError, openapi::Routes, state::AppState};

/// That the server runs, and what it found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Health {
    /// Always true.
    ok: bool,
    /// Always `loop`.
    service: &'static str,
    /// The version of the server.
    version: &'static str,
    /// The time of the server.
    timestamp: Timestamp,
    /// The version of the database's schema, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_version: Option<i32>,
    /// What an operator should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

pub(crate) fn routes() -> Routes {
    Routes::tagged("Service").get("/health", "getHealth", "Say that the server runs", health).get(
        "/ready",
        "getReadiness",
        "Say whether the database answers and is migrated",
        ready,
    )
}

fn report() -> Health {
    let version = env!("CARGO_PKG_VERSION");
    Health { ok: true, service: "loop", version, timestamp: Timestamp::now(), schema_version: None, warning: None }
}

async fn health() -> Answer<Health> {
    answer(report())
}

async fn ready(State(state): State<AppState>) -> Answer<Health> {
    let status = state.migration_status().await.map_err(ApiError::not_ready)?;
    if !status.pending.is_empty() {
        return Err(
            ApiError::unavailable("not_migrated", format!("The database lacks {} migration(s)", status.pending.len())).retry_after(10)
        );
    }
    // Told to have it, and without it, the server is not what somebody relies on.
    if status.guarded == Some(false) {
        return Err(ApiError::unavailable("not_guarded", "Row-level security is not in force: migrate, as a user who is no superuser")
            .retry_after(10));
    }
    let ahead = |version| format!("The database is at version {version}, and this build knows none after {}", status.known);
    answer(Health { schema_version: status.version, warning: status.ahead().map(ahead), ..report() })
}
