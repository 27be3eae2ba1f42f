//! Verifiers: whatever arrives is an answer, what was signed is believed, and what differs in a bit is not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use loop_core::{
    Timestamp,
    test_util::arbitrary::{check, header_value},
    webhook::{GithubVerifier, PosthogVerifier, Secrets, SentryVerifier, StandardWebhooks, VerifyError},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use sha2::Sha256;

/// Every header that a verifier looks at.
const NAMES: [&str; 10] = [
    "x-hub-signature-256",
    "sentry-hook-signature",
    "sentry-app-signature",
    "x-posthog-secret",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "svix-id",
    "svix-timestamp",
    "svix-signature",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..300)
}

/// Secrets that are not blank.
fn secret() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..100).prop_filter("a secret says something", |secret| Secrets::new([secret.clone()]).is_ok())
}

/// What can stand in a header, often in the form of a signature.
fn value() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![
        header_value(0..80),
        "(sha256=)?[0-9a-fA-F]{60,68}".prop_map(plain),
        "(v1,[A-Za-z0-9+/]{40,44}={0,2} ?|v1a,x |v1 ){1,4}".prop_map(plain),
        "[0-9]{0,30}".prop_map(plain),
    ]
}

fn plain(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap()
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    vec((proptest::sample::select(&NAMES[..]), value()), 0..6).prop_map(|pairs| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    })
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().to_vec()
}

fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

/// The same bytes but for one bit, or one byte less.
fn changed(body: &[u8], place: Index, bit: u8) -> Vec<u8> {
    let mut changed = body.to_vec();
    if body.is_empty() {
        changed.push(bit);
    } else if bit == 8 {
        changed.remove(place.index(body.len()));
    } else {
        changed[place.index(body.len())] ^= 1 << bit;
    }
    changed
}

/// The secrets are none that made a signature here, so nothing may be believed.
#[test]
fn whatever_arrives_is_refused() {
    let inputs = (headers(), proptest::option::of(any::<String>()), bytes());
    let of = |secret: &str| Secrets::new([secret]).unwrap();
    let github = GithubVerifier::new(of("a secret that is not drawn"));
    let sentry = SentryVerifier::new(of("a secret that is not drawn"));
    let posthog =
        PosthogVerifier::new(Secrets::new(["a secret that is not drawn", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).unwrap()).unwrap();
    let standard = StandardWebhooks::from_raw(of("a secret that is not drawn"));
    check(2000, &inputs, |(headers, query, body)| {
        github.verify(&headers, &body).unwrap_err();
        sentry.verify_hook(&headers, &body).unwrap_err();
        sentry.verify_component(&headers, &body).unwrap_err();
        posthog.verify(&headers, query.as_deref(), &body).unwrap_err();
        standard.verify(&headers, &body).unwrap_err();
    });
}

/// With a second secret beside it, and with headers that are none of its business.
#[test]
fn what_was_signed_is_believed_and_nothing_else() {
    check(2000, &(secret(), secret(), bytes(), any::<Index>(), 0_u8..=8), |(secret, other, body, place, bit)| {
        let forged = changed(&body, place, bit);
        let secrets = || Secrets::new([other.clone(), secret.clone()]).unwrap();
        let code = faster_hex::hex_string(&hmac(&secret, &body));

        let headers = with(&[("x-hub-signature-256", &format!("sha256={code}")), ("x-hub-signature", "sha1=00")]);
        let github = GithubVerifier::new(secrets());
        assert_eq!(github.verify(&headers, &body), Ok(()));
        assert_eq!(github.verify(&headers, &forged), Err(VerifyError::InvalidSignature));

        let sentry = SentryVerifier::new(secrets());
        let headers = with(&[("sentry-hook-signature", &code)]);
        assert_eq!(sentry.verify_hook(&headers, &body), Ok(()));
        assert_eq!(sentry.verify_hook(&headers, &forged), Err(VerifyError::InvalidSignature));
        assert_eq!(sentry.verify_component(&headers, &body), Err(VerifyError::MissingSignature));
        let headers = with(&[("sentry-app-signature", &code)]);
        assert_eq!(sentry.verify_component(&headers, &body), Ok(()));
        assert_eq!(sentry.verify_component(&headers, &forged), Err(VerifyError::InvalidSignature));
    });
}

#[test]
fn a_signed_delivery_is_believed_in_its_time_alone() {
    let ids = "[!-,/-~]{1,40}";
    let inputs = (secret(), bytes(), ids, 0_i64..4_000_000_000, -1000_i64..1000, any::<Index>(), 0_u8..=8);
    check(2000, &inputs, |(secret, body, id, seconds, late, place, bit)| {
        let verifier = StandardWebhooks::from_raw(Secrets::new([secret.clone()]).unwrap());
        let time = seconds.to_string();
        let message = [id.as_bytes(), b".", time.as_bytes(), b".", &body].concat();
        let signature = format!("v1a,AAAA v1,{}", STANDARD.encode(hmac(&secret, &message)));
        let signed = |id: &str, time: &str| with(&[("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", &signature)]);
        let now = Timestamp::from_millis((seconds + late).max(0) * 1000).unwrap();
        let away = (seconds + late).max(0).abs_diff(seconds);
        let expected = if away <= 300 { Ok(()) } else { Err(VerifyError::TimestampOutOfTolerance) };
        assert_eq!(verifier.verify_at(&signed(&id, &time), &body, now), expected);

        let wrong = Err(VerifyError::InvalidSignature);
        assert_eq!(verifier.verify_at(&signed(&id, &time), &changed(&body, place, bit), now), wrong);
        assert_eq!(verifier.verify_at(&signed(&format!("{id}x"), &time), &body, now), wrong);
        assert_eq!(verifier.verify_at(&signed(&id, &(seconds + 1).to_string()), &body, now), wrong);
    });
}

#[test]
fn a_shared_secret_is_believed_and_nothing_else() {
    // What a header can hold, and is no signing key.
    let secrets = "[!-~]{1,60}".prop_filter("a shared secret", |secret| !secret.starts_with("whsec_") && !secret.starts_with("v1,whsec_"));
    check(1000, &(secrets, value(), proptest::option::of(any::<String>()), bytes()), |(secret, other, query, body)| {
        let posthog = PosthogVerifier::new(Secrets::new([secret.as_str()]).unwrap()).unwrap();
        assert_eq!(posthog.verify(&with(&[("x-posthog-secret", &secret)]), query.as_deref(), &body), Ok(()));
        assert_eq!(posthog.verify(&HeaderMap::new(), Some(&secret), &body), Ok(()));
        let mut headers = HeaderMap::new();
        headers.insert("x-posthog-secret", other.clone());
        // Whatever the query string says beside it.
        let believed = posthog.verify(&headers, Some(&secret), &body).is_ok();
        assert_eq!(believed, other.as_bytes() == secret.as_bytes());
    });
}
