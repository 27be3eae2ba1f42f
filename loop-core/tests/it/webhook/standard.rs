use std::time::Duration;

use http::HeaderMap;
use loop_core::{
    Timestamp,
    webhook::{SecretError, Secrets, StandardWebhooks, VerifyError},
};

use super::{headers, secrets, v1};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const TIME: &str = "1614265330";
const BODY: &[u8] = b"{\"test\": 2432232314}";
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).expect("a time")
}

fn verifier() -> StandardWebhooks {
    StandardWebhooks::new(secrets([SECRET])).expect("a key")
}

fn signed(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
    headers([("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)])
}

fn verify(id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Result<(), VerifyError> {
    verifier().verify_at(&signed(id, timestamp, signature), body, at(1_614_265_330))
}

#[test]
fn known_answers() {
    // The first two are the specification's; the others were computed apart from this library.
    assert_eq!(verify(ID, TIME, SIGNATURE, BODY), Ok(()));
    let second = StandardWebhooks::new(secrets(["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"])).expect("a key");
    let headers = signed("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", "1649367553", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    assert_eq!(second.verify_at(&headers, body, at(1_649_367_553)), Ok(()));
    assert_eq!(verify(ID, TIME, "v1,v48jdbgvh29KJz2Qc+ghw8G6vG3nAKnujWBg8oM/62A=", b""), Ok(()));
    assert_eq!(verify(ID, TIME, "v1,bgyaR5cdXxpdecz2baa2/+mIQjB0Kq6VL3Vw5qukAOg=", b"\xff"), Ok(()));
}

#[test]
fn every_signed_part_is_noticed_when_changed() {
    let wrong = Err(VerifyError::InvalidSignature);
    assert_eq!(verify(ID, TIME, SIGNATURE, b"{\"test\":2432232314}"), wrong);
    assert_eq!(verify("msg_other", TIME, SIGNATURE, BODY), wrong);
    assert_eq!(verify(ID, "1614265331", SIGNATURE, BODY), wrong);
    assert_eq!(verify(ID, "01614265330", SIGNATURE, BODY), wrong, "the digits are signed, not the number");
}

#[test]
fn all_three_headers_are_needed_once() {
    let all = signed(ID, TIME, SIGNATURE);
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut without = all.clone();
        without.remove(name);
        assert_eq!(verifier().verify_at(&without, BODY, at(1_614_265_330)), Err(VerifyError::MissingSignature), "{name}");
        let mut twice = all.clone();
        twice.append(name, all[name].clone());
        assert_eq!(verifier().verify_at(&twice, BODY, at(1_614_265_330)), Err(VerifyError::InvalidSignature), "{name}");
    }
    assert_eq!(verifier().verify(&HeaderMap::new(), BODY), Err(VerifyError::MissingSignature));
}

#[test]
fn the_older_names_serve_when_the_new_are_absent() {
    let svix = headers([("svix-id", ID), ("svix-timestamp", TIME), ("svix-signature", SIGNATURE)]);
    assert_eq!(verifier().verify_at(&svix, BODY, at(1_614_265_330)), Ok(()));
    let mut both = svix.clone();
    both.extend(signed(ID, TIME, "v1,AAAA"));
    assert_eq!(verifier().verify_at(&both, BODY, at(1_614_265_330)), Err(VerifyError::InvalidSignature), "the specification's names win");
    let mixed = headers([("webhook-id", ID), ("svix-timestamp", TIME), ("svix-signature", SIGNATURE)]);
    assert_eq!(verifier().verify_at(&mixed, BODY, at(1_614_265_330)), Err(VerifyError::MissingSignature));
}

#[test]
fn garbled_signatures_never_match() {
    let (entry, code) = (SIGNATURE, &SIGNATURE[3..]);
    for list in [
        "",
        " ",
        ",",
        "v1",
        "v1,",
        "v1,=",
        "v1, ",
        code,
        &entry[..entry.len() - 1],
        &entry[..entry.len() - 4],
        &entry[..10],
        &format!("{entry}AAAA"),
        &format!("v2,{code}"),
        &format!("V1,{code}"),
        &format!("v1:{code}"),
        &format!("v1,v1,{code}"),
        &format!("v1a,{code}"),
        &format!("{entry},{entry}"),
        &entry.replace('/', "_").replace('+', "-"),
        // The same 32 bytes but for the bits that the padding leaves over.
        &entry.replace("OE=", "OF="),
        &format!("v1,{}", "A".repeat(50_000)),
        &"v1, ".repeat(5_000),
        "v1,é",
        "v1,☃☃☃☃☃☃☃☃☃☃☃☃☃☃aa",
    ] {
        assert_eq!(verify(ID, TIME, list, BODY), Err(VerifyError::InvalidSignature), "{}", list.chars().take(80).collect::<String>());
    }
}

#[test]
fn one_right_entry_of_a_list_is_enough() {
    let public = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    let wrong = v1("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", ID, TIME, BODY);
    for list in [
        format!("{SIGNATURE} {wrong}"),
        format!("{wrong} {SIGNATURE}"),
        format!("{public} v9,x nonsense  {SIGNATURE} "),
        format!("{SIGNATURE} {SIGNATURE}"),
    ] {
        assert_eq!(verify(ID, TIME, &list, BODY), Ok(()), "{list}");
    }
    for list in [public.to_owned(), format!("{public} {wrong}")] {
        assert_eq!(verify(ID, TIME, &list, BODY), Err(VerifyError::InvalidSignature), "{list}");
    }
}

#[test]
fn ids_with_dots_and_times_that_are_not_digits_are_refused() {
    // Both pairs sign the same text, `a.1.2.x`.
    for (id, timestamp, body) in [("a", "1", "2.x"), ("a.1", "2", "x")] {
        let headers = signed(id, timestamp, &v1(SECRET, id, timestamp, body.as_bytes()));
        let result = verifier().verify_at(&headers, body.as_bytes(), at(1));
        assert_eq!(result, if id == "a" { Ok(()) } else { Err(VerifyError::InvalidSignature) }, "{id}");
    }
    for id in ["", ".", "msg.1", "é"] {
        assert_eq!(verify(id, TIME, &v1(SECRET, id, TIME, BODY), BODY), Err(VerifyError::InvalidSignature), "{id:?}");
    }
    for time in
        ["", "+1614265330", "-1614265330", "1614265330.0", "0x60379fb2", "1e9", "1614265330 ", "now", "１６", "-9223372036854775808"]
    {
        assert_eq!(verify(ID, time, &v1(SECRET, ID, time, BODY), BODY), Err(VerifyError::InvalidSignature), "{time:?}");
    }
}

#[test]
fn the_time_may_differ_by_the_tolerance_in_both_directions() {
    let headers = signed(ID, TIME, SIGNATURE);
    let verify = |verifier: &StandardWebhooks, offset: i64| verifier.verify_at(&headers, BODY, at(1_614_265_330 + offset));
    let old = Err(VerifyError::TimestampOutOfTolerance);
    for (offset, result) in
        [(0, Ok(())), (300, Ok(())), (-300, Ok(())), (301, old), (-301, old), (1_000_000_000, old), (-1_614_265_330, old)]
    {
        assert_eq!(verify(&verifier(), offset), result, "{offset}");
    }
    let strict = verifier().with_tolerance(Duration::ZERO);
    assert_eq!((verify(&strict, 0), verify(&strict, 1)), (Ok(()), old));
    assert_eq!(verify(&verifier().with_tolerance(Duration::MAX), 5_000_000_000), Ok(()));
    assert_eq!(verify(&verifier().with_tolerance(Duration::MAX), -60_000_000_000), Ok(()), "a clock before 1970");
}

#[test]
fn extreme_times_are_just_out_of_tolerance() {
    let huge = "9".repeat(10_000);
    for time in ["0", "18446744073709551615", "18446744073709551616", "9223372036854775807", &huge] {
        let headers = signed(ID, time, &v1(SECRET, ID, time, BODY));
        for now in [1_614_265_330, 253_402_300_799] {
            assert_eq!(verifier().verify_at(&headers, BODY, at(now)), Err(VerifyError::TimestampOutOfTolerance), "{time:.30} at {now}");
        }
    }
    // The age of a delivery that is not authentic is nobody's business.
    assert_eq!(verify(ID, "1", SIGNATURE, BODY), Err(VerifyError::InvalidSignature));
}

#[test]
fn the_clock_of_the_system_is_the_default() {
    let now = (Timestamp::now().as_millis() / 1000).to_string();
    assert_eq!(verifier().verify(&signed(ID, &now, &v1(SECRET, ID, &now, BODY)), BODY), Ok(()));
    assert_eq!(verifier().verify(&signed(ID, TIME, SIGNATURE), BODY), Err(VerifyError::TimestampOutOfTolerance));
}

#[test]
fn any_of_several_keys_signs() {
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let third = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let both = StandardWebhooks::new(secrets([SECRET, other])).expect("keys");
    for (secret, result) in [(SECRET, Ok(())), (other, Ok(())), (third, Err(VerifyError::InvalidSignature))] {
        let headers = signed(ID, TIME, &v1(secret, ID, TIME, BODY));
        assert_eq!(both.verify_at(&headers, BODY, at(1_614_265_330)), result, "{secret}");
    }
}

#[test]
fn keys_are_understood_in_every_usual_spelling() {
    for spelling in
        ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    {
        let verifier = StandardWebhooks::new(secrets([spelling])).expect("a key");
        assert_eq!(verifier.verify_at(&signed(ID, TIME, SIGNATURE), BODY, at(1_614_265_330)), Ok(()), "{spelling}");
    }
    // 25 bytes, whose Base64 is padded.
    let padded = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA==";
    let headers = signed(ID, TIME, &v1(padded, ID, TIME, BODY));
    for spelling in [padded, padded.trim_end_matches('=')] {
        let verifier = StandardWebhooks::new(secrets([spelling])).expect("a key");
        assert_eq!(verifier.verify_at(&headers, BODY, at(1_614_265_330)), Ok(()), "{spelling}");
    }
}

#[test]
fn keys_that_cannot_be_are_refused_at_construction() {
    for (secret, error) in [
        ("whsec_", SecretError::TooShort),
        ("whsec_AAAA", SecretError::TooShort),
        ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=", SecretError::TooShort),
        ("whsec_not base64!", SecretError::NotBase64),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", SecretError::NotBase64),
        ("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=", SecretError::NotBase64),
        ("Schlüssel", SecretError::NotBase64),
    ] {
        assert_eq!(StandardWebhooks::new(secrets([secret])).err(), Some(error), "{secret}");
        assert_eq!(StandardWebhooks::new(secrets([SECRET, secret])).err(), Some(error), "{secret} beside a good one");
    }
}

#[test]
fn raw_secrets_are_keys_as_they_are() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    // A sender that uses the text of its secret, mark included, instead of what it spells.
    let code = super::hmac(SECRET.as_bytes(), &[ID.as_bytes(), b".", TIME.as_bytes(), b".", BODY].concat());
    let headers = signed(ID, TIME, &format!("v1,{}", STANDARD.encode(code)));
    let raw = StandardWebhooks::from_raw(secrets([SECRET]));
    assert_eq!(raw.verify_at(&headers, BODY, at(1_614_265_330)), Ok(()));
    assert_eq!(verifier().verify_at(&headers, BODY, at(1_614_265_330)), Err(VerifyError::InvalidSignature));
    let key = STANDARD.decode(&SECRET[6..]).expect("Base64");
    let bytes = StandardWebhooks::from_raw(Secrets::new([key]).expect("a secret"));
    assert_eq!(bytes.verify_at(&signed(ID, TIME, SIGNATURE), BODY, at(1_614_265_330)), Ok(()));
}
