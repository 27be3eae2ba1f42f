//! Points in time as they are stored and sent: UTC, to the millisecond.

use std::{fmt, ops::Range, str::FromStr};

use chrono::{DateTime, Datelike as _, SecondsFormat, SubsecRound as _, Timelike as _, Utc};
use postgres_types::{IsNull, ToSql, Type};

/// Why a string is not a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Must be a date and time as in RFC 3339, such as 2026-01-31T12:00:00.000Z")]
pub struct InvalidTimestamp;

/// A point in time in UTC, to the millisecond (PostgreSQL's `timestamptz(3)`; RFC 3339 on the wire), in the years 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = DateTime))]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// This moment.
    pub fn now() -> Self {
        Self(Utc::now().trunc_subsecs(3))
    }

    /// The same point in time for arithmetic.
    pub const fn as_datetime(&self) -> DateTime<Utc> {
        self.0
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(&self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The point in time that many milliseconds after 1970, if it is within the years 1 to 9999.
    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis)?.try_into().ok()
    }
}

impl TryFrom<DateTime<Utc>> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(time: DateTime<Utc>) -> Result<Self, InvalidTimestamp> {
        // By way of the milliseconds, so that a leap second becomes the second after it, as it does in the database.
        let time = DateTime::from_timestamp_millis(time.timestamp_millis()).ok_or(InvalidTimestamp)?;
        if (1..=9999).contains(&time.year()) { Ok(Self(time)) } else { Err(InvalidTimestamp) }
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp)?.to_utc().try_into()
    }
}

impl Timestamp {
    /// Gives its text to somebody. Each digit is put in its place: by way of `chrono` it takes several times as long, and a list of issues
    /// has more than a hundred.
    fn with_text<T>(&self, give: impl FnOnce(&str) -> T) -> T {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |places: Range<usize>, mut number: u32| {
            for digit in text[places].iter_mut().rev() {
                *digit += u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
        };
        let (date, time) = (self.0.date_naive(), self.0.time());
        let year = u32::try_from(date.year()).ok().filter(|year| *year <= 9999);
        let parts = [(5..7, date.month()), (8..10, date.day()), (11..13, time.hour()), (14..16, time.minute()), (17..19, time.second())];
        put(0..4, year.unwrap_or_default());
        for (places, number) in parts {
            put(places, number);
        }
        put(20..23, time.nanosecond() / 1_000_000);
        match str::from_utf8(&text) {
            Ok(text) if year.is_some() => give(text),
            // Nobody but a database of somebody else's has such years.
            _ => give(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true)),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl ToSql for Timestamp {
    fn to_sql(&self, ty: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <DateTime<Utc> as ToSql>::accepts(ty)
    }

    postgres_types::to_sql_checked!();
}

impl<'a> postgres_types::FromSql<'a> for Timestamp {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        DateTime::from_sql(ty, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        <DateTime<Utc> as postgres_types::FromSql>::accepts(ty)
    }
}

impl crate::store::Param for Timestamp {
    const TYPE: Type = Type::TIMESTAMPTZ;
    const ARRAY: Type = Type::TIMESTAMPTZ_ARRAY;
}
