//! Who may deliver: deliveries signed as the providers sign, and everything that is not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use loop_core::{
    Timestamp,
    webhook::{PosthogVerifier, Secrets},
};
use loop_http::{AppState, RouterOptions, ServeOptions, Webhooks};
use sha2::Sha256;

use crate::support::{
    Answer, Caller, GITHUB_NEW_SECRET, GITHUB_SECRET, POSTHOG_KEY, POSTHOG_SECRET, SENTRY_SECRET, Server, TestApp, no_database, send,
};

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn hex_mac(secret: &str, body: impl AsRef<[u8]>) -> String {
    faster_hex::hex_string(&mac(secret.as_bytes(), &[body.as_ref()]))
}

/// A delivery: its headers and its body.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Delivery {
    fn new(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), headers: vec![("content-type", "application/json".to_owned())], body: body.into() }
    }

    /// Signed with the first of GitHub's secrets.
    pub(crate) fn github(event: &str, id: &str, body: impl Into<Vec<u8>>) -> Self {
        let delivery = Self::new("/webhooks/github", body).with("x-github-event", event).with("x-github-delivery", id);
        delivery.with("x-github-hook-id", "292430182").signed_with(GITHUB_SECRET)
    }

    pub(crate) fn sentry(resource: &str, body: impl Into<Vec<u8>>) -> Self {
        let delivery = Self::new("/webhooks/sentry", body).with("sentry-hook-resource", resource);
        let signature = hex_mac(SENTRY_SECRET, &delivery.body);
        delivery.with("sentry-hook-signature", &signature)
    }

    /// With the shared secret in its header.
    pub(crate) fn posthog(body: impl Into<Vec<u8>>) -> Self {
        Self::new("/webhooks/posthog", body).with("x-posthog-secret", POSTHOG_SECRET)
    }

    /// Signed after Standard Webhooks, at this moment.
    pub(crate) fn posthog_signed(id: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::posthog_signed_at(id, Timestamp::now().as_millis() / 1000, body)
    }

    pub(crate) fn posthog_signed_at(id: &str, seconds: i64, body: impl Into<Vec<u8>>) -> Self {
        let delivery = Self::new("/webhooks/posthog", body);
        let key = STANDARD.decode(POSTHOG_KEY.strip_prefix("whsec_").unwrap()).unwrap();
        let code = mac(&key, &[format!("{id}.{seconds}.").as_bytes(), &delivery.body]);
        let signature = format!("v1,{}", STANDARD.encode(code));
        delivery.with("webhook-id", id).with("webhook-timestamp", &seconds.to_string()).with("webhook-signature", &signature)
    }

    /// With the signature that this secret of GitHub's makes.
    pub(crate) fn signed_with(self, secret: &str) -> Self {
        let signature = format!("sha256={}", hex_mac(secret, &self.body));
        self.with("x-hub-signature-256", &signature)
    }

    /// With this header in place of any of that name.
    pub(crate) fn with(self, name: &'static str, value: &str) -> Self {
        let mut delivery = self.without(name);
        delivery.headers.push((name, value.to_owned()));
        delivery
    }

    /// With this header beside any of that name.
    fn with_another(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    pub(crate) fn to(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The request that delivers it.
    pub(crate) fn request(&self, caller: &Caller) -> reqwest::RequestBuilder {
        let request = caller.request("POST", &self.path).body(self.body.clone());
        self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
    }

    pub(crate) async fn send(&self, caller: &Caller) -> Answer {
        send(self.request(caller)).await
    }

    async fn refused(&self, caller: &Caller, message: &str) {
        assert_eq!(self.send(caller).await.error(401, "unauthorized"), message, "{:?}", self.headers);
    }
}

const BODY: &str = r#"{"action":"opened","unicode":"Café ☃","number":1662377139.0}"#;

/// A provider's signature header with everything but the one right value.
async fn refuses_garbled(caller: &Caller, good: &Delivery, name: &'static str, prefix: &str, digits: &str, message: &str) {
    let mut wrong = vec![
        String::new(),
        prefix.to_owned(),
        format!("{prefix}{}", &digits[1..]),
        format!("{prefix}{digits}0"),
        format!("{prefix}{digits}00"),
        format!("{prefix}{}", digits.to_uppercase()),
        format!("{prefix}g{}", &digits[1..]),
        format!("{prefix}{}", "0".repeat(64)),
        format!("{prefix}{} {}", &digits[..32], &digits[32..]),
        format!("sha1={digits}"),
        format!("{prefix}{digits}, {prefix}{digits}"),
    ];
    wrong.push(if prefix.is_empty() { format!("sha256={digits}") } else { digits.to_owned() });
    for wrong in wrong {
        good.clone().with(name, &wrong).refused(caller, message).await;
    }
    good.clone().with_another(name, &format!("{prefix}{digits}")).refused(caller, message).await;
    good.clone().with_another(name, "").refused(caller, message).await;
    for changed in [BODY.replace("Café", "Caf\\u00e9"), format!("{BODY} "), BODY.replace(".0", ""), String::new()] {
        Delivery { body: changed.into(), ..good.clone() }.refused(caller, message).await;
    }
}

#[tokio::test]
async fn github_deliveries_are_signed() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    let good = Delivery::github("issues", "d", BODY);
    let unsigned = good.clone().without("x-hub-signature-256");
    unsigned.refused(&nobody, "Missing GitHub signature").await;
    unsigned.with("x-hub-signature", &format!("sha1={}", "0".repeat(40))).refused(&nobody, "Missing GitHub signature").await;
    let invalid = "Invalid GitHub signature";
    refuses_garbled(&nobody, &good, "x-hub-signature-256", "sha256=", &hex_mac(GITHUB_SECRET, BODY), invalid).await;
    for secret in ["", "another", SENTRY_SECRET] {
        good.clone().signed_with(secret).refused(&nobody, invalid).await;
    }
    // The signature is looked at before anything else of the delivery.
    good.clone().with("content-type", "text/plain").signed_with("another").refused(&nobody, invalid).await;
    good.clone().to("/webhooks/github?project=A").signed_with("another").refused(&nobody, invalid).await;
}

#[tokio::test]
async fn sentry_deliveries_are_signed() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    let good = Delivery::sentry("issue", BODY);
    let (missing, invalid) = ("Missing Sentry signature", "Invalid Sentry signature");
    let unsigned = good.clone().without("sentry-hook-signature");
    unsigned.refused(&nobody, missing).await;
    // What signs requests of UI components signs no deliveries.
    unsigned.with("sentry-app-signature", &hex_mac(SENTRY_SECRET, BODY)).refused(&nobody, missing).await;
    good.clone().with("sentry-app-signature", &"0".repeat(64)).refused(&nobody, invalid).await;
    refuses_garbled(&nobody, &good, "sentry-hook-signature", "", &hex_mac(SENTRY_SECRET, BODY), invalid).await;
}

#[tokio::test]
async fn posthog_deliveries_carry_a_secret() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    let good = Delivery::posthog(BODY);
    let bare = good.clone().without("x-posthog-secret");
    bare.refused(&nobody, "Missing PostHog secret").await;
    let invalid = "Invalid PostHog secret";
    for wrong in ["", " ", "posthog", "posthog-shared-secret2", "POSTHOG-SHARED-SECRET", POSTHOG_KEY] {
        good.clone().with("x-posthog-secret", wrong).refused(&nobody, invalid).await;
        let encoded: String = form_urlencoded::byte_serialize(wrong.as_bytes()).collect();
        bare.clone().to(&format!("/webhooks/posthog?secret={encoded}")).refused(&nobody, invalid).await;
    }
    good.clone().with_another("x-posthog-secret", POSTHOG_SECRET).refused(&nobody, invalid).await;
    for (query, secret) in [("secret=wrong&secret=", POSTHOG_SECRET), ("secret=", "posthog-shared-secret&secret=wrong")] {
        bare.clone().to(&format!("/webhooks/posthog?{query}{secret}")).refused(&nobody, invalid).await;
    }
    // The header counts, where there are both.
    let right_query = format!("/webhooks/posthog?secret={POSTHOG_SECRET}");
    good.clone().with("x-posthog-secret", "wrong").to(&right_query).refused(&nobody, invalid).await;
}

#[tokio::test]
async fn a_secret_that_was_pasted_into_the_address_as_it_is_opens() {
    let verifier = PosthogVerifier::new(Secrets::new(["a+b/c=+d"]).unwrap()).unwrap();
    let state = AppState::new(no_database(), Webhooks { posthog: Some(verifier), ..Webhooks::default() }, None);
    let server = Server::start(state, &RouterOptions::default(), ServeOptions::default()).await;
    for spelled in ["a+b/c=+d", "a%2Bb%2Fc%3D%2Bd"] {
        let delivery = Delivery::posthog(BODY).without("x-posthog-secret").to(&format!("/webhooks/posthog?secret={spelled}"));
        // It gets as far as the database, which is not there.
        assert_eq!(delivery.send(&server.caller(None)).await.status, 503, "{spelled}");
    }
}

#[tokio::test]
async fn posthog_deliveries_that_are_signed_are_signed_rightly() {
    let (app, admin) = TestApp::with_admin().await;
    let nobody = app.nobody();
    let good = Delivery::posthog_signed("msg_1", BODY);
    let (missing, invalid) = ("Missing PostHog secret", "Invalid PostHog secret");
    for header in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let part = good.clone().without(header);
        part.refused(&nobody, missing).await;
        // A shared secret beside a broken signature does not mend it.
        part.with("x-posthog-secret", POSTHOG_SECRET).refused(&nobody, missing).await;
    }
    for (name, value) in [("webhook-id", "msg_2"), ("webhook-id", "msg.1"), ("webhook-timestamp", "1"), ("webhook-timestamp", "+1")] {
        good.clone().with(name, value).refused(&nobody, invalid).await;
    }
    for signature in ["", "v1,", "v1,AAAA", "v2,AAAA", "v1a,AAAA", "v1"] {
        good.clone().with("webhook-signature", signature).refused(&nobody, invalid).await;
    }
    let now = Timestamp::now().as_millis() / 1000;
    for seconds in [now - 310, now + 310, 0] {
        Delivery::posthog_signed_at("msg_1", seconds, BODY).refused(&nobody, invalid).await;
    }
    assert!(admin.ids("/api/v1/signals").await.is_empty());
    Delivery::posthog_signed_at("msg_1", now - 290, BODY).send(&nobody).await.created();
    Delivery::posthog_signed_at("msg_1", now + 290, BODY).send(&nobody).await.ok();
    good.send(&nobody).await.ok();
}

#[tokio::test]
async fn secrets_are_rotated_without_a_gap() {
    let (app, admin) = TestApp::with_admin().await;
    for (id, secret) in [("one", GITHUB_SECRET), ("two", GITHUB_NEW_SECRET)] {
        Delivery::github("issues", id, BODY).signed_with(secret).send(&app.nobody()).await.created();
    }
    Delivery::posthog(r#"{"n":1}"#).send(&app.nobody()).await.created();
    Delivery::posthog_signed("msg_1", r#"{"n":2}"#).send(&app.nobody()).await.created();
    assert_eq!(admin.ids("/api/v1/signals").await.len(), 4);
}

#[tokio::test]
async fn a_provider_without_a_secret_is_not_configured() {
    let state = AppState::new(no_database(), Webhooks::default(), None);
    let server = Server::start(state, &RouterOptions::default(), ServeOptions::default()).await;
    for (delivery, message) in [
        (Delivery::github("issues", "d", BODY), "GitHub webhooks are not configured"),
        (Delivery::sentry("issue", BODY), "Sentry webhooks are not configured"),
        (Delivery::posthog(BODY), "PostHog webhooks are not configured"),
    ] {
        let answer = delivery.send(&server.caller(None)).await;
        assert_eq!(answer.error(503, "not_configured"), message);
    }
}
