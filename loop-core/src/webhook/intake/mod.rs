//! Verified delivery to signal. Payloads are read with tolerance: a part that is absent or of another type than expected costs a word of
//! the title, never the signal.

mod github;
mod posthog;
mod sentry;

use http::{HeaderMap, header::CONTENT_TYPE};

use super::single;
use crate::{DeliveryKey, InvalidJson, InvalidText, JsonObject, NewSignal, Text};

pub use github::github_signal;
pub use posthog::posthog_signal;
pub use sentry::sentry_signal;

/// What stands in a title for a part that the payload lacks.
const UNKNOWN: &str = "unknown";

/// What a verified delivery asks for.
#[derive(Debug, Clone)]
pub enum Intake {
    /// The provider only says that the webhook was set up. There is nothing to store.
    Ping,
    /// Something happened. It belongs to no project yet.
    Signal(Box<NewSignal>),
}

impl Intake {
    /// The signal, if this is one.
    pub fn into_signal(self) -> Option<NewSignal> {
        match self {
            Self::Ping => None,
            Self::Signal(signal) => Some(*signal),
        }
    }
}

/// Why a verified delivery cannot become a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// The body is of a type that the provider's webhooks do not have.
    #[error("the content type must be {expected}")]
    UnsupportedContentType {
        /// The types that are understood.
        expected: &'static str,
    },
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The body is not JSON, or is nested deeper than 127 levels.
    #[error("the body is not JSON: {reason}")]
    NotJson {
        /// Where and why it is not, without what it holds.
        reason: String,
    },
    /// The body is JSON that cannot be stored, or a part that cannot be done without is absent or garbled.
    #[error("{field}: {reason}")]
    Invalid {
        /// The header or the field at fault; `body` for the whole.
        field: &'static str,
        /// The rule it breaks, for people.
        reason: String,
    },
}

impl IntakeError {
    fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }
}

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Media {
    Json,
    Form,
}

/// How the body is written, if it is in a way that is known here; without a type it is taken for JSON. Parameters are of no account.
fn media(headers: &HeaderMap) -> Option<Media> {
    let Some(value) = single(headers, CONTENT_TYPE.as_str()).ok()? else { return Some(Media::Json) };
    let essence = value.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Some(Media::Json),
        "application/x-www-form-urlencoded" => Some(Media::Form),
        other if other.starts_with("application/") && other.ends_with("+json") => Some(Media::Json),
        _ => None,
    }
}

/// The object in a body that must be JSON.
fn json_body(headers: &HeaderMap, body: &[u8]) -> Result<JsonObject, IntakeError> {
    match media(headers) {
        Some(Media::Json) => object("body", utf8(body)?),
        _ => Err(IntakeError::UnsupportedContentType { expected: "application/json" }),
    }
}

fn utf8(body: &[u8]) -> Result<&str, IntakeError> {
    str::from_utf8(body).map_err(|_| IntakeError::NotUtf8)
}

fn object(field: &'static str, text: &str) -> Result<JsonObject, IntakeError> {
    text.parse().map_err(|error| match error {
        InvalidJson::Syntax(error) => IntakeError::NotJson { reason: error.to_string() },
        other => IntakeError::invalid(field, other.to_string()),
    })
}

/// The value of a header that names something, if it is there once and is plain: without white space, controls or other alphabets.
fn token<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = single(headers, name).ok()??.to_str().ok()?;
    (!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic())).then_some(value)
}

/// The key under the provider's own name for a delivery, else that of its body.
fn delivery_key(name: Option<&str>, body: &[u8]) -> DeliveryKey {
    name.map_or_else(|| DeliveryKey::of_body(body), DeliveryKey::named)
}

/// A text of a limited kind made of any text that is not empty: cut at 200 characters, so that none is too long to be read or indexed.
fn cut<T: TryFrom<String, Error = InvalidText>>(field: &'static str, text: &str) -> Result<T, IntakeError> {
    let end = text.char_indices().nth(200).map_or(text.len(), |(end, _)| end);
    let cut = text.get(..end).unwrap_or_default().to_owned();
    cut.try_into().map_err(|error: InvalidText| IntakeError::invalid(field, error.to_string()))
}

/// Tags made of those texts that are there.
fn tags<const N: usize>(texts: [Option<&str>; N]) -> Result<Vec<Text>, IntakeError> {
    texts.into_iter().flatten().map(|text| cut("tags", text)).collect()
}
