//! Points in time as they are stored and sent: UTC, to the millisecond.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike as _, SecondsFormat, SubsecRound as _, Utc};
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

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
