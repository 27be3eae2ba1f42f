//! An example delivery, signed as GitHub signs.

use std::net::SocketAddr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const BODY: &str = r#"{"action":"opened","issue":{"number":1,"title":"The login page is blank"},"repository":{"full_name":"acme/shop"},"sender":{"login":"octocat"}}"#;

/// A `curl` that sends the example.
pub(crate) fn github_curl(secret: &str, address: SocketAddr) -> anyhow::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(BODY.as_bytes());
    let signature = faster_hex::hex_string(&mac.finalize().into_bytes());
    Ok(format!(
        "  curl http://{address}/webhooks/github \\
    -H 'Content-Type: application/json' \\
    -H 'X-GitHub-Event: issues' \\
    -H 'X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958' \\
    -H 'X-Hub-Signature-256: sha256={signature}' \\
    -d '{BODY}'"
    ))
}
