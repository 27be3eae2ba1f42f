//! What extractors and answers say of themselves.

use axum::{Json, extract::State};
use http::{StatusCode, request::Parts};
use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, Type},
};

use super::{Body, Described, OperationDoc};
use crate::{
    auth::{Admin, Reader, Writer},
    error::ApiError,
    extract::{Id, Ids, Input, OptionalInput, PathId},
    query::{FromQuery, List, Query},
    routes::IssuePath,
    state::AppState,
};

const JSON: &str = "application/json";

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

impl<T: Body> Described for Input<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        let schema = operation.schemas.body::<T>();
        operation.body(true, [(JSON, schema)]);
        operation.errors(BODY_ERRORS);
    }
}

impl<T: Body> Described for OptionalInput<T> {
    fn describe(operation: &mut OperationDoc<'_>) {
        let schema = operation.schemas.body::<T>();
        operation.body(false, [(JSON, schema)]);
        operation.errors(BODY_ERRORS);
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

/// What a handler that creates answers.
impl<T: ToSchema> Described for (StatusCode, Json<T>) {
    fn describe(operation: &mut OperationDoc<'_>) {
        operation.json::<T>(StatusCode::CREATED, "What was created.");
    }
}

/// What a handler answers that has nothing to say.
impl Described for StatusCode {
    fn describe(operation: &mut OperationDoc<'_>) {
        operation.answer(Self::NO_CONTENT, "It is done.", None);
    }
}
