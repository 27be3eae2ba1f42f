//! What goes wrong, as status and JSON. The only place where an error becomes an answer.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use loop_core::{
    Entity, Error,
    webhook::{IntakeError, VerifyError},
};
use serde::Serialize;
use utoipa::ToSchema;

/// How many seconds a client is asked to wait when the database is away.
const RETRY_AFTER_SECONDS: u64 = 2;

/// Every wrong field with what is wrong with it, and what is wrong with the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// What is wrong with the body as a whole.
    pub form_errors: Vec<String>,
    /// What is wrong with each field.
    pub field_errors: BTreeMap<String, Vec<String>>,
}

impl Details {
    /// How many fields are named before the rest is left out: a long list of wrong things must not become a longer answer.
    const MAX_FIELDS: usize = 1000;
    /// How many reasons of one field are given.
    const MAX_REASONS: usize = 10;

    /// Adds what is wrong with a field.
    pub fn field(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        let name = name.into();
        if self.field_errors.len() >= Self::MAX_FIELDS && !self.field_errors.contains_key(&name) {
            if self.form_errors.is_empty() {
                self.form_errors.push(format!("More than {} fields are wrong", Self::MAX_FIELDS));
            }
            return;
        }
        let reasons = self.field_errors.entry(name).or_default();
        if reasons.len() < Self::MAX_REASONS {
            reasons.push(reason.into());
        }
    }

    /// Adds what is wrong with a part, with `prefix` before the names of its fields.
    pub(crate) fn extend(&mut self, prefix: &str, other: Self) {
        for (name, reasons) in other.field_errors {
            for reason in reasons {
                self.field(format!("{prefix}{name}"), reason);
            }
        }
        if self.form_errors.is_empty() {
            self.form_errors = other.form_errors;
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.form_errors.is_empty() && self.field_errors.is_empty()
    }
}

/// An error answer.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    details: Option<Box<Details>>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What is logged and never sent.
    cause: Option<Cause>,
}

/// What stands behind an answer of the 5xx kind. It travels as an extension of the response to the one place that logs.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) Arc<dyn std::error::Error + Send + Sync>);

/// An error with all that is behind it.
pub(crate) struct Chain<'e>(pub(crate) &'e (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// The code of an error answer, for whoever counts them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Code(pub(crate) &'static str);

/// What every error looks like.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody<'a> {
    /// What went wrong, for people.
    error: &'a str,
    /// What went wrong, for programs, such as `not_found`.
    code: &'a str,
    /// What is wrong with each field or parameter, where `code` is `validation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Details)]
    details: Option<&'a Details>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), details: None, header: None, cause: None }
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// The same, telling the client how to authenticate, as RFC 9110 asks.
    pub(crate) fn bearer_required(message: &'static str) -> Self {
        Self::unauthorized(message).with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(crate) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn not_found(entity: Entity) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", capitalised(&format!("{entity} not found")))
    }

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", format!("The body is larger than {limit} bytes"))
    }

    pub(crate) fn unsupported_media_type(expected: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", format!("The content type must be {expected}"))
    }

    pub(crate) fn body_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time")
    }

    pub(crate) fn too_many(retry_after_seconds: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests").retry_after(retry_after_seconds)
    }

    pub(crate) fn unavailable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// The database does not answer, for whatever reason.
    pub(crate) fn not_ready(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::unavailable("unavailable", "The database is unavailable, try again").retry_after(RETRY_AFTER_SECONDS).because(error)
    }

    /// Others take all the room there is.
    pub(crate) fn busy() -> Self {
        tracing::warn!("too many large requests at once");
        Self::unavailable("busy", "Too much at once, try again").retry_after(RETRY_AFTER_SECONDS)
    }

    /// The request took longer than a request may take.
    pub(crate) fn deadline() -> Self {
        tracing::warn!("a request took too long");
        Self::unavailable("timeout", "The request took too long").retry_after(RETRY_AFTER_SECONDS)
    }

    /// A twin of the request is under way.
    pub(crate) fn in_progress() -> Self {
        Self::new(StatusCode::CONFLICT, "in_progress", "A request with this Idempotency-Key is under way").retry_after(1)
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal server error")
    }

    pub(crate) fn validation(details: Details) -> Self {
        Self { details: Some(Box::new(details)), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation", "Validation error") }
    }

    pub(crate) fn invalid_field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut details = Details::default();
        details.field(field, reason);
        Self::validation(details)
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, seconds.into())
    }

    pub(crate) fn because(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Cause(Arc::new(cause)));
        self
    }

    /// The answer to a delivery whose provider could not be made sure of.
    pub(crate) fn webhook(provider: &'static str, error: VerifyError) -> Self {
        let credential = if provider == "PostHog" { "secret" } else { "signature" };
        let what = if error.is_missing() { "Missing" } else { "Invalid" };
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", format!("{what} {provider} {credential}"))
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound { entity, .. } => Self::not_found(entity),
            Error::Stale { .. } => Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", error.to_string()),
            Error::Conflict { .. } => {
                let conflict = Self::new(StatusCode::CONFLICT, "conflict", error.to_string());
                if error.is_retryable() { conflict.retry_after(1) } else { conflict }
            }
            Error::InvalidReference { fields, .. } => {
                let mut details = Details::default();
                for field in fields {
                    details.field(field, "Refers to something that does not exist");
                }
                Self::validation(details)
            }
            Error::Invalid { field, reason } => Self::invalid_field(field, reason),
            Error::OutOfScope { .. } => Self::forbidden("This key is bound to a project and may not do this"),
            Error::MalformedCursor => Self::bad_request("malformed_cursor", "Malformed cursor"),
            // Nothing of what was asked is at fault, and once somebody has changed the settings it works: a provider is to try again.
            Error::Unavailable { .. } | Error::Configuration { .. } => Self::not_ready(error),
            Error::Corrupt { .. } | Error::Database { .. } | Error::Migration { .. } | Error::ReadOnly { .. } => {
                Self::internal().because(error)
            }
        }
    }
}

/// What cannot fail has nothing to say.
impl From<std::convert::Infallible> for ApiError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::UnsupportedContentType { expected } => Self::unsupported_media_type(expected),
            IntakeError::NotUtf8 => Self::bad_request("invalid_json", "The body is not UTF-8"),
            IntakeError::NotJson { reason } => Self::bad_request("invalid_json", format!("The body is not JSON: {reason}")),
            IntakeError::Invalid { field, reason } => Self::invalid_field(field, reason),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: &self.message, code: self.code, details: self.details.as_deref() };
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Code(self.code));
        if let Some(header) = self.header {
            let (name, value) = *header;
            response.headers_mut().insert(name, value);
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}
