//! What extractors and answers say of themselves.

use axum::extract::State;
use http::{StatusCode, request::Parts};
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type},
};

use super::{Described, OperationDoc};
use crate::{
    auth::{Admin, Reader, Writer},
    error::ApiError,
    extract::{FromBody, Id, Ids, Input, PathId},
    idempotency::{AdminPost, Created, Done, FromPath, Post},
    json::Json,
    query::{FromQuery, List, Query},
    revision::{IfMatch, Revised, Tagged},
    routes::IssuePath,
    state::AppState,
};

impl Described for State<AppState> {
    fn describe(_: &mut OperationDoc<'_>) {}
}

/// The head of a request: whoever reads it says what of it.
impl Described for Parts {
    fn describe(_: &mut OperationDoc<'_>) {}
}

impl Described for Reader {
    fn describe(operation: &mut OperationDoc<'_>) {
        operation.security("apiKey");
        operation.errors([StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS]);
    }
}

impl Described for Writer {
    fn describe(operation: &mut OperationDoc<'_>) {
        Reader::describe(operation);
        operation.errors([StatusCode::FORBIDDEN, StatusCode::CONFLICT]);
    }
}

impl Described for Admin {
    fn describe(operation: &mut OperationDoc<'_>) {
        Reader::describe(operation);
        operation.errors([StatusCode::FORBIDDEN]);
    }
}

impl<T: PathId + ToSchema> Described for Id<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        let schema = operation.schemas.of::<T>();
        operation.in_path(schema, "An id.");
        operation.errors([StatusCode::NOT_FOUND]);
    }
}

impl<A: PathId + ToSchema, B: PathId + ToSchema> Described for Ids<A, B> {
    fn describe(operation: &mut OperationDoc<'_>) {
        Id::<A>::describe(operation);
        Id::<B>::describe(operation);
    }
}

impl Described for IssuePath {
    fn describe(operation: &mut OperationDoc<'_>) {
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^([a-z][a-z0-9]{1,31}|[1-9][0-9]{0,18})$"));
        operation.in_path(schema.into(), "The issue's id, or its number.");
        operation.errors([StatusCode::NOT_FOUND]);
    }
}

impl<T: FromQuery> Described for List<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        for parameter in Query::describe::<T>(operation.schemas) {
            operation.in_query(parameter);
        }
        operation.errors([StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY]);
    }
}

/// What can be wrong with a body.
pub(crate) const BODY_ERRORS: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
];

impl<T: FromBody> Described for Input<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        T::describe(operation);
    }
}

/// What a handler takes that creates.
impl<T: FromBody, P: FromPath + Described> Described for Post<T, P> {
    fn describe(operation: &mut OperationDoc<'_>) {
        Writer::describe(operation);
        P::describe(operation);
        T::describe(operation);
        let key = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]{1,255}$"));
        operation.in_header("Idempotency-Key", false, key, "The caller's name for the request, under which it is done once in 24 hours.");
        operation.errors([StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY]);
    }
}

impl<T: FromBody, P: FromPath + Described> Described for AdminPost<T, P> {
    fn describe(operation: &mut OperationDoc<'_>) {
        Post::<T, P>::describe(operation);
    }
}

/// Nothing is in the path.
impl Described for () {
    fn describe(_: &mut OperationDoc<'_>) {}
}

impl Described for IfMatch {
    fn describe(operation: &mut OperationDoc<'_>) {
        let tags = ObjectBuilder::new().schema_type(Type::String);
        let tags = tags.pattern(Some(r#"^(\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$"#));
        operation.in_header("If-Match", false, tags, "The entity tags of the revisions that the request is meant for, or `*`.");
        operation.errors([StatusCode::BAD_REQUEST, StatusCode::PRECONDITION_FAILED]);
    }
}

/// An error says nothing: what can go wrong is said by what can.
impl<T: Described> Described for Result<T, ApiError> {
    fn describe(operation: &mut OperationDoc<'_>) {
        T::describe(operation);
    }
}

impl<T: ToSchema> Described for Json<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        operation.json::<T>(StatusCode::OK, "What was asked for.");
    }
}

impl<T: Revised + ToSchema> Described for Tagged<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        Json::<T>::describe(operation);
        operation.answer_header("ETag", Object::with_type(Type::String), "The row's revision.");
    }
}

/// What a handler that creates answers.
impl<T: ToSchema> Described for Created<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        operation.json::<T>(StatusCode::CREATED, "What was created.");
        operation.answer_header("Idempotency-Replayed", Object::with_type(Type::Boolean), "True where the request was done before.");
    }
}

/// What a handler answers that does something once.
impl<T: ToSchema> Described for Done<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        Json::<T>::describe(operation);
        operation.answer_header("Idempotency-Replayed", Object::with_type(Type::Boolean), "True where the request was done before.");
    }
}

/// What a handler answers that has nothing to say.
impl Described for StatusCode {
    fn describe(operation: &mut OperationDoc<'_>) {
        operation.answer(Self::NO_CONTENT, "It is done.", None);
    }
}
