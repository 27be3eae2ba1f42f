use std::time::Duration;

use axum::{
    Router,
    routing::{get, post},
};
use http::StatusCode;
use loop_core::{ApiKey, ApiKeyId, IssuedKey, NewApiKey, Page, Role, Session, Timestamp};
use serde::Serialize;

use super::{Answer, Posted, answer};
use crate::{
    auth::Admin,
    error::ApiError,
    extract::Id,
    fields::{Fields, FromFields},
    idempotency::AdminPost,
    query::List,
    state::AppState,
};

/// The longest grace period of a rotation: 30 days.
const MAX_GRACE_SECONDS: u64 = 30 * 24 * 60 * 60;

pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/keys", get(list).post(create))
        .route("/keys/{id}/rotate", post(rotate))
        .route("/keys/{id}", axum::routing::delete(revoke))
}

impl FromFields for NewApiKey {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name");
        let role = fields.or("role", Role::Write);
        let project_id = fields.optional("projectId");
        let expires_at = fields.optional("expiresAt");
        if expires_at.is_some_and(|time| time <= Timestamp::now()) {
            fields.complain("expiresAt", "Must be in the future");
        }
        Some(Self { name: name?, role, project_id, expires_at })
    }
}

/// How a key is rotated.
#[derive(Default)]
struct RotateBody {
    /// How long the key before still opens.
    grace: Duration,
}

impl FromFields for RotateBody {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let seconds = fields.or("graceSeconds", 0);
        if seconds > MAX_GRACE_SECONDS {
            fields.complain("graceSeconds", format!("Must be at most {MAX_GRACE_SECONDS}"));
        }
        Some(Self { grace: Duration::from_secs(seconds) })
    }
}

/// A key with its plain text, the one time it is shown.
#[derive(Serialize)]
struct IssuedBody {
    #[serde(flatten)]
    row: ApiKey,
    key: String,
}

impl From<IssuedKey> for IssuedBody {
    fn from(issued: IssuedKey) -> Self {
        Self { row: issued.key, key: issued.plaintext.reveal().to_owned() }
    }
}

async fn list(Admin(store): Admin, List((), page): List<()>) -> Answer<Page<ApiKey>> {
    answer(store.api_keys().list(&page).await?)
}

async fn create(post: AdminPost<NewApiKey>) -> Posted {
    post.run(StatusCode::CREATED, async |session, (), new| Ok(IssuedBody::from(session.api_keys().create(new).await?))).await
}

async fn rotate(post: AdminPost<Option<RotateBody>, Id<ApiKeyId>>) -> Posted {
    let rotate = async |session: Session<'_>, Id(id), body: Option<RotateBody>| {
        let RotateBody { grace } = body.unwrap_or_default();
        Ok(IssuedBody::from(session.api_keys().rotate(&id, grace).await?))
    };
    post.run(StatusCode::OK, rotate).await
}

async fn revoke(Admin(store): Admin, Id(id): Id<ApiKeyId>) -> Result<StatusCode, ApiError> {
    store.api_keys().revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
