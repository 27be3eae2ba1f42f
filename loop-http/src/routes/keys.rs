use std::time::Duration;

use http::StatusCode;
use loop_core::{ApiKey, ApiKeyId, IssuedKey, NewApiKey, Page, Role, Session, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use super::{Answer, Posted, answer};
use crate::{
    auth::Admin,
    error::ApiError,
    extract::Id,
    fields::{Fields, FromFields},
    idempotency::{AdminPost, Created, Done},
    openapi::{Body, Routes},
    query::List,
};

/// The longest grace period of a rotation: 30 days.
const MAX_GRACE_SECONDS: u64 = 30 * 24 * 60 * 60;

pub(crate) fn routes() -> Routes {
    Routes::tagged("API keys")
        .get("/keys", "listKeys", "List API keys", list)
        .post("/keys", "createKey", "Create an API key, and show it, the one time it is shown", create)
        .post("/keys/{id}/rotate", "rotateKey", "Replace an API key by a new one of the same name, role and project", rotate)
        .delete("/keys/{id}", "revokeKey", "Revoke an API key", revoke)
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

/// How long the key before still opens after a rotation.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(try_from = "u64")]
struct GraceSeconds(u64);

impl TryFrom<u64> for GraceSeconds {
    type Error = String;

    fn try_from(seconds: u64) -> Result<Self, String> {
        if seconds <= MAX_GRACE_SECONDS { Ok(Self(seconds)) } else { Err(format!("Must be at most {MAX_GRACE_SECONDS}")) }
    }
}

impl PartialSchema for GraceSeconds {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(MAX_GRACE_SECONDS)).into()
    }
}

impl ToSchema for GraceSeconds {}

/// How a key is rotated.
#[derive(Default)]
struct RotateBody {
    grace: GraceSeconds,
}

impl FromFields for RotateBody {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { grace: fields.or("graceSeconds", GraceSeconds::default()) })
    }
}

impl Body for RotateBody {
    const NAME: &'static str = "KeyRotation";
    const TOLD: &'static [(&'static str, &'static str)] = &[("graceSeconds", "How long the key before still opens.")];
    type Row = ApiKey;
}

/// A key with its plain text, the one time it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = IssuedApiKey)]
struct IssuedBody {
    #[serde(flatten)]
    row: ApiKey,
    /// The key in plain text.
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

async fn create(post: AdminPost<NewApiKey>) -> Posted<Created<IssuedBody>> {
    post.create(async |session, (), new| Ok(IssuedBody::from(session.api_keys().create(new).await?))).await
}

async fn rotate(post: AdminPost<Option<RotateBody>, Id<ApiKeyId>>) -> Posted<Done<IssuedBody>> {
    let rotate = async |session: Session<'_>, Id(id), body: Option<RotateBody>| {
        let RotateBody { grace: GraceSeconds(seconds) } = body.unwrap_or_default();
        Ok(IssuedBody::from(session.api_keys().rotate(&id, Duration::from_secs(seconds)).await?))
    };
    post.run(rotate).await
}

async fn revoke(Admin(store): Admin, Id(id): Id<ApiKeyId>) -> Result<StatusCode, ApiError> {
    store.api_keys().revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
