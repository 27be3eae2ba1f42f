//! Bodies and ids from requests.

use std::time::Duration;

use axum::{
    body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use loop_core::{
    ApiKeyId, CommentId, Entity, GoalId, IssueId, LabelId, ProjectId, RelationId, SignalId, TemplateId, VersionId, check_syntax,
    time_limit::limited,
};

use crate::{
    error::ApiError,
    fields,
    openapi::{BODY_ERRORS, Body, OperationDoc},
    state::AppState,
};

/// How large a body under `/api/v1` may be.
const BODY_LIMIT: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// What the body of a request becomes.
pub(crate) trait FromBody: Sized {
    /// Reads the whole body.
    fn from_body(headers: &HeaderMap, body: Bytes) -> Result<Self, ApiError>;

    /// Says what it is.
    fn describe(operation: &mut OperationDoc<'_>);
}

/// A JSON object, which must say that it is one.
impl<T: Body> FromBody for T {
    fn from_body(headers: &HeaderMap, body: Bytes) -> Result<Self, ApiError> {
        fields::read(&json_text(headers, body)?)
    }

    fn describe(operation: &mut OperationDoc<'_>) {
        describe::<T>(operation, true);
    }
}

fn describe<T: Body>(operation: &mut OperationDoc<'_>, required: bool) {
    let schema = operation.schemas.body::<T>();
    operation.body(required, [("application/json", schema)]);
    operation.errors(BODY_ERRORS);
}

/// A JSON object that may be left out altogether.
impl<T: Body> FromBody for Option<T> {
    fn from_body(headers: &HeaderMap, body: Bytes) -> Result<Self, ApiError> {
        if body.is_empty() { Ok(None) } else { T::from_body(headers, body).map(Some) }
    }

    fn describe(operation: &mut OperationDoc<'_>) {
        describe::<T>(operation, false);
    }
}

/// Nothing is asked of the body.
impl FromBody for () {
    fn from_body(_: &HeaderMap, _: Bytes) -> Result<Self, ApiError> {
        Ok(())
    }

    fn describe(operation: &mut OperationDoc<'_>) {
        operation.errors([StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE]);
    }
}

/// A body of the form `T`.
pub(crate) struct Input<T>(pub(crate) T);

impl<T: FromBody> FromRequest<AppState> for Input<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        T::from_body(&parts.headers, api_body(&parts.headers, body).await?).map(Self)
    }
}

/// The whole body of a request to the API.
pub(crate) async fn api_body(headers: &HeaderMap, body: body::Body) -> Result<Bytes, ApiError> {
    read_body(headers, body, BODY_LIMIT, |_| Ok(())).await
}

/// The one value of a header: which of two another party believes cannot be known.
pub(crate) fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let content_type = single(headers, header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(ApiError::unsupported_media_type("application/json")) }
}

/// The text of a body that is one JSON value, and says so.
pub(crate) fn json_text(headers: &HeaderMap, body: Bytes) -> Result<String, ApiError> {
    require_json(headers)?;
    // The only holder of the bytes gives them up without copying them.
    let text = String::from_utf8(body.into()).map_err(|_| ApiError::bad_request("invalid_json", "The body is not UTF-8"))?;
    check_syntax(&text).map_err(|error| ApiError::bad_request("invalid_json", format!("The body is not JSON: {error}")))?;
    Ok(text)
}

/// The whole body, if it is not larger than `limit` bytes. `grow` is told of each piece's size before it is kept, and may refuse it.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: body::Body,
    limit: usize,
    grow: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(ApiError::too_large(limit));
    }
    limited(BODY_TIMEOUT, collect(body, limit, grow)).await.unwrap_or_else(|| Err(ApiError::body_timeout()))
}

async fn collect(mut body: body::Body, limit: usize, mut grow: impl FnMut(usize) -> Result<(), ApiError>) -> Result<Bytes, ApiError> {
    // Most bodies arrive in one piece, which then need not be copied.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    let mut length = 0;
    while let Some(piece) = next(&mut body).await.map_err(|_| ApiError::bad_request("incomplete_body", "The body broke off"))? {
        length += piece.len();
        if length > limit {
            return Err(ApiError::too_large(limit));
        }
        grow(piece.len())?;
        if length == piece.len() {
            first = piece;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&piece);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// The next piece of a body.
async fn next(body: &mut body::Body) -> Result<Option<Bytes>, axum::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}

/// An id in a path. One that cannot be an id is not found, like any other that names nothing.
pub(crate) struct Id<T>(pub(crate) T);

/// Two ids in a path.
pub(crate) struct Ids<A, B>(pub(crate) A, pub(crate) B);

/// What an id in a path is of.
pub(crate) trait PathId: std::str::FromStr {
    const ENTITY: Entity;
}

macro_rules! path_ids {
    ($($id:ident: $entity:ident,)+) => {
        $(impl PathId for $id {
            const ENTITY: Entity = Entity::$entity;
        })+
    };
}

path_ids! {
    ApiKeyId: ApiKey,
    CommentId: Comment,
    GoalId: Goal,
    IssueId: Issue,
    LabelId: Label,
    ProjectId: Project,
    RelationId: Relation,
    SignalId: Signal,
    TemplateId: PromptTemplate,
    VersionId: PromptVersion,
}

fn id<T: PathId>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| ApiError::not_found(T::ENTITY))
}

/// The last parameters of the path: a host that mounts the router may have others before them. None if they are not UTF-8.
pub(crate) async fn path_parameters<S: Send + Sync, const N: usize>(parts: &mut Parts, state: &S) -> Option<[String; N]> {
    let parameters = RawPathParams::from_request_parts(parts, state).await.ok()?;
    let values: Vec<String> = parameters.iter().map(|(_, value)| value.to_owned()).collect();
    values.last_chunk().cloned()
}

impl<S: Send + Sync, T: PathId> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let [text] = path_parameters(parts, state).await.ok_or_else(|| ApiError::not_found(T::ENTITY))?;
        id(&text).map(Self)
    }
}

impl<S: Send + Sync, A: PathId, B: PathId> FromRequestParts<S> for Ids<A, B> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let [first, second] = path_parameters(parts, state).await.ok_or_else(|| ApiError::not_found(A::ENTITY))?;
        Ok(Self(id(&first)?, id(&second)?))
    }
}
