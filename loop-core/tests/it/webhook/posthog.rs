use http::HeaderMap;
use loop_core::{
    Timestamp,
    webhook::{PosthogVerifier, SecretError, VerifyError},
};

use super::{headers, secrets, v1};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SHARED: &str = "a shared secret";
const BODY: &[u8] = b"{\"test\": 2432232314}";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const TIME: &str = "1614265330";

fn verifier<const N: usize>(all: [&str; N]) -> PosthogVerifier {
    PosthogVerifier::new(secrets(all)).expect("secrets")
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_614_265_330_000).expect("a time")
}

fn signed(signature: &str) -> HeaderMap {
    headers([("webhook-id", ID), ("webhook-timestamp", TIME), ("webhook-signature", signature)])
}

#[test]
fn a_shared_secret_is_taken_from_the_header_or_the_query() {
    let verifier = verifier([SHARED]);
    let (none, right, wrong) = (HeaderMap::new(), headers([("X-PostHog-Secret", SHARED)]), headers([("X-PostHog-Secret", "guess")]));
    assert_eq!(verifier.verify(&right, None, BODY), Ok(()));
    assert_eq!(verifier.verify(&none, Some(SHARED), BODY), Ok(()));
    assert_eq!(verifier.verify(&none, None, BODY), Err(VerifyError::MissingSecret));
    assert_eq!(verifier.verify(&wrong, None, BODY), Err(VerifyError::InvalidSecret));
    assert_eq!(verifier.verify(&none, Some("guess"), BODY), Err(VerifyError::InvalidSecret));
    assert_eq!(verifier.verify(&wrong, Some(SHARED), BODY), Err(VerifyError::InvalidSecret), "the header goes before the query");
    assert_eq!(verifier.verify(&right, Some("guess"), BODY), Ok(()), "the query is not looked at beside the header");
}

#[test]
fn wrong_shared_secrets_are_refused() {
    let verifier = verifier([SHARED]);
    let long = SHARED.repeat(1000);
    for secret in ["", " ", "a shared secre", "a shared secretx", "A shared secret", &long, "é"] {
        assert_eq!(verifier.verify(&headers([("x-posthog-secret", secret)]), None, BODY), Err(VerifyError::InvalidSecret), "{secret:.20}");
        assert_eq!(verifier.verify(&HeaderMap::new(), Some(secret), BODY), Err(VerifyError::InvalidSecret), "{secret:.20}");
    }
    let bytes = headers([("x-posthog-secret", [0xff, 0xfe])]);
    assert_eq!(verifier.verify(&bytes, None, BODY), Err(VerifyError::InvalidSecret));
    let twice = headers([("x-posthog-secret", SHARED), ("x-posthog-secret", SHARED)]);
    assert_eq!(verifier.verify(&twice, None, BODY), Err(VerifyError::InvalidSecret));
    assert_eq!(verifier.verify(&twice, Some(SHARED), BODY), Err(VerifyError::InvalidSecret));
}

#[test]
fn any_of_several_shared_secrets_will_do() {
    let verifier = verifier(["one", KEY, "zwei ☃"]);
    for secret in ["one", "zwei ☃"] {
        assert_eq!(verifier.verify(&headers([("x-posthog-secret", secret)]), None, BODY), Ok(()), "{secret}");
    }
    assert_eq!(verifier.verify(&headers([("x-posthog-secret", "three")]), None, BODY), Err(VerifyError::InvalidSecret));
}

#[test]
fn a_signature_is_verified() {
    let verifier = verifier([SHARED, KEY]);
    let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert_eq!(verifier.verify_at(&signed(good), None, BODY, now()), Ok(()));
    assert_eq!(verifier.verify_at(&signed(good), None, b"{}", now()), Err(VerifyError::InvalidSignature));
    assert_eq!(verifier.verify(&signed(good), None, BODY), Err(VerifyError::TimestampOutOfTolerance));
    let patient = verifier.with_tolerance(std::time::Duration::MAX);
    assert_eq!(patient.verify(&signed(good), None, BODY), Ok(()));
}

#[test]
fn a_shared_secret_does_not_make_up_for_a_signature() {
    let verifier = verifier([SHARED, KEY]);
    let mut wrong = signed("v1,AAAA");
    wrong.insert("x-posthog-secret", SHARED.parse().expect("a value"));
    assert_eq!(verifier.verify_at(&wrong, Some(SHARED), BODY, now()), Err(VerifyError::InvalidSignature));
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature", "svix-id"] {
        let partly = headers([(name, "1"), ("x-posthog-secret", SHARED)]);
        assert_eq!(verifier.verify_at(&partly, Some(SHARED), BODY, now()), Err(VerifyError::MissingSignature), "{name}");
        let twice = headers([(name, "1"), (name, "1"), ("x-posthog-secret", SHARED)]);
        let expected = if name.ends_with("id") { VerifyError::InvalidSignature } else { VerifyError::MissingSignature };
        assert_eq!(verifier.verify_at(&twice, Some(SHARED), BODY, now()), Err(expected), "{name} twice");
    }
    // Without a key nothing signed can be verified, so a signature is refused rather than overlooked.
    let unsigned = PosthogVerifier::new(secrets([SHARED])).expect("a secret");
    assert_eq!(unsigned.verify_at(&wrong, Some(SHARED), BODY, now()), Err(VerifyError::InvalidSignature));
}

#[test]
fn a_signing_key_never_serves_as_a_shared_secret() {
    let bare = KEY.trim_start_matches("whsec_");
    for spelling in [KEY.to_owned(), format!("v1,{KEY}")] {
        let verifier = verifier([spelling.as_str()]);
        for given in [spelling.as_str(), KEY, bare] {
            assert_eq!(verifier.verify(&headers([("x-posthog-secret", given)]), None, BODY), Err(VerifyError::InvalidSecret), "{given}");
            assert_eq!(verifier.verify(&HeaderMap::new(), Some(given), BODY), Err(VerifyError::InvalidSecret), "{given}");
        }
        let good = v1(KEY, ID, TIME, BODY);
        assert_eq!(verifier.verify_at(&signed(&good), None, BODY, now()), Ok(()), "{spelling}");
    }
}

#[test]
fn an_unmarked_secret_that_spells_a_key_is_both() {
    let bare = KEY.trim_start_matches("whsec_");
    let verifier = verifier([bare]);
    assert_eq!(verifier.verify(&headers([("x-posthog-secret", bare)]), None, BODY), Ok(()));
    assert_eq!(verifier.verify_at(&signed(&v1(KEY, ID, TIME, BODY)), None, BODY, now()), Ok(()));
    // Too short for a key, so that only the shared secret is left of it.
    let short = PosthogVerifier::new(secrets(["c2hvcnQ="])).expect("a secret");
    assert_eq!(short.verify(&headers([("x-posthog-secret", "c2hvcnQ=")]), None, BODY), Ok(()));
    let signature = v1("c2hvcnQ=", ID, TIME, BODY);
    assert_eq!(short.verify_at(&signed(&signature), None, BODY, now()), Err(VerifyError::InvalidSignature));
}

#[test]
fn a_marked_secret_must_be_a_key() {
    for (secret, error) in
        [("whsec_AAAA", SecretError::TooShort), ("whsec_no!", SecretError::NotBase64), ("v1,whsec_no!", SecretError::NotBase64)]
    {
        assert_eq!(PosthogVerifier::new(secrets([SHARED, secret])).err(), Some(error), "{secret}");
    }
}
