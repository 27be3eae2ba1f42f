use loop_core::webhook::{SentryVerifier, VerifyError};

use super::{headers, hex_hmac, secrets};

const SECRET: &str = "sentry-test-client-secret";
const HOOK: &str = "Sentry-Hook-Signature";
const APP: &str = "Sentry-App-Signature";

/// As Sentry writes it: what is not ASCII escaped, a whole number of seconds as a float.
const BODY: &str = r#"{"action":"triggered","installation":{"uuid":"a8e5d37a-696c-4c54-adb5-b3f28d64c7de"},"data":{"event":{"timestamp":1662377139.0,"title":"Caf\u00e9 \ud83d\ude00"},"triggered_rule":"r"},"actor":{"type":"application","id":"sentry","name":"Sentry"}}"#;
const BODY_SIGNATURE: &str = "c269a0b05a2310fac92c90ad0c850a682c37d9745804ddf89e27317fcb94d0cc";

/// As JavaScript writes it again.
const REWRITTEN: &str = r#"{"action":"triggered","installation":{"uuid":"a8e5d37a-696c-4c54-adb5-b3f28d64c7de"},"data":{"event":{"timestamp":1662377139,"title":"Café 😀"},"triggered_rule":"r"},"actor":{"type":"application","id":"sentry","name":"Sentry"}}"#;
const REWRITTEN_SIGNATURE: &str = "98c488cccc65c53118769942a33bfd0be3ec7366865f51751654d64256eb53af";

const EMPTY_SIGNATURE: &str = "ee812637a3406f273b5a559320c3cc064a98d0ffefb5c754350a5e0e7a71d25c";
const BRACES_SIGNATURE: &str = "02f820e2c40eedffe68940098449593a1a5e27ec37ffed17a16b936939bc5cf8";

fn verifier() -> SentryVerifier {
    SentryVerifier::new(secrets([SECRET]))
}

fn hook(signature: &str, body: &[u8]) -> Result<(), VerifyError> {
    verifier().verify_hook(&headers([(HOOK, signature)]), body)
}

#[test]
fn known_answers() {
    assert_eq!(hook(BODY_SIGNATURE, BODY.as_bytes()), Ok(()));
    assert_eq!(hook(EMPTY_SIGNATURE, b""), Ok(()));
    assert_eq!(hook(BRACES_SIGNATURE, b"{}"), Ok(()));
    assert_eq!(verifier().verify_component(&headers([(APP, EMPTY_SIGNATURE)]), b""), Ok(()));
}

#[test]
fn only_the_bytes_on_the_wire_are_signed() {
    // The code of the rewritten body is right for that body, so what is refused is exactly the exchange of one for the other.
    assert_eq!(hook(REWRITTEN_SIGNATURE, REWRITTEN.as_bytes()), Ok(()));
    assert_eq!(hook(REWRITTEN_SIGNATURE, BODY.as_bytes()), Err(VerifyError::InvalidSignature));
    assert_eq!(hook(BODY_SIGNATURE, REWRITTEN.as_bytes()), Err(VerifyError::InvalidSignature));
    for body in [format!("{BODY}\n"), format!(" {BODY}"), BODY.replace("\":", "\": "), BODY.replace("00e9", "00E9")] {
        assert_eq!(hook(BODY_SIGNATURE, body.as_bytes()), Err(VerifyError::InvalidSignature), "{body}");
    }
}

#[test]
fn a_signed_part_does_not_vouch_for_the_whole() {
    let part = r#"{"event":{"title":"real"}}"#;
    let envelope = format!(r#"{{"action":"forged","data":{part}}}"#);
    assert_eq!(hook(&hex_hmac(SECRET, part.as_bytes()), envelope.as_bytes()), Err(VerifyError::InvalidSignature));
}

#[test]
fn only_nothing_is_empty() {
    for body in ["{}", " ", "\n", " { } ", "null", "\"\""] {
        assert_eq!(hook(EMPTY_SIGNATURE, body.as_bytes()), Err(VerifyError::InvalidSignature), "{body:?}");
        let component = verifier().verify_component(&headers([(APP, EMPTY_SIGNATURE)]), body.as_bytes());
        assert_eq!(component, Err(VerifyError::InvalidSignature), "{body:?}");
    }
    assert_eq!(hook(BRACES_SIGNATURE, b""), Err(VerifyError::InvalidSignature));
}

#[test]
fn each_route_has_its_header() {
    let (hook, app) = (headers([(HOOK, BODY_SIGNATURE)]), headers([(APP, BODY_SIGNATURE)]));
    let body = BODY.as_bytes();
    assert_eq!(verifier().verify_hook(&hook, body), Ok(()));
    assert_eq!(verifier().verify_hook(&app, body), Err(VerifyError::MissingSignature));
    assert_eq!(verifier().verify_component(&app, body), Ok(()));
    assert_eq!(verifier().verify_component(&hook, body), Err(VerifyError::MissingSignature));
    assert_eq!(verifier().verify_hook(&headers::<&str>([]), body), Err(VerifyError::MissingSignature));
}

#[test]
fn two_headers_must_agree() {
    let body = BODY.as_bytes();
    let both = |hook, app| headers([(HOOK, hook), (APP, app)]);
    assert_eq!(verifier().verify_hook(&both(BODY_SIGNATURE, BODY_SIGNATURE), body), Ok(()));
    assert_eq!(verifier().verify_component(&both(BODY_SIGNATURE, BODY_SIGNATURE), body), Ok(()));
    for other in [REWRITTEN_SIGNATURE, EMPTY_SIGNATURE, "", "no signature"] {
        assert_eq!(verifier().verify_hook(&both(BODY_SIGNATURE, other), body), Err(VerifyError::InvalidSignature), "{other:?}");
        assert_eq!(verifier().verify_component(&both(other, BODY_SIGNATURE), body), Err(VerifyError::InvalidSignature), "{other:?}");
    }
    let twice = headers([(HOOK, BODY_SIGNATURE), (APP, BODY_SIGNATURE), (APP, BODY_SIGNATURE)]);
    assert_eq!(verifier().verify_hook(&twice, body), Err(VerifyError::InvalidSignature));
}

#[test]
fn a_duplicate_in_another_case_is_refused() {
    for second in [BODY_SIGNATURE, "0"] {
        let twice = headers([(HOOK, BODY_SIGNATURE), ("sentry-hook-signature", second)]);
        assert_eq!(verifier().verify_hook(&twice, BODY.as_bytes()), Err(VerifyError::InvalidSignature));
    }
}

#[test]
fn garbled_signatures_are_refused() {
    let upper = BODY_SIGNATURE.to_uppercase();
    let long = BODY_SIGNATURE.repeat(500);
    let prefixed = format!("sha256={BODY_SIGNATURE}");
    for value in ["", "0", &BODY_SIGNATURE[..62], &upper, &long, &prefixed, &"ü".repeat(32), "\u{2603}"] {
        assert_eq!(hook(value, BODY.as_bytes()), Err(VerifyError::InvalidSignature), "{value}");
    }
    let bytes = headers([(HOOK, [0xff_u8; 64])]);
    assert_eq!(verifier().verify_hook(&bytes, BODY.as_bytes()), Err(VerifyError::InvalidSignature));
}

#[test]
fn any_of_several_secrets_signs_any_bytes() {
    let verifier = SentryVerifier::new(secrets(["old", SECRET, "new"]));
    let body = b"\xff\xfe{";
    for secret in ["old", SECRET, "new"] {
        assert_eq!(verifier.verify_hook(&headers([(HOOK, hex_hmac(secret, body))]), body), Ok(()), "{secret}");
    }
    let other = headers([(HOOK, hex_hmac("other", body))]);
    assert_eq!(verifier.verify_hook(&other, body), Err(VerifyError::InvalidSignature));
}

#[test]
fn unsigned_headers_make_no_difference() {
    let mut headers = headers([(HOOK, BODY_SIGNATURE)]);
    headers.insert("sentry-hook-timestamp", "0".parse().expect("a value"));
    headers.insert("sentry-hook-resource", "anything".parse().expect("a value"));
    assert_eq!(verifier().verify_hook(&headers, BODY.as_bytes()), Ok(()));
}
