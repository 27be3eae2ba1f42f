//! Deliveries of webhooks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use loop_core::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

/// A signed delivery.
pub struct Delivery {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// When it was sent.
    pub sent: Timestamp,
    /// The key that it is signed with, taken in.
    key: Hmac<Sha256>,
    /// What is signed before the body.
    before: String,
}

impl Delivery {
    /// The secret of GitHub's and Sentry's deliveries.
    pub const SECRET: &str = "It's a Secret to Everybody";
    /// The signing key of PostHog's.
    pub const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// An issue event of about that many bytes.
    pub fn of_github(bytes: usize) -> Self {
        let event = |filler: String| {
            json!({
                "action": "opened",
                "issue": { "number": 1, "title": "The login page is blank", "body": filler },
                "repository": { "full_name": "acme/shop" },
                "sender": { "login": "octocat" },
            })
        };
        let mut delivery = Self::new(bytes, event, Self::SECRET.as_bytes(), String::new());
        delivery.add("x-github-event", "issues");
        delivery.add("x-hub-signature-256", &format!("sha256={}", faster_hex::hex_string(&delivery.hmac())));
        delivery
    }

    /// An issue event of about that many bytes.
    pub fn of_sentry(bytes: usize) -> Self {
        let event = |filler: String| {
            json!({
                "action": "created",
                "data": { "issue": { "id": "1170820242", "title": "TypeError", "level": "error", "count": "7", "metadata": filler } },
                "installation": { "uuid": "7a485448-a9e2-4c85-8a3c-4f44175783c9" },
            })
        };
        let mut delivery = Self::new(bytes, event, Self::SECRET.as_bytes(), String::new());
        delivery.add("sentry-hook-resource", "issue");
        delivery.add("sentry-hook-signature", &faster_hex::hex_string(&delivery.hmac()));
        delivery
    }

    /// An alert of about that many bytes, signed as Standard Webhooks has it.
    pub fn of_posthog(bytes: usize) -> Self {
        let event = |filler: String| json!({ "event": { "event": "signup_drop", "uuid": "0190", "properties": { "metric": "signups", "change": -31, "filler": filler } } });
        let key = STANDARD.decode(&Self::KEY["whsec_".len()..]).unwrap();
        let mut delivery = Self::new(bytes, event, &key, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W.1614265330.".to_owned());
        delivery.sent = "2021-02-25T15:02:10Z".parse().unwrap();
        delivery.add("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W");
        delivery.add("webhook-timestamp", "1614265330");
        delivery.add("webhook-signature", &format!("v1,{}", STANDARD.encode(delivery.hmac())));
        delivery
    }

    fn new(bytes: usize, event: impl Fn(String) -> Value, key: &[u8], before: String) -> Self {
        let frame = event(String::new()).to_string().len();
        let body = event("x".repeat(bytes.saturating_sub(frame))).to_string().into_bytes();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self { headers, body, sent: Timestamp::now(), key: Hmac::new_from_slice(key).unwrap(), before }
    }

    fn add(&mut self, name: &'static str, value: &str) {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }

    /// The bare HMAC-SHA256 of what is signed, with the key taken in already: what verification cannot cost less than.
    pub fn hmac(&self) -> [u8; 32] {
        let mut mac = self.key.clone();
        mac.update(self.before.as_bytes());
        mac.update(&self.body);
        mac.finalize().into_bytes().into()
    }
}
