use loop_core::webhook::{GithubVerifier, VerifyError};

use super::{headers, hex_hmac, secrets};

const SECRET: &str = "It's a Secret to Everybody";
const HELLO: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn verify(signature: impl AsRef<[u8]>, body: &[u8]) -> Result<(), VerifyError> {
    GithubVerifier::new(secrets([SECRET])).verify(&headers([("X-Hub-Signature-256", signature)]), body)
}

#[test]
fn known_answers() {
    let answers: [(&[u8], &str); 5] = [
        // The one that GitHub documents; the others were computed apart from this library.
        (b"Hello, World!", HELLO),
        ("{\"zen\":\"Café ☃\",\"hook_id\":1}".as_bytes(), "650b2831946a5783665ba7bcbd6ab5c29b72a593c3703659df169043c453a580"),
        (
            b"payload=%7B%22zen%22%3A%22Caf%C3%A9+%E2%98%83%22%2C%22hook_id%22%3A1%7D",
            "99e7bfd9c6f1a48c8a2f3a8d311431c0d79020b815f28900f3bb85efe0a8010c",
        ),
        (b"", "66a0c074deaa0f489ead6537e0d32f9a344b90bbeda705b6ed45ecd3b413fb40"),
        (b"\xff\xfe", "ef27d5131fb55930ff2e45e326d41474997a2475124f05fef83c9729e5b0b6c1"),
    ];
    for (body, signature) in answers {
        assert_eq!(verify(format!("sha256={signature}"), body), Ok(()), "{}", body.escape_ascii());
        let other = [body, b" "].concat();
        assert_eq!(verify(format!("sha256={signature}"), &other), Err(VerifyError::InvalidSignature), "{}", other.escape_ascii());
    }
}

#[test]
fn every_changed_bit_is_noticed() {
    let body = b"{\"action\":\"opened\"}";
    let signature = hex_hmac(SECRET, body);
    for bit in 0..body.len() * 8 {
        let mut changed = body.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(format!("sha256={signature}"), &changed), Err(VerifyError::InvalidSignature), "bit {bit} of the body");
    }
    let code = faster_hex::hex_decode_vec(signature.as_bytes()).expect("hexadecimal");
    for bit in 0..256 {
        let mut changed = code.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let signature = format!("sha256={}", faster_hex::hex_string(&changed));
        assert_eq!(verify(signature, body), Err(VerifyError::InvalidSignature), "bit {bit} of the signature");
    }
}

#[test]
fn every_digit_is_itself_and_nothing_else() {
    for (place, digit) in HELLO.bytes().enumerate() {
        let values = (b' '..=u8::MAX).filter(|byte| *byte != 0x7f).chain([b'\t']);
        let right: Vec<u8> = values
            .filter(|byte| {
                let mut signature = format!("sha256={HELLO}").into_bytes();
                signature["sha256=".len() + place] = *byte;
                verify(signature, b"Hello, World!").is_ok()
            })
            .collect();
        assert_eq!(right, [digit], "place {place}");
    }
}

#[test]
fn only_one_spelling_is_a_signature() {
    let wrong: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"sha256=".to_vec(),
        HELLO.into(),
        format!("sha256={}", &HELLO[..63]).into(),
        format!("sha256={}", &HELLO[..62]).into(),
        format!("sha256={HELLO}00").into(),
        format!("sha256={HELLO}0").into(),
        format!("sha256={}", HELLO.repeat(1000)).into(),
        format!("sha256={}", HELLO.to_uppercase()).into(),
        format!("SHA256={HELLO}").into(),
        format!("sha1={HELLO}").into(),
        format!("sha256:{HELLO}").into(),
        format!("sha256={HELLO}, sha256={HELLO}").into(),
        format!("sha256={HELLO},sha256={HELLO}").into(),
        format!("sha256={} ", &HELLO[..63]).into(),
        format!("sha256= {}", &HELLO[..63]).into(),
        format!("sha256=0x{}", &HELLO[2..]).into(),
        format!("sha256={}", "g".repeat(64)).into(),
        [b"sha256=", [0xe9; 64].as_slice()].concat(),
        [b"sha256=", "é".repeat(32).as_bytes()].concat(),
        vec![0xff; 71],
    ];
    for value in wrong {
        assert_eq!(verify(&value, b"Hello, World!"), Err(VerifyError::InvalidSignature), "{}", value.escape_ascii());
    }
}

#[test]
fn exactly_one_signature_is_expected() {
    let verifier = GithubVerifier::new(secrets([SECRET]));
    assert_eq!(verifier.verify(&headers([("x-github-event", "push")]), b"Hello, World!"), Err(VerifyError::MissingSignature));
    let good = format!("sha256={HELLO}");
    for second in [good.as_str(), "sha256=0", ""] {
        for pair in [[good.as_str(), second], [second, good.as_str()]] {
            let headers = headers(pair.map(|value| ("x-hub-signature-256", value)));
            assert_eq!(verifier.verify(&headers, b"Hello, World!"), Err(VerifyError::InvalidSignature), "{pair:?}");
        }
    }
}

#[test]
fn the_older_header_counts_for_nothing() {
    let verifier = GithubVerifier::new(secrets([SECRET]));
    let sha1 = ("x-hub-signature", "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59");
    assert_eq!(verifier.verify(&headers([sha1]), b"Hello, World!"), Err(VerifyError::MissingSignature));
    let wrong = ("x-hub-signature-256", "sha256=01dc10d0c83e72ed246219cdd91669667fe2ca59");
    assert_eq!(verifier.verify(&headers([sha1, wrong]), b"Hello, World!"), Err(VerifyError::InvalidSignature));
    let good = format!("sha256={HELLO}");
    let both = headers([("x-hub-signature", "sha1=00"), ("x-hub-signature-256", &good)]);
    assert_eq!(verifier.verify(&both, b"Hello, World!"), Ok(()));
}

#[test]
fn any_of_several_secrets_signs() {
    let body = b"{}";
    for secret in ["first", "second", "third"] {
        let headers = headers([("x-hub-signature-256", format!("sha256={}", hex_hmac(secret, body)))]);
        assert_eq!(GithubVerifier::new(secrets(["first", "second", "third"])).verify(&headers, body), Ok(()), "{secret}");
        assert_eq!(GithubVerifier::new(secrets(["fourth", "fifth"])).verify(&headers, body), Err(VerifyError::InvalidSignature));
    }
}

#[test]
fn the_key_is_the_secret_of_any_length_and_alphabet() {
    for secret in ["k".to_owned(), "k".repeat(63), "k".repeat(64), "k".repeat(65), "k".repeat(5000), "Schlüssel ☃".to_owned()] {
        let headers = headers([("x-hub-signature-256", format!("sha256={}", hex_hmac(&secret, b"{}")))]);
        assert_eq!(GithubVerifier::new(secrets([&secret])).verify(&headers, b"{}"), Ok(()), "{} bytes", secret.len());
    }
}

#[test]
fn the_signature_of_an_empty_secret_is_worth_nothing() {
    let empty = "sha256=2bbcfa9524f3218c7a34b30e6936f8b1a4516cb097f1a85a1c7d98b5977ec769";
    assert_eq!(verify(empty, b"Hello, World!"), Err(VerifyError::InvalidSignature));
}

#[test]
fn a_large_body_of_any_bytes_is_verified() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    assert_eq!(verify(format!("sha256={}", hex_hmac(SECRET, &body)), &body), Ok(()));
    assert_eq!(verify(format!("sha256={}", hex_hmac(SECRET, &body)), &body[1..]), Err(VerifyError::InvalidSignature));
}
