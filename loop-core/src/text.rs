//! Texts with a rule: what is constructed is valid, for callers of the library and of the HTTP API alike.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// Why a string is not a valid text of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Shorter than the kind allows.
    #[error("Must not be empty")]
    Empty,
    /// Longer than the kind allows.
    #[error("Must be at most {max} characters long")]
    TooLong {
        /// The most Unicode scalar values the kind takes.
        max: usize,
    },
    /// PostgreSQL's text cannot hold U+0000.
    #[error("Must not contain NUL characters")]
    Nul,
    /// Not of the form the kind asks for.
    #[error("{0}")]
    Form(&'static str),
}

pub(crate) fn check(text: &str, length: RangeInclusive<usize>) -> Result<(), InvalidText> {
    if text.contains('\0') {
        return Err(InvalidText::Nul);
    }
    if text.len() < *length.start() {
        return Err(InvalidText::Empty);
    }
    // A text is never longer in characters than in bytes, so most are not counted.
    if text.len() > *length.end() && text.chars().count() > *length.end() {
        return Err(InvalidText::TooLong { max: *length.end() });
    }
    Ok(())
}

macro_rules! texts {
    ($pattern:tt; $($(#[$doc:meta])* $name:ident $min:tt $(..=$max:tt)? $(, $form:path)?;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(min_length = $min, $(max_length = $max,)? pattern = $pattern))]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text itself, owned.
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidText;

            fn try_from(text: String) -> Result<Self, InvalidText> {
                check(&text, $min..=[$($max,)? usize::MAX][0])?;
                $($form(&text)?;)?
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = InvalidText;

            fn from_str(text: &str) -> Result<Self, InvalidText> {
                text.to_owned().try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
            }
        }

        // The schema's checks hold the same rule, so what is stored is not checked again.
        sql_text!($name, |value| value.as_str(), |text| Ok::<_, InvalidText>(Self(text.to_owned())));
    )+};
}

// The pattern is for those who only read the schema of a text: here it is `check` that looks for NUL.
texts! {
    r"^[^\u0000]*$";
    /// Any text, the empty one included.
    Text 0;
    /// A text that says something: at least one character.
    Body 1;
    /// The title of an issue or a goal: 1 to 500 characters.
    Title 1..=500;
    /// The name of a project or a prompt template: 1 to 500 characters.
    Name 1..=500;
    /// The name of a label: 1 to 100 characters, compared without regard to case.
    LabelName 1..=100;
    /// A label's color in any notation: 1 to 50 characters.
    Color 1..=50;
    /// What a signal comes from or is about, such as `sentry` or `error`: 1 to 200 characters.
    Word 1..=200;
    /// What a list is searched for: at most 1,000 characters.
    Search 0..=1_000;
}

texts! {
    "^[a-z0-9]+(-[a-z0-9]+)*$";
    /// The name of a prompt template in URLs: lower-case letters and digits in words joined by single hyphens, at most 200 characters.
    Slug 1..=200, slug_form;
}

impl LabelName {
    /// What names are compared by: two labels of one key have the same name.
    pub(crate) fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl From<Word> for Text {
    fn from(word: Word) -> Self {
        Self(word.0)
    }
}

impl Title {
    /// The longest title, in characters.
    pub const MAX_CHARS: usize = 500;

    /// A title made of any text: cut at 500 characters; control characters, which would forge lines, become spaces; `fallback` serves for
    /// nothing at all.
    pub(crate) fn cut(text: &str, fallback: &'static str) -> Self {
        Self(if text.is_empty() { fallback.to_owned() } else { Self::line(text) })
    }

    /// As much of a text as a title may have, on one line.
    pub(crate) fn line(text: &str) -> String {
        let mut line = String::with_capacity(text.len().min(4 * Self::MAX_CHARS));
        line.extend(text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(Self::MAX_CHARS));
        line
    }
}

fn slug_form(text: &str) -> Result<(), InvalidText> {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if text.split('-').all(word) {
        Ok(())
    } else {
        Err(InvalidText::Form("Must be lower-case letters and digits in words joined by single hyphens"))
    }
}
