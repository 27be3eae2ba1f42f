//! The routes: a file per segment of the path. Each handler is a caller, what is asked, and one call of the store.

mod admin;
mod comments;
#[cfg(feature = "docs")]
mod docs;
mod goals;
mod health;
mod issues;
mod keys;
mod labels;
mod metrics;
mod projects;
mod relations;
mod signals;
mod templates;
mod webhooks;

use axum::Router;

pub(crate) use self::issues::IssuePath;
use crate::{error::ApiError, json::Json, revision::Tagged, state::AppState};

/// What a handler answers.
type Answer<T> = Result<Json<T>, ApiError>;

/// What a handler answers of one row that can be changed.
type Single<T> = Result<Tagged<T>, ApiError>;

/// What a handler that creates answers.
type Posted<T> = Result<T, ApiError>;

#[expect(clippy::unnecessary_wraps, reason = "it is what a handler answers")]
fn single<T>(value: T) -> Single<T> {
    Ok(Tagged(value))
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a handler answers")]
fn answer<T>(value: T) -> Answer<T> {
    Ok(Json(value))
}

/// Every route, and the document of them.
pub(crate) fn all(state: &AppState) -> Router<AppState> {
    let api = projects::routes()
        .merge(goals::routes())
        .merge(issues::routes())
        .merge(comments::routes())
        .merge(relations::routes())
        .merge(labels::routes())
        .merge(signals::routes())
        .merge(templates::routes())
        .merge(keys::routes());
    let mut routes = health::routes().merge(webhooks::routes()).nest("/api/v1", api);
    if state.admin_secret().is_some() {
        routes = routes.merge(admin::routes());
    }
    if state.metrics().is_some() {
        routes = routes.merge(metrics::routes());
    }
    #[cfg(feature = "docs")]
    let routes = routes.merge(docs::routes());
    routes.with_document("/openapi.json")
}
