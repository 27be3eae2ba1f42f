use std::{fmt, time::Duration};

use ctutils::{Choice, CtEq as _};
use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use super::{
    Duplicated, VerifyError,
    secret::{SecretError, Secrets},
    single,
    standard::{self, StandardWebhooks},
};
use crate::Timestamp;

static SECRET: HeaderName = HeaderName::from_static("x-posthog-secret");

/// Verifies deliveries of PostHog's webhooks: by signature where the destination has a signing secret, else by a shared secret.
///
/// One list of secrets serves both. A secret written `whsec_…` is a signing key and nothing else: what proves a signature must never
/// travel in a request, so as a shared secret it is refused. Any other secret is a shared secret, and a signing key as well if it happens
/// to be Base64 of at least 24 bytes, because PostHog takes signing keys without the mark too.
///
/// A shared secret proves who sent a delivery, not what: anything that sees it can send anything. Prefer signing.
#[derive(Clone)]
pub struct PosthogVerifier {
    signing: StandardWebhooks,
    /// Hashes of the shared secrets: of one length, as a comparison in constant time needs.
    shared: Vec<[u8; 32]>,
}

impl PosthogVerifier {
    /// A verifier for destinations that have one of these secrets.
    ///
    /// # Errors
    ///
    /// [`SecretError::NotBase64`] or [`SecretError::TooShort`] if what follows `whsec_` cannot be a key.
    pub fn new(secrets: Secrets) -> Result<Self, SecretError> {
        let (mut keys, mut shared) = (Vec::new(), Vec::new());
        for secret in secrets.into_iter() {
            let marked = standard::strip_mark(&secret).is_some();
            match standard::decode_key(&secret) {
                Ok(key) => keys.push(key),
                Err(error) if marked => return Err(error),
                Err(_) => {}
            }
            if !marked {
                shared.push(Sha256::digest(&secret).into());
            }
        }
        Ok(Self { signing: StandardWebhooks::with_keys(keys), shared })
    }

    /// The same verifier, with another limit than five minutes on how far the time of a signature may be from this clock.
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.signing = self.signing.with_tolerance(tolerance);
        self
    }

    /// Checks that a holder of a secret sent this delivery. `query_secret` is the value of `secret` in the query string, decoded.
    ///
    /// # Errors
    ///
    /// As [`verify_at`](Self::verify_at).
    pub fn verify(&self, headers: &HeaderMap, query_secret: Option<&str>, body: &[u8]) -> Result<(), VerifyError> {
        self.verify_at(headers, query_secret, body, Timestamp::now())
    }

    /// As [`verify`](Self::verify), by another clock than the system's.
    ///
    /// A request with any of the signing headers must be signed rightly; a shared secret beside them is not looked at. So whoever names a
    /// delivery by `webhook-id` has signed that name. Otherwise the header `X-PostHog-Secret` is taken, and the query string only without
    /// it, since it ends up in access logs.
    ///
    /// # Errors
    ///
    /// For a signed request as [`StandardWebhooks::verify_at`]; else [`VerifyError::MissingSecret`], or [`VerifyError::InvalidSecret`] if
    /// the header is given twice or the secret is not a shared one of this verifier's.
    pub fn verify_at(&self, headers: &HeaderMap, query_secret: Option<&str>, body: &[u8], now: Timestamp) -> Result<(), VerifyError> {
        if let Some(family) = standard::family(headers) {
            return self.signing.verify_family(family, body, now);
        }
        let header = single(headers, &SECRET).map_err(|Duplicated| VerifyError::InvalidSecret)?;
        let given = header.map_or(query_secret.map(str::as_bytes), |value| Some(value.as_bytes()));
        let given = Sha256::digest(given.ok_or(VerifyError::MissingSecret)?);
        let mut found = Choice::FALSE;
        for secret in &self.shared {
            found |= given[..].ct_eq(&secret[..]);
        }
        if found.into() { Ok(()) } else { Err(VerifyError::InvalidSecret) }
    }
}

impl fmt::Debug for PosthogVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The hash of a weak secret is as good as the secret.
        f.debug_struct("PosthogVerifier").field("signing", &self.signing).field("shared", &self.shared.len()).finish()
    }
}
