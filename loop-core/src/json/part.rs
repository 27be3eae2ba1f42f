//! Reading a few parts of a payload.

use std::borrow::Cow;

use super::tokens::Tokens;
use crate::{JsonObject, Title};

/// A part of a payload, as the text it is written in, or no part at all. To read what is not there, or is of another type, is no error
/// but yields nothing; so paths are followed without a check at each step, and no tree of values is built.
#[derive(Clone, Copy, Default)]
pub(crate) struct Part<'a>(Option<&'a str>);

impl<'a> Part<'a> {
    /// The whole.
    pub(crate) fn of(object: &'a JsonObject) -> Self {
        Self(Some(object.as_str()))
    }

    /// Whether this is an object.
    pub(crate) fn is_object(self) -> bool {
        self.0.is_some_and(|text| text.starts_with('{'))
    }

    /// The members of these names, found in one pass. Of members with one name the last counts, as it does in the database.
    pub(crate) fn fields<const N: usize>(self, names: [&str; N]) -> [Self; N] {
        let mut found = [Self(None); N];
        let mut tokens = Tokens::of(self.0.filter(|text| text.starts_with('{')).unwrap_or_default());
        // The bracket; then names and values in turn, until the bracket that ends the object, which is no name.
        tokens.next();
        while let Some(name) = tokens.next().filter(|token| token.starts_with('"')) {
            let (name, value) = (unescaped(name), tokens.value());
            for (wanted, part) in names.iter().zip(&mut found) {
                if *wanted == name {
                    *part = Self(value);
                }
            }
        }
        found
    }

    /// The member of this name.
    pub(crate) fn field(self, name: &str) -> Self {
        let [field] = self.fields([name]);
        field
    }

    /// A string that says something or the digits of a number, on one line and no longer than a title.
    pub(crate) fn text(self) -> Option<String> {
        let text = match self.0?.as_bytes().first()? {
            b'"' => self.string()?,
            b'-' | b'0'..=b'9' => Cow::Borrowed(self.0?),
            _ => return None,
        };
        // Titles end up in terminals and logs, where controls would move the cursor or forge lines.
        let text = text.trim_matches(|char: char| char.is_whitespace() || char.is_control());
        (!text.is_empty()).then(|| Title::line(text))
    }

    /// A finite number, or a string that spells one, with or without a percent sign.
    pub(crate) fn number(self) -> Option<f64> {
        let raw = self.0?;
        let text = if raw.starts_with('"') { self.string()? } else { Cow::Borrowed(raw) };
        let text = text.trim();
        let number: f64 = text.strip_suffix('%').unwrap_or(text).trim_end().parse().ok()?;
        // Zero is added because it turns the negative zero into the other one.
        number.is_finite().then_some(number + 0.0)
    }

    /// A whole number, or a string that spells one.
    pub(crate) fn count(self) -> Option<u64> {
        self.text()?.parse().ok()
    }

    /// A string, whatever it says.
    pub(crate) fn string(self) -> Option<Cow<'a, str>> {
        self.0.filter(|text| text.starts_with('"')).map(unescaped)
    }
}

/// What a string that is written so says, without quotes.
fn unescaped(string: &str) -> Cow<'_, str> {
    if string.contains('\\') {
        return Cow::Owned(serde_json::from_str(string).unwrap_or_default());
    }
    Cow::Borrowed(string.trim_matches('"'))
}
