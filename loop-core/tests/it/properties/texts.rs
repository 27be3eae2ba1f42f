//! What is parsed from text: it is refused, or what comes of it keeps its promises.

use chrono::SecondsFormat;
use loop_core::{
    Cursor, DeliveryKey, Fingerprint, IssueFilter, IssueId, IssueSort, LabelName, LoopStore, PageRequest, Search, Slug, Timestamp, Title,
    test_util::arbitrary::check, webhook::Secrets,
};
use postgres_types::{FromSql as _, Type};
use proptest::prelude::*;

use super::check_store;
use crate::support::{Problem, issue, problem};

#[test]
fn texts_keep_to_their_limits() {
    let texts = prop_oneof![any::<String>(), (any::<char>(), 90_usize..1100).prop_map(|(char, times)| char.to_string().repeat(times))];
    check(2000, &texts, |text| {
        let chars = text.chars().count();
        let fits = |max: usize| (1..=max).contains(&chars) && !text.contains('\0');
        assert_eq!(text.parse::<Title>().is_ok(), fits(500));
        assert_eq!(text.parse::<LabelName>().is_ok(), fits(100));
        assert_eq!(text.parse::<Fingerprint>().is_ok(), fits(200));
        assert_eq!(text.parse::<Search>().is_ok(), chars <= 1000 && !text.contains('\0'));
        let _ = (text.parse::<Slug>(), text.parse::<IssueId>(), DeliveryKey::named(&text), Secrets::from_comma_separated(&text));
    });
}

#[test]
fn a_time_is_written_as_it_is_read() {
    let written = "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-6][0-9](\\.[0-9]{1,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})";
    check(4000, &prop_oneof![any::<String>(), written.prop_map(|text| text)], |text| {
        if let Ok(time) = text.parse::<Timestamp>() {
            assert_eq!(time.to_string().parse(), Ok(time));
            assert_eq!(Timestamp::from_millis(time.as_millis()), Some(time));
        }
    });
    let (first, last) = (-62_135_596_800_000, 253_402_300_799_999);
    assert_eq!(
        [first, last].map(|millis| Timestamp::from_millis(millis).unwrap().to_string()),
        ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"]
    );
    assert_eq!([first - 1, last + 1].map(Timestamp::from_millis), [None; 2]);
    check(4000, &(first..=last), |millis| {
        let time = Timestamp::from_millis(millis).unwrap();
        assert_eq!((time.as_millis(), time.to_string().parse()), (millis, Ok(time)));
    });
    // A database of somebody else's may hold any that PostgreSQL knows.
    let years = prop_oneof![-4712..=10_000_i64, 9990..=10_010_i64, -2..=2_i64, 1900..=2100_i64, 10_000..=260_000_i64];
    let since_2000 = (years, 0..366 * 86_400_000_i64).prop_map(|(year, millis)| ((year - 2000) * 31_556_952_000 + millis) * 1000);
    check(4000, &since_2000, |micros| {
        let time = Timestamp::from_sql(&Type::TIMESTAMPTZ, &micros.to_be_bytes()).unwrap();
        assert_eq!(time.to_string(), time.as_datetime().to_rfc3339_opts(SecondsFormat::Millis, true));
    });
}

/// A password that is written as it must be is in no error, and one that is not makes no panic.
#[test]
fn connection_strings_tell_no_password() {
    let rest = "[a-z0-9.:,/?=&%@' \\\\_-]{0,40}";
    check(4000, &("[a-zA-Z0-9 @:/?#&%='\\\\+]{0,10}", rest, rest, any::<String>()), |(odd, before, after, anything)| {
        let password = format!("hunter2{odd}hunter2");
        let escaped: String = form_urlencoded(&password);
        let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
        for text in [
            anything.clone(),
            format!("postgres://{anything}"),
            format!("postgres://{before}:{escaped}@{after}"),
            format!("postgres://u:{escaped}@h/d?{after}"),
            format!("postgres://h/d?{before}&password={escaped}&{after}"),
            format!("{before} password='{quoted}' {after}"),
            format!("host=h password='{quoted}' {after}"),
            format!("postgres://u:{password}@{after}"),
        ] {
            // What cannot be read is a file; what this says of TLS may name one that is not there.
            if let Err(error) = LoopStore::builder(text.as_str()).check() {
                let told = format!("{error} {error:?}");
                assert!(!told.contains("hunter2"), "{text:?} makes {told:?}");
            }
        }
    });
}

/// As in a URL, where `+` is a plus.
fn form_urlencoded(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[test]
fn a_cursor_is_malformed_or_gives_a_page() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let sorts: Vec<_> = IssueSort::WORDS.to_vec();
    let near =
        (proptest::sample::select(sorts.clone()), prop_oneof![Just("|".to_owned()), "[|0-9a-z-]{0,3}"], any::<i64>(), "[a-z0-9]{0,30}")
            .prop_map(|(word, bar, key, id)| URL_SAFE_NO_PAD.encode(format!("{word}{bar}{key}|{id}")));
    let texts = prop_oneof![2 => near, 1 => any::<String>(), 1 => "[A-Za-z0-9_-]{0,60}"];
    check_store(500, &(texts, proptest::sample::select(sorts)), async |store, (text, sort)| {
        let Ok(cursor) = Cursor::parse(&text) else { return };
        issue(store, "One").await;
        let filter = IssueFilter::default().with_sort(sort.parse().unwrap());
        let page = store.issues().list(&filter, &PageRequest::after(cursor)).await;
        if page.is_err() {
            assert_eq!(problem(page), Problem::MalformedCursor);
        }
    });
}
