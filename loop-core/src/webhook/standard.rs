use std::time::Duration;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{
    Duplicated, VerifyError, needed,
    secret::{Keys, SecretError, Secrets},
    single,
};
use crate::Timestamp;

/// What the signing headers are called: by the specification, then by the service it grew out of.
static FAMILIES: [[HeaderName; 3]; 2] = [
    [HeaderName::from_static("webhook-id"), HeaderName::from_static("webhook-timestamp"), HeaderName::from_static("webhook-signature")],
    [HeaderName::from_static("svix-id"), HeaderName::from_static("svix-timestamp"), HeaderName::from_static("svix-signature")],
];

/// How far a timestamp may be from this clock, unless chosen otherwise.
const TOLERANCE: Duration = Duration::from_mins(5);

/// The shortest key the specification allows, in bytes.
const SHORTEST_KEY: usize = 24;

/// Secrets are found both with and without Base64's padding.
const SECRET_BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Verifies deliveries signed after [Standard Webhooks](https://www.standardwebhooks.com) 1.0 with a shared key (`v1`, HMAC-SHA256).
///
/// Id, timestamp and body are signed together. Where the headers `webhook-id`, `webhook-timestamp` and `webhook-signature` are all
/// absent, the same three under `svix-` are taken; the two families do not mix. Signatures of public keys (`v1a`) are skipped like those
/// of any other version, never believed.
///
/// A delivery can be sent again within the tolerance: use its `webhook-id` to recognise that.
#[derive(Debug, Clone)]
pub struct StandardWebhooks {
    keys: Keys,
    tolerance: Duration,
}

impl StandardWebhooks {
    /// A verifier for senders that have one of these keys, written in Base64 with or without its padding, after `whsec_`, `v1,whsec_` or
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`SecretError::NotBase64`], or [`SecretError::TooShort`] for less than the 24 bytes that the specification asks for. A sender that
    /// breaks this rule needs [`from_raw`](Self::from_raw).
    pub fn new(secrets: Secrets) -> Result<Self, SecretError> {
        let keys = secrets.into_iter().map(|secret| decode_key(&secret)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::with_keys(keys))
    }

    /// A verifier for senders that use the bytes of one of these secrets as they are, whatever their length.
    pub fn from_raw(secrets: Secrets) -> Self {
        Self::with_keys(secrets.into_iter())
    }

    pub(super) fn with_keys(keys: impl IntoIterator<Item = Zeroizing<Vec<u8>>>) -> Self {
        Self { keys: Keys::new(keys), tolerance: TOLERANCE }
    }

    /// The same verifier, with another limit than five minutes on how far a timestamp may be from this clock, in both directions.
    pub fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Checks that the holder of a key signed exactly this delivery, and recently.
    ///
    /// # Errors
    ///
    /// As [`verify_at`](Self::verify_at).
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), VerifyError> {
        self.verify_at(headers, body, Timestamp::now())
    }

    /// As [`verify`](Self::verify), by another clock than the system's.
    ///
    /// # Errors
    ///
    /// [`VerifyError::MissingSignature`] if one of the three headers is absent; [`VerifyError::InvalidSignature`] if one is given twice,
    /// the id is not plain ASCII or holds a dot, the timestamp is not just digits, or no key made one of the signatures;
    /// [`VerifyError::TimestampOutOfTolerance`] if all is right but the time.
    pub fn verify_at(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), VerifyError> {
        self.verify_family(family(headers).ok_or(VerifyError::MissingSignature)?, body, now)
    }

    /// As [`verify_at`](Self::verify_at), for what the headers of one family hold.
    pub(super) fn verify_family(&self, family: Family<'_>, body: &[u8], now: Timestamp) -> Result<(), VerifyError> {
        let [id, timestamp, signatures] = family.map(needed);
        let (id, timestamp, signatures) = (plain_id(id?)?, timestamp?.as_bytes(), signatures?.as_bytes());

        let signatures = signatures.split(|byte| *byte == b' ').filter_map(decode_signature);
        let seconds = parse_seconds(timestamp).ok_or(VerifyError::InvalidSignature)?;
        if !self.keys.signed(&[id.as_bytes(), b".", timestamp, b".", body], &signatures) {
            return Err(VerifyError::InvalidSignature);
        }
        let now = u64::try_from(now.as_millis().div_euclid(1000)).unwrap_or(0);
        if seconds.abs_diff(now) > self.tolerance.as_secs() { Err(VerifyError::TimestampOutOfTolerance) } else { Ok(()) }
    }
}

/// What each of the signing headers of a family holds.
pub(super) type Family<'a> = [Result<Option<&'a HeaderValue>, Duplicated>; 3];

/// The family of signing headers that a request carries any of.
pub(super) fn family(headers: &HeaderMap) -> Option<Family<'_>> {
    FAMILIES
        .iter()
        .map(|names| names.each_ref().map(|name| single(headers, name)))
        .find(|family| !matches!(family, [Ok(None), Ok(None), Ok(None)]))
}

/// The id of a delivery, which stays the same when the sender tries again.
pub(super) fn delivery_id(headers: &HeaderMap) -> Option<&str> {
    let [id, ..] = family(headers)?;
    plain_id(id.ok()??).ok()
}

/// A dot in the id would let one signature stand for another split of id, timestamp and body.
fn plain_id(value: &HeaderValue) -> Result<&str, VerifyError> {
    let id = value.to_str().map_err(|_| VerifyError::InvalidSignature)?;
    if id.is_empty() || id.contains('.') { Err(VerifyError::InvalidSignature) } else { Ok(id) }
}

/// Only digits are a timestamp. One too large for the type is in the far future all the same.
fn parse_seconds(timestamp: &[u8]) -> Option<u64> {
    if timestamp.is_empty() || !timestamp.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(timestamp.iter().fold(0_u64, |seconds, digit| seconds.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// The code in one entry of the list. An empty or cut one is none, so that it cannot match a part of the real one.
fn decode_signature(entry: &[u8]) -> Option<[u8; 32]> {
    let encoded = entry.strip_prefix(b"v1,")?;
    // 44 characters may decode to 33 bytes; anything longer is refused before it is decoded.
    let mut decoded = [0; 33];
    let length = if encoded.len() == 44 { general_purpose::STANDARD.decode_slice(encoded, &mut decoded).ok()? } else { 0 };
    decoded.get(..length)?.try_into().ok()
}

/// What follows the mark of a signing key, if a secret carries it. Some senders put the version before it.
pub(super) fn strip_mark(secret: &[u8]) -> Option<&[u8]> {
    secret.strip_prefix(b"v1,").unwrap_or(secret).strip_prefix(b"whsec_")
}

/// The key that a secret spells.
pub(super) fn decode_key(secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let encoded = strip_mark(secret).unwrap_or(secret);
    let key = SECRET_BASE64.decode(encoded).map(Zeroizing::new).map_err(|_| SecretError::NotBase64)?;
    if key.len() < SHORTEST_KEY { Err(SecretError::TooShort) } else { Ok(key) }
}
