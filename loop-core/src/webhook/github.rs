use std::iter;

use http::{HeaderMap, HeaderName};

use super::{
    VerifyError, hex_signature,
    secret::{Keys, Secrets},
};

static SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");

/// Verifies deliveries of GitHub's webhooks: `X-Hub-Signature-256` is `sha256=` and the HMAC-SHA256 of the raw body in hexadecimal.
///
/// It makes no difference whether the hook sends JSON or a form: the bytes on the wire are signed.
#[derive(Debug, Clone)]
pub struct GithubVerifier {
    keys: Keys,
}

impl GithubVerifier {
    /// A verifier for hooks that have one of these secrets.
    pub fn new(secrets: Secrets) -> Self {
        Self { keys: Keys::new(secrets.into_iter()) }
    }

    /// Checks that the holder of a secret signed exactly this body.
    ///
    /// The older `X-Hub-Signature` (SHA-1) is never looked at: whoever could forge it would choose it. GitHub sends no signature at all
    /// for a hook without a secret, so such deliveries are refused.
    ///
    /// # Errors
    ///
    /// [`VerifyError::MissingSignature`] without the header; [`VerifyError::InvalidSignature`] if there are two, if it is not of the form
    /// above in lower-case digits, or if no secret made it for this body.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), VerifyError> {
        let signature = hex_signature(headers, &SIGNATURE, b"sha256=")?;
        if self.keys.signed(&[body], &iter::once(signature)) { Ok(()) } else { Err(VerifyError::InvalidSignature) }
    }
}
