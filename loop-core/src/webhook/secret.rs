use std::fmt;

use ctutils::{Choice, CtEq as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Why secrets cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SecretError {
    /// There is no secret at all.
    #[error("at least one secret is needed")]
    Missing,
    /// One of the secrets is empty or only white space; anyone can sign with such a one.
    #[error("a secret must not be empty")]
    Empty,
    /// A signing key is not Base64.
    #[error("a signing key must be Base64, as in whsec_…")]
    NotBase64,
    /// A signing key is shorter than the 24 bytes that Standard Webhooks asks for.
    #[error("a signing key must be at least 24 bytes long")]
    TooShort,
}

/// One or more secrets shared with a provider. With several, a delivery may be made with any: so secrets are rotated without a gap.
///
/// There is always at least one, and none is empty. They are overwritten when dropped and never printed.
#[derive(Clone)]
pub struct Secrets(Vec<Zeroizing<Vec<u8>>>);

impl Secrets {
    /// Takes each secret exactly as it is, white space at its ends included.
    ///
    /// # Errors
    ///
    /// [`SecretError::Missing`] without any, [`SecretError::Empty`] if one is empty or only white space.
    pub fn new(secrets: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Result<Self, SecretError> {
        let secrets: Vec<_> = secrets.into_iter().map(|secret| Zeroizing::new(secret.into())).collect();
        if secrets.is_empty() {
            return Err(SecretError::Missing);
        }
        let blank = |secret: &[u8]| str::from_utf8(secret).is_ok_and(|text| text.trim().is_empty());
        if secrets.iter().any(|secret| blank(secret)) { Err(SecretError::Empty) } else { Ok(Self(secrets)) }
    }

    /// Takes secrets from one text, such as an environment variable, where commas separate them and white space around each is left out.
    ///
    /// A signing key spelled `v1,whsec_…` stays one secret.
    ///
    /// # Errors
    ///
    /// [`SecretError::Missing`] if there is nothing in the text, [`SecretError::Empty`] if there is nothing before, between or after
    /// commas.
    pub fn from_comma_separated(text: &str) -> Result<Self, SecretError> {
        if text.trim().is_empty() {
            return Err(SecretError::Missing);
        }
        let mut parts = text.split(',').map(str::trim).peekable();
        let mut secrets = Vec::new();
        while let Some(part) = parts.next() {
            // A lone `v1` would be a shared secret that anyone guesses.
            let key = parts.next_if(|next| part == "v1" && next.starts_with("whsec_"));
            secrets.push(key.unwrap_or(part));
        }
        Self::new(secrets)
    }

    /// The secrets; each is overwritten once it was used.
    pub(super) fn into_iter(self) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
        self.0.into_iter()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} redacted)", self.0.len())
    }
}

/// HMAC-SHA256 under each of several keys, with the keys already taken in: a verification costs no more than the hash of its message.
#[derive(Clone)]
pub(super) struct Keys(Vec<Hmac<Sha256>>);

impl Keys {
    pub(super) fn new(keys: impl IntoIterator<Item = Zeroizing<Vec<u8>>>) -> Self {
        // HMAC takes keys of any length, so none is left out; and a key that were left out could only make less verify.
        Self(keys.into_iter().filter_map(|key| Hmac::new_from_slice(&key).ok()).collect())
    }

    /// Whether one of `signatures` is the code of `message`, given in parts, under one of the keys.
    ///
    /// Everything is compared, so that time tells neither which key nor which signature it was, nor how much of it was right.
    pub(super) fn signed(&self, message: &[&[u8]], signatures: &(impl Iterator<Item = [u8; 32]> + Clone)) -> bool {
        let mut found = Choice::FALSE;
        for key in &self.0 {
            let mut mac = key.clone();
            for part in message {
                mac.update(part);
            }
            let code = mac.finalize().into_bytes();
            for signature in signatures.clone() {
                found |= code[..].ct_eq(&signature[..]);
            }
        }
        found.into()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} redacted)", self.0.len())
    }
}
