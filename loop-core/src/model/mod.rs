//! What Loop keeps: one file per entity, with its row, its enumerations, what creates it, what changes it and what filters it.

mod api_key;
mod comment;
mod event;
mod goal;
mod issue;
mod label;
mod project;
mod prompt;
mod relation;
mod signal;

pub use api_key::*;
pub use comment::*;
pub use event::*;
pub use goal::*;
pub use issue::*;
pub use label::*;
pub use project::*;
pub use prompt::*;
pub use relation::*;
pub use signal::*;

/// Why a word is not one of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Must be one of {}", .expected.join(", "))]
pub struct InvalidWord {
    /// The words that are.
    pub expected: &'static [&'static str],
}

/// An enumeration that has the same `snake_case` words in Rust, in JSON and in PostgreSQL.
macro_rules! enumeration {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name {
            $($(#[$variant_doc])* #[cfg_attr(feature = "openapi", schema(rename = $word))] $variant,)+
        }

        impl $name {
            /// Every value, in the order of the database.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The word of every value.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The value's word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::InvalidWord;

            fn from_str(word: &str) -> Result<Self, $crate::InvalidWord> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::InvalidWord { expected: Self::WORDS }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }

        sql_text!($name, |value| value.as_str(), |word| word.parse::<Self>());
    };
}
use enumeration;

enumeration! {
    /// Whether a person or an agent wrote something.
    AuthorType {
        /// A person.
        Human = "human",
        /// An AI agent.
        Agent = "agent",
    }
}
