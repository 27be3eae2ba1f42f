use std::{fmt, str::FromStr};

use postgres_types::{FromSql, Type};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::enumeration;
use crate::{ApiKeyId, InvalidWord, IssueId, ProjectId, Timestamp};

enumeration! {
    /// What kind of party did something.
    ActorType {
        /// The bearer of an API key.
        Key = "key",
        /// A provider whose delivery was verified.
        Webhook = "webhook",
        /// Somebody at the machine itself.
        Admin = "admin",
        /// A program that embeds this library.
        App = "app",
        /// Somebody who wrote to the database past Loop.
        Database = "database",
    }
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Actor {
    /// What kind of party.
    #[serde(rename = "type")]
    pub kind: ActorType,
    /// Which of them: the id of a key, the provider of a webhook, the name of a program.
    pub id: Option<String>,
}

impl Actor {
    /// The bearer of an API key.
    pub fn key(id: &ApiKeyId) -> Self {
        Self { kind: ActorType::Key, id: Some(id.to_string()) }
    }

    /// A provider, such as `github`.
    pub fn webhook(provider: &str) -> Self {
        Self { kind: ActorType::Webhook, id: Some(provider.to_owned()) }
    }

    /// Somebody at the machine itself.
    pub fn admin() -> Self {
        Self { kind: ActorType::Admin, id: None }
    }

    /// A program that embeds this library, by a name of its choice.
    pub fn app(name: Option<&str>) -> Self {
        Self { kind: ActorType::App, id: name.map(str::to_owned) }
    }
}

/// As the database is told: the type, and the id behind a colon.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        let Some(id) = &self.id else { return Ok(()) };
        f.write_str(":")?;
        // No text of the database's holds NUL, and a name with one is worth no failure.
        f.write_str(&id.replace('\0', ""))
    }
}

impl FromStr for Actor {
    type Err = InvalidWord;

    fn from_str(text: &str) -> Result<Self, InvalidWord> {
        let (kind, id) = text.split_once(':').map_or((text, None), |(kind, id)| (kind, Some(id.to_owned())));
        Ok(Self { kind: kind.parse()?, id })
    }
}

impl<'a> FromSql<'a> for Actor {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let text = <&str>::from_sql(ty, raw)?;
        // Whoever writes past Loop may say anything of itself.
        Ok(text.parse().unwrap_or_else(|_| Self { kind: ActorType::Database, id: Some(text.to_owned()) }))
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql>::accepts(ty)
    }
}

enumeration! {
    /// What was done to an issue.
    IssueAction {
        /// It was created.
        Created = "created",
        /// It was changed.
        Updated = "updated",
        /// It was deleted.
        Deleted = "deleted",
    }
}

/// Something that was done to an issue. It was written in the transaction that did it, and never changes.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssueEvent {
    /// Its number, ascending in the order of writing, with gaps.
    pub id: i64,
    /// The issue.
    pub issue_id: IssueId,
    /// The project of the issue after it.
    pub project_id: Option<ProjectId>,
    /// What was done.
    pub action: IssueAction,
    /// Who did it.
    pub actor: Actor,
    /// What changed: nothing for an issue that was created, whose fields are its own.
    pub changes: Vec<Change>,
    /// When.
    pub created_at: Timestamp,
}

/// A field that changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Change {
    /// The field, by its name on the wire; `labels` and `relations` for what was added to an issue or taken from it.
    pub field: String,
    /// The value before, as JSON: null for nothing.
    #[cfg_attr(feature = "openapi", schema(value_type = Value))]
    pub old: Box<RawValue>,
    /// The value after, as JSON: null for nothing.
    #[cfg_attr(feature = "openapi", schema(value_type = Value))]
    pub new: Box<RawValue>,
}
