use loop_core::webhook::{GithubVerifier, PosthogVerifier, SecretError, Secrets, StandardWebhooks, VerifyError};

use super::{headers, hex_hmac, secrets};

#[test]
fn no_secret_or_an_empty_one_is_refused() {
    assert_eq!(Secrets::new(Vec::<String>::new()).err(), Some(SecretError::Missing));
    for blank in ["", " ", "\t\n", "\u{a0}"] {
        assert_eq!(Secrets::new([blank]).err(), Some(SecretError::Empty), "{blank:?}");
        assert_eq!(Secrets::new(["real", blank]).err(), Some(SecretError::Empty), "{blank:?} beside a real one");
    }
    assert!(Secrets::new([vec![0xff, 0xfe]]).is_ok(), "a secret need not be text");
}

#[test]
fn a_comma_separated_list_is_trimmed_and_must_have_no_gap() {
    for (text, error) in [
        ("", SecretError::Missing),
        ("  \n", SecretError::Missing),
        (",", SecretError::Empty),
        ("a,", SecretError::Empty),
        (",a", SecretError::Empty),
        ("a,,b", SecretError::Empty),
        ("a, ,b", SecretError::Empty),
    ] {
        assert_eq!(Secrets::from_comma_separated(text).err(), Some(error), "{text:?}");
    }
    let verifier = GithubVerifier::new(Secrets::from_comma_separated(" old , new value\n").expect("two"));
    for (secret, result) in [("old", Ok(())), ("new value", Ok(())), (" old ", Err(VerifyError::InvalidSignature))] {
        let headers = headers([("x-hub-signature-256", format!("sha256={}", hex_hmac(secret, b"{}")))]);
        assert_eq!(verifier.verify(&headers, b"{}"), result, "{secret:?}");
    }
}

#[test]
fn a_versioned_signing_key_in_a_list_is_one_secret() {
    let key = "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let verifier = PosthogVerifier::new(
        Secrets::from_comma_separated(&format!("shared,{key}, v1 , whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")).expect("three"),
    );
    let verifier = verifier.expect("keys");
    let verify = |secret: &str| verifier.verify(&headers([("x-posthog-secret", secret)]), None, b"{}");
    assert_eq!(verify("shared"), Ok(()));
    assert_eq!(verify("v1"), Err(VerifyError::InvalidSecret), "the version must not become a secret that anyone knows");
}

#[test]
fn secrets_are_used_as_they_are_otherwise() {
    let verifier = GithubVerifier::new(secrets([" spaced "]));
    let signed = |secret| headers([("x-hub-signature-256", format!("sha256={}", hex_hmac(secret, b"{}")))]);
    assert_eq!(verifier.verify(&signed(" spaced "), b"{}"), Ok(()));
    assert_eq!(verifier.verify(&signed("spaced"), b"{}"), Err(VerifyError::InvalidSignature));
}

#[test]
fn nothing_prints_a_secret() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let all = secrets([secret, "hush-hush"]);
    let printed = [
        format!("{all:?}"),
        format!("{:?}", GithubVerifier::new(all.clone())),
        format!("{:?}", loop_core::webhook::SentryVerifier::new(all.clone())),
        format!("{:?}", StandardWebhooks::new(secrets([secret]))),
        format!("{:?}", PosthogVerifier::new(all)),
    ];
    for text in printed {
        assert!(!text.contains("MfKQ") && !text.contains("hush") && !text.contains("104, 117"), "{text}");
    }
}

#[test]
fn missing_is_told_from_invalid() {
    for (error, missing) in [
        (VerifyError::MissingSignature, true),
        (VerifyError::MissingSecret, true),
        (VerifyError::InvalidSignature, false),
        (VerifyError::InvalidSecret, false),
        (VerifyError::TimestampOutOfTolerance, false),
    ] {
        assert_eq!(error.is_missing(), missing, "{error}");
    }
}
