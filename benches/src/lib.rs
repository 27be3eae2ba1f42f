//! What the benches share: deliveries as GitHub sends them.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use sha2::Sha256;

/// The secret of every delivery here.
pub const SECRET: &str = "It's a Secret to Everybody";

/// An issue event of about `bytes` bytes.
pub fn github_body(bytes: usize) -> Vec<u8> {
    let event = serde_json::json!({
        "action": "opened",
        "issue": { "number": 1, "title": "The login page is blank", "body": "x".repeat(bytes.saturating_sub(190)) },
        "repository": { "full_name": "acme/shop" },
        "sender": { "login": "octocat" },
    });
    event.to_string().into_bytes()
}

/// The bare HMAC-SHA256 over a body: what verification cannot cost less than.
pub fn hmac(body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap_or_else(|_| unreachable!("a key of any length will do"));
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// The headers of a delivery of this body, signed.
pub fn github_headers(body: &[u8]) -> HeaderMap {
    let signature = HeaderValue::from_str(&format!("sha256={}", hex::encode(hmac(body))));
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (http::HeaderName::from_static("x-github-event"), HeaderValue::from_static("issues")),
        (
            http::HeaderName::from_static("x-hub-signature-256"),
            signature.unwrap_or_else(|_| unreachable!("hexadecimal digits are a header")),
        ),
    ])
}
