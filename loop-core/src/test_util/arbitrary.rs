//! Inputs that nobody thought of: JSON, what is nearly JSON, and bytes.
//!
//! How many are tried is said by `PROPTEST_CASES`, which is 256 where it is not set: [`check`] tries its own number of cases for 256, and in
//! proportion for any other. What failed once is written to a file beside the tests, and tried first from then on.

use std::fmt::Debug;

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

/// Tries a property on this many inputs. It holds unless it panics; then the smallest input is told that still makes it panic.
///
/// # Panics
///
/// When the property does not hold.
#[track_caller]
pub fn check<S: Strategy<Value: Debug>>(cases: u32, inputs: &S, property: impl Fn(S::Value)) {
    let asked = Config::default();
    let cases = u64::from(cases) * u64::from(asked.cases) / 256;
    let config = Config {
        cases: u32::try_from(cases).unwrap_or(u32::MAX).max(1),
        source_file: Some(std::panic::Location::caller().file()),
        ..asked
    };
    let tried = TestRunner::new(config).run(inputs, |input| {
        property(input);
        Ok(())
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}

/// A number as JSON spells it, the extreme ones included.
fn number() -> impl Strategy<Value = String> {
    const ODD: &[&str] = &[
        "0",
        "-0",
        "1e400",
        "-1e-400",
        "1e-9999",
        "1e-16384",
        "1e99999",
        "0e99999999999999999999",
        "9223372036854775808",
        "0.1e1",
        "1E+2",
    ];
    prop_oneof![proptest::sample::select(ODD).prop_map(str::to_owned), "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,6})?"]
}

/// A string as JSON spells it: any text, controls and halves of surrogates escaped, and now and then a long one.
fn string() -> impl Strategy<Value = String> {
    let escape = proptest::sample::select(
        &["\\u0000", "\\ud83d\\ude00", "\\n", "\\\"", "\\\\", "\\u202e", "\\u001b[2J", "\u{1f600}", "\u{301}"][..],
    );
    let written = |text: String| serde_json::Value::String(text).to_string();
    prop_oneof![
        6 => any::<String>().prop_map(written),
        2 => "[a-z0-9_%. -]{0,12}".prop_map(written),
        2 => proptest::collection::vec(escape, 0..6).prop_map(|parts| format!("\"{}\"", parts.concat())),
        1 => (any::<char>(), 150_usize..900).prop_map(move |(char, times)| written(char.to_string().repeat(times))),
        1 => Just("\"\\ud800\"".to_owned()),
    ]
}

/// A JSON text: any value, some of them with members of these names, some of them too deep.
pub fn json(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        1 => proptest::sample::select(&["null", "true", "false", "{}", "[]"][..]).prop_map(str::to_owned),
        2 => number(),
        3 => string(),
    ];
    let name = move || prop_oneof![8 => proptest::sample::select(names).prop_map(|name| format!("\"{name}\"")), 1 => string()];
    let value = leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..8).prop_map(|items| format!("[{}]", items.join(","))),
            3 => proptest::collection::vec((name(), inner), 0..8).prop_map(|members| {
                let members: Vec<_> = members.into_iter().map(|(name, value)| format!("{name} : {value}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    });
    prop_oneof![
        20 => value.clone(),
        1 => (value, 100_usize..200).prop_map(|(inner, depth)| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth))),
    ]
}

/// Bytes that may be JSON: it as it is, broken in a few places, or anything at all.
pub fn near_json(names: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let broken =
        (json(names), proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..5)).prop_map(|(text, breaks)| {
            let mut bytes = text.into_bytes();
            for (place, byte, how) in breaks {
                let place = place.index(bytes.len() + 1);
                match how {
                    0 => bytes.insert(place, byte),
                    1 => bytes.truncate(place),
                    _ => {
                        if let Some(found) = bytes.get_mut(place) {
                            *found ^= byte;
                        }
                    }
                }
            }
            bytes
        });
    prop_oneof![
        4 => json(names).prop_map(String::into_bytes),
        2 => broken,
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

/// Any value that a header can have, of a length in this range.
pub fn header_value(length: std::ops::Range<usize>) -> impl Strategy<Value = http::HeaderValue> {
    let byte = prop_oneof![20 => 0x20_u8..0x7f, 1 => 0x80_u8..=0xff, 1 => Just(b'\t')];
    proptest::collection::vec(byte, length).prop_filter_map("a header's value", |bytes| http::HeaderValue::from_bytes(&bytes).ok())
}
