use std::iter;

use http::{HeaderMap, HeaderName};

use super::{
    Duplicated, VerifyError, hex_signature,
    secret::{Keys, Secrets},
    single,
};

static HOOK_SIGNATURE: HeaderName = HeaderName::from_static("sentry-hook-signature");
static APP_SIGNATURE: HeaderName = HeaderName::from_static("sentry-app-signature");

/// Verifies what Sentry's integration platform sends: the HMAC-SHA256 of the raw body under the integration's client secret, in
/// hexadecimal.
///
/// Sentry signs two kinds of requests alike, under different headers. Each route takes one kind, so that one kind cannot be passed off
/// as the other. A request that carries both headers is refused unless they agree.
///
/// Neither the resource, the timestamp nor the request id is covered by the signature: their age and name prove nothing.
#[derive(Debug, Clone)]
pub struct SentryVerifier {
    keys: Keys,
}

impl SentryVerifier {
    /// A verifier for integrations that have one of these client secrets.
    pub fn new(secrets: Secrets) -> Self {
        Self { keys: Keys::new(secrets.into_iter()) }
    }

    /// Checks a webhook delivery, signed in `Sentry-Hook-Signature`.
    ///
    /// # Errors
    ///
    /// [`VerifyError::MissingSignature`] without that header; [`VerifyError::InvalidSignature`] if it is given twice, is not 64 lower-case
    /// hexadecimal digits, disagrees with the other header, or if no secret made it for this body.
    pub fn verify_hook(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), VerifyError> {
        self.verify(headers, &HOOK_SIGNATURE, &APP_SIGNATURE, body)
    }

    /// Checks a request of a UI component, such as an alert action or an issue link, signed in `Sentry-App-Signature`.
    ///
    /// The requests that fill a select field have no body. The signature of nothing is the same every time, and covers no part of their
    /// query string: take it for a password that rarely changes. Only a body of no bytes at all counts as empty, never `{}`.
    ///
    /// # Errors
    ///
    /// As [`verify_hook`](Self::verify_hook), with the headers' roles exchanged.
    pub fn verify_component(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), VerifyError> {
        self.verify(headers, &APP_SIGNATURE, &HOOK_SIGNATURE, body)
    }

    fn verify(&self, headers: &HeaderMap, name: &HeaderName, other: &HeaderName, body: &[u8]) -> Result<(), VerifyError> {
        let signature = hex_signature(headers, name, b"")?;
        let agreed = match single(headers, other) {
            Ok(None) => true,
            Ok(Some(_)) => hex_signature(headers, other, b"") == Ok(signature),
            Err(Duplicated) => false,
        };
        let signed = self.keys.signed(&[body], &iter::once(signature));
        if agreed && signed { Ok(()) } else { Err(VerifyError::InvalidSignature) }
    }
}
