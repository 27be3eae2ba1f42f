use axum::{Router, extract::State, routing::get};
use loop_core::Timestamp;
use serde_json::{Value, json};

use super::{Answer, answer};
use crate::{error::ApiError, state::AppState};

pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/health", get(health)).route("/ready", get(ready))
}

fn report() -> Value {
    json!({ "ok": true, "service": "loop", "version": env!("CARGO_PKG_VERSION"), "timestamp": Timestamp::now() })
}

async fn health() -> Answer<Value> {
    answer(report())
}

async fn ready(State(state): State<AppState>) -> Answer<Value> {
    let status = state.store().migration_status().await.map_err(ApiError::not_ready)?;
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
    let mut report = report();
    report["schemaVersion"] = json!(status.version);
    if let Some(version) = status.ahead() {
        report["warning"] = json!(format!("The database is at version {version}, and this build knows none after {}", status.known));
    }
    answer(report)
}
