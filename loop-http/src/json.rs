//! Answers as JSON.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;

use crate::error::ApiError;

/// An answer as JSON. `axum`'s own is written to a buffer that takes each part of it by way of `bytes::BufMut`, a tenth of what a list takes.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
            Err(error) => ApiError::internal().because(error).into_response(),
        }
    }
}
