//! A webhook of GitHub's from the bytes on the wire to a signal. No database and no server is needed:
//!
//! ```sh
//! cargo run -p examples --example verify_webhook
//! ```

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use loop_core::webhook::{GithubVerifier, Secrets, github_signal};
use sha2::Sha256;

const BODY: &str = r#"{
    "action": "completed",
    "workflow_run": { "name": "CI", "conclusion": "failure" },
    "repository": { "full_name": "octo-org/octo-repo" },
    "sender": { "login": "mona" }
}"#;

fn main() -> anyhow::Result<()> {
    // Two secrets while one replaces the other: a delivery may be signed with either.
    let verifier = GithubVerifier::new(Secrets::from_comma_separated("the new secret, the old secret")?);

    // What GitHub sends: the HMAC of the raw body, and a few names that no signature covers.
    let signature = Hmac::<Sha256>::new_from_slice(b"the old secret")?.chain_update(BODY).finalize().into_bytes();
    let mut headers = HeaderMap::new();
    headers.insert("X-Hub-Signature-256", format!("sha256={}", faster_hex::hex_string(&signature)).parse()?);
    headers.insert("X-GitHub-Event", "workflow_run".parse()?);
    headers.insert("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958".parse()?);
    headers.insert("Content-Type", "application/json".parse()?);

    // Verify first, then read.
    verifier.verify(&headers, BODY.as_bytes())?;
    let signal = github_signal(&headers, BODY.as_bytes())?.into_signal().context("a ping")?;
    println!("verified: {}", signal.title);
    println!("severity: {}", signal.severity);

    // One changed word, and the signature no longer fits.
    let tampered = BODY.replace("failure", "success");
    let refused = verifier.verify(&headers, tampered.as_bytes()).err().context("a tampered body was believed")?;
    println!("tampered: {refused}");
    Ok(())
}
