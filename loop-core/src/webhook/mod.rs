//! Webhooks: who sent a delivery, and what it means.
//!
//! First a verifier checks that a provider signed exactly these bytes: [`GithubVerifier`], [`SentryVerifier`], [`PosthogVerifier`], or
//! [`StandardWebhooks`] for anyone who follows that specification. Then [`github_signal`], [`sentry_signal`] or [`posthog_signal`] turns
//! the verified delivery into what [`NewSignal`](crate::NewSignal) holds. Neither knows an HTTP server: both take the headers and the
//! raw body.
//!
//! Always verify the bytes as they arrived. A body that was parsed and written again is another body: escapes, numbers and the order of
//! keys change, and with them the signature. That is why nothing here takes parsed JSON.
//!
//! What a signature does *not* cover is as important. GitHub and Sentry sign the body alone: a captured delivery can be sent again under
//! other headers, so their event names and delivery ids tell redeliveries apart but prove nothing.
//!
//! ```
//! use loop_core::webhook::{GithubVerifier, Secrets, VerifyError};
//!
//! let verifier = GithubVerifier::new(Secrets::new(["It's a Secret to Everybody"])?);
//! let mut headers = http::HeaderMap::new();
//! headers.insert(
//!     "X-Hub-Signature-256",
//!     "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17".parse()?,
//! );
//! assert_eq!(verifier.verify(&headers, b"Hello, World!"), Ok(()));
//! assert_eq!(verifier.verify(&headers, b"Hello, World?"), Err(VerifyError::InvalidSignature));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod github;
mod intake;
mod posthog;
mod secret;
mod sentry;
mod standard;

use faster_hex::{CheckCase, hex_decode_array_with_case};
use http::{HeaderMap, HeaderName, HeaderValue, header::AsHeaderName};

pub use github::GithubVerifier;
pub use intake::{Intake, IntakeError, github_signal, posthog_signal, sentry_signal};
pub use posthog::PosthogVerifier;
pub use secret::{SecretError, Secrets};
pub use sentry::SentryVerifier;
pub use standard::StandardWebhooks;

/// Why a delivery is not believed. It says nothing of the secret or of the payload, so it can be logged and sent.
///
/// A wrong signature under the right secret nearly always means that something between the provider and here changed the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum VerifyError {
    /// A header that carries the signature is absent.
    #[error("missing signature")]
    MissingSignature,
    /// The signature is garbled, given more than once, or made with another secret or of another body.
    #[error("invalid signature")]
    InvalidSignature,
    /// There is neither a shared secret nor a signature.
    #[error("missing secret")]
    MissingSecret,
    /// The shared secret is given more than once, or is not one of those expected.
    #[error("invalid secret")]
    InvalidSecret,
    /// The signature is right, but was made too long ago or too far ahead of this clock.
    #[error("timestamp out of tolerance")]
    TimestampOutOfTolerance,
}

impl VerifyError {
    /// Whether the delivery came without credentials, rather than with wrong ones.
    pub const fn is_missing(self) -> bool {
        matches!(self, Self::MissingSignature | Self::MissingSecret)
    }
}

/// A header was given more than once.
struct Duplicated;

/// The one value of a header. Which of two values another party believes cannot be known, so no choice is made between them.
fn single(headers: &HeaderMap, name: impl AsHeaderName) -> Result<Option<&HeaderValue>, Duplicated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Duplicated),
    }
}

/// A value that has to be there.
fn needed(value: Result<Option<&HeaderValue>, Duplicated>) -> Result<&HeaderValue, VerifyError> {
    value.map_err(|Duplicated| VerifyError::InvalidSignature)?.ok_or(VerifyError::MissingSignature)
}

/// The 32 bytes that a header holds as `prefix` and 64 hexadecimal digits.
///
/// Digits must be lower-case, as GitHub and Sentry send them: one signature has one spelling.
fn hex_signature(headers: &HeaderMap, name: &HeaderName, prefix: &[u8]) -> Result<[u8; 32], VerifyError> {
    let digits = needed(single(headers, name))?.as_bytes().strip_prefix(prefix).ok_or(VerifyError::InvalidSignature)?;
    hex_decode_array_with_case(digits, CheckCase::Lower).map_err(|_| VerifyError::InvalidSignature)
}
