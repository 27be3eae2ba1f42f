//! The id of each entity: a random text of the form of a CUID2, as one type per entity.

use std::{fmt, str::FromStr};

use rand::RngExt as _;

/// Why a string is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Not an id")]
pub struct InvalidId;

/// The letters CUID2 knows: a lower-case letter, then lower-case letters and digits; Loop's are 24 long.
/// Between 2 and 32 are accepted, as the reference implementation does.
fn is_cuid2(text: &str) -> bool {
    let bytes = text.as_bytes();
    // All of them in any case: what does not stop is done for many bytes at once, and nearly every text of a row is an id.
    let fits = |byte: &u8| byte.is_ascii_lowercase() | byte.is_ascii_digit();
    (2..=32).contains(&bytes.len()) && bytes[0].is_ascii_lowercase() && bytes.iter().fold(true, |all, byte| all & fits(byte))
}

/// Letters first, so that a first digit below 26 is a letter.
const DIGITS: [u8; 36] = *b"abcdefghijklmnopqrstuvwxyz0123456789";
/// How many digits of base 36 go into 64 bits.
const HALF: usize = 12;

/// A letter and 23 letters or digits, each as likely as any other: 2^123 ids, of which none says anything of another or of when it was made.
fn random() -> String {
    let mut rng = rand::rng();
    let numbers = [rng.random_range(0..26 * 36_u64.pow(11)), rng.random_range(0..36_u64.pow(12))];
    let mut id = [0; 2 * HALF];
    for (half, mut number) in id.chunks_exact_mut(HALF).zip(numbers) {
        for char in half.iter_mut().rev() {
            *char = DIGITS[(number % 36) as usize];
            number /= 36;
        }
    }
    id.map(char::from).into_iter().collect()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(pattern = "^[a-z][a-z0-9]{1,31}$"))]
        pub struct $name(String);

        impl $name {
            /// A new random id.
            #[expect(clippy::new_without_default, reason = "every call answers another value")]
            pub fn new() -> Self {
                Self(random())
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if is_cuid2(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId) }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        sql_text!($name, |value| value.as_str(), |text| text.parse());
    )+};
}

ids! {
    /// The id of a [`Project`](crate::Project).
    ProjectId
    /// The id of a [`Goal`](crate::Goal).
    GoalId
    /// The id of an [`Issue`](crate::Issue).
    IssueId
    /// The id of a [`Label`](crate::Label).
    LabelId
    /// The id of a [`Relation`](crate::Relation).
    RelationId
    /// The id of a [`Comment`](crate::Comment).
    CommentId
    /// The id of a [`Signal`](crate::Signal).
    SignalId
    /// The id of a [`PromptTemplate`](crate::PromptTemplate).
    TemplateId
    /// The id of a [`PromptVersion`](crate::PromptVersion).
    VersionId
    /// The id of a [`PromptReview`](crate::PromptReview).
    ReviewId
    /// The id of an [`ApiKey`](crate::ApiKey).
    ApiKeyId
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{is_cuid2, random};

    #[test]
    fn an_id_is_a_letter_and_letters_or_digits() {
        assert!(["ab", "z9", "a0123456789bcdefghijklmn", &"a".repeat(32)].into_iter().all(is_cuid2));
        assert!(!["", "a", "1a", "0123", "Ab", &"a".repeat(33)].into_iter().any(is_cuid2));
        // Wherever it is, and what is next to a range.
        for other in ["A", "Z", "`", "{", "/", ":", "-", "_", " ", "\0", "\u{7f}", "é"] {
            for place in 0..24 {
                let id = "a".repeat(place) + other + &"a".repeat(23 - place);
                assert!(!is_cuid2(&id), "{id}");
            }
        }
    }

    #[test]
    fn ids_are_letters_and_digits_of_every_kind_at_every_place() {
        let ids: HashSet<_> = (0..10_000).map(|_| random()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == 24 && is_cuid2(id)));
        for place in 0..24 {
            let seen: HashSet<_> = ids.iter().map(|id| id.as_bytes()[place]).collect();
            assert_eq!(seen.len(), if place == 0 { 26 } else { 36 }, "{place}");
        }
    }
}
