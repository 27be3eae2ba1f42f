//! JSON that is stored as it came, without a tree of values in between.

mod part;
mod tokens;

use std::{fmt, str::FromStr};

use memchr::memmem;
use postgres_types::{IsNull, ToSql, Type};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

pub(crate) use self::part::Part;
use self::tokens::{Tokens, deeper};

/// Why a text is not a JSON object that can be stored.
#[derive(Debug, thiserror::Error)]
pub enum InvalidJson {
    /// Not JSON, or nested deeper than 127 levels.
    #[error("Must be JSON: {0}")]
    Syntax(serde_json::Error),
    /// JSON, but not an object.
    #[error("Must be a JSON object")]
    NotAnObject,
    /// A key or a string holds U+0000, which PostgreSQL's JSON cannot.
    #[error("Must not contain NUL characters")]
    Nul,
    /// A number is written with more decimal places than PostgreSQL's JSON can hold, if only as a negative exponent.
    #[error("Must not contain numbers with more than {MAX_PLACES} decimal places")]
    Places,
    /// The numbers take far more room written out, as PostgreSQL writes them, than they were sent in: `1e-9999` is ten thousand digits.
    #[error("Must not contain numbers that take more than {MAX_GROWTH} characters more when they are written without exponents")]
    Growth,
}

/// How deep JSON may be nested for its reader, which each level takes a piece of the stack.
const MAX_DEPTH: usize = 127;
/// The most decimal places of PostgreSQL's `numeric`, which numbers in its JSON are.
const MAX_PLACES: i64 = 16_383;
/// How much longer than it was sent a payload may come back. Without a limit, a megabyte could be stored that becomes a gigabyte when it is
/// read, which is more than the database can answer.
const MAX_GROWTH: usize = 64 << 10;

/// A JSON object, kept as the text that came: numbers keep their digits and keys their order until the database normalises them.
///
/// Holding one proves that it is an object, nested at most 127 deep, without NUL characters, and with numbers that can be stored.
#[derive(Clone)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = Object))]
pub struct JsonObject(Box<RawValue>);

impl JsonObject {
    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Reads the object as `T`.
    ///
    /// # Errors
    ///
    /// Whatever `T`'s own deserialization finds wrong.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// For `deserialize_with`: what is stored was checked before, and is not checked again, since PostgreSQL may spell a number so that it
    /// looks too large.
    pub(crate) fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }

    /// Whether what is JSON already is an object that can be stored. Nearly all is read in one pass over its tokens; where that leaves a doubt,
    /// the reader settles it that also says what is wrong, and where.
    fn check(raw: Box<RawValue>) -> Result<Self, InvalidJson> {
        let text = raw.get();
        if !text.starts_with('{') {
            return Err(InvalidJson::NotAnObject);
        }
        let (mut doubt, mut depth, mut growth) = (has_rare_escapes(text), 0, Ok(0));
        for token in Tokens::of(text) {
            match token.as_bytes() {
                [b'{' | b'[' | b'}' | b']', ..] => {
                    depth = deeper(depth, token);
                    doubt |= depth > MAX_DEPTH;
                }
                [b'-' | b'0'..=b'9', ..] if !is_plain(token) => {
                    doubt |= walk(token).is_err();
                    growth = growth.and_then(|growth| {
                        let written = written_out(token).ok_or(InvalidJson::Places)?;
                        Ok(growth + written.saturating_sub(token.len()))
                    });
                }
                _ => {}
            }
        }
        if doubt && walk(text).map_err(InvalidJson::Syntax)? {
            return Err(InvalidJson::Nul);
        }
        if growth? <= MAX_GROWTH { Ok(Self(raw)) } else { Err(InvalidJson::Growth) }
    }
}

/// Whether there may be an escape of U+0000, or of half a character without its other half. What looks like one may be text after an escaped
/// backslash.
fn has_rare_escapes(text: &str) -> bool {
    let text = text.as_bytes();
    let escape = |at: usize| text.get(at..at + 6).unwrap_or_default();
    let first_half = |at| matches!(escape(at), [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..]);
    let second_half = |at| matches!(escape(at), [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', ..]);
    let mut second = None;
    memmem::find_iter(text, b"\\u").any(|at| {
        if first_half(at) {
            second = Some(at + 6);
            let may_be_text = at.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'\\');
            may_be_text || !second_half(at + 6)
        } else {
            (second_half(at) && second != Some(at)) || escape(at) == b"\\u0000"
        }
    })
}

/// Whether a number is so short and without an exponent that it is finite, and takes no more room written out than it does.
fn is_plain(number: &str) -> bool {
    number.len() <= 300 && !number.bytes().any(|byte| matches!(byte, b'e' | b'E'))
}

/// Reads a JSON value without keeping it, and answers whether any key or string holds a NUL.
fn walk(text: &str) -> Result<bool, serde_json::Error> {
    let mut nul = false;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Walk(&mut nul).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(nul)
}

/// How many characters a number takes without an exponent, at most; nothing for one that cannot be stored.
fn written_out(number: &str) -> Option<usize> {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    // No number with a larger exponent is finite, but a zero may be written so.
    let exponent = exponent.parse::<i64>().ok().filter(|exponent| exponent.abs() <= MAX_PLACES)?;
    let places = i64::try_from(places.len()).ok()?.checked_sub(exponent)?;
    let whole = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    // No power of ten makes more digits of a zero.
    let whole = if digits.bytes().any(|digit| digit.is_ascii_digit() && digit != b'0') { whole.max(1) } else { 1 };
    let point = i64::from(places > 0);
    let length = whole + point + places.max(0);
    if places <= MAX_PLACES { usize::try_from(length).ok() } else { None }
}

/// Whether `text` is one JSON value, nested at most 127 deep, with only valid strings.
///
/// # Errors
///
/// Where and why it is not.
pub fn check_syntax(text: &str) -> Result<(), serde_json::Error> {
    walk(text).map(drop)
}

impl FromStr for JsonObject {
    type Err = InvalidJson;

    fn from_str(text: &str) -> Result<Self, InvalidJson> {
        let raw: &RawValue = serde_json::from_str(text).map_err(InvalidJson::Syntax)?;
        Self::check(raw.to_owned())
    }
}

impl TryFrom<serde_json::Value> for JsonObject {
    type Error = InvalidJson;

    fn try_from(value: serde_json::Value) -> Result<Self, InvalidJson> {
        Self::check(serde_json::value::to_raw_value(&value).map_err(InvalidJson::Syntax)?)
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        Self(RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

/// Equal as JSON, whatever the spelling.
impl PartialEq for JsonObject {
    fn eq(&self, other: &Self) -> bool {
        let value = |object: &Self| object.read::<serde_json::Value>().ok();
        self.as_str() == other.as_str() || value(self) == value(other)
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads may hold what must not reach a log.
        write!(f, "JsonObject({} bytes)", self.as_str().len())
    }
}

impl Serialize for JsonObject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::check(Box::<RawValue>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl ToSql for JsonObject {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        // The binary form of jsonb: a version, which is 1, and the text.
        out.extend_from_slice(&[1]);
        out.extend_from_slice(self.as_str().as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    postgres_types::to_sql_checked!();
}

impl<'a> postgres_types::FromSql<'a> for JsonObject {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        postgres_types::Json::<Box<RawValue>>::from_sql(ty, raw).map(|json| Self(json.0))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

impl crate::store::Param for JsonObject {
    const TYPE: Type = Type::JSONB;
    const ARRAY: Type = Type::JSONB_ARRAY;
}

/// Walks a JSON value without keeping it, and notes whether any key or string holds a NUL.
struct Walk<'a>(&'a mut bool);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_borrowed_str<E>(self, _: &'de str) -> Result<(), E> {
        // A NUL is written as an escape, and what has escapes is not borrowed.
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        *self.0 |= text.contains('\0');
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Walk(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Walk(self.0))?.is_some() {
            map.next_value_seed(Walk(self.0))?;
        }
        Ok(())
    }
}
