//! The id of each entity: a CUID2, as one type per entity.

use std::{fmt, str::FromStr};

/// Why a string is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Not an id")]
pub struct InvalidId;

/// The letters CUID2 knows: a lower-case letter, then lower-case letters and digits; Loop's are 24 long.
/// Between 2 and 32 are accepted, as the reference implementation does.
fn is_cuid2(text: &str) -> bool {
    let bytes = text.as_bytes();
    (2..=32).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes[1..].iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
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
                Self(cuid2::create_id())
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
