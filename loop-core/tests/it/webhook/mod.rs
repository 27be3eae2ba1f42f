//! Verifiers against known answers and forgeries, and what verified deliveries become.

mod github;
mod intake;
mod posthog;
mod secret;
mod sentry;
mod standard;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use loop_core::webhook::Secrets;
use sha2::Sha256;

fn secrets<const N: usize>(secrets: [&str; N]) -> Secrets {
    Secrets::new(secrets).expect("secrets")
}

/// Headers in the order given, those of one name side by side.
fn headers<V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header's value"));
    }
    headers
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key).expect("a key").chain_update(message).finalize().into_bytes().into()
}

fn hex_hmac(secret: &str, body: &[u8]) -> String {
    faster_hex::hex_string(&hmac(secret.as_bytes(), body))
}

/// An entry of a Standard Webhooks signature under a key spelled `whsec_…`.
fn v1(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).expect("Base64");
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    format!("v1,{}", STANDARD.encode(hmac(&key, &message)))
}
