use std::fmt;

use serde::{Deserialize, Serialize};

use super::enumeration;
use crate::{Issue, IssueId, IssuePriority, JsonObject, ProjectId, SignalId, Text, Timestamp, Title, Word, json::Part};

enumeration! {
    /// How bad what a signal says is.
    Severity {
        /// Good to know.
        Low = "low",
        /// To be looked at in turn.
        Medium = "medium",
        /// To be looked at soon.
        High = "high",
        /// To be looked at now.
        Critical = "critical",
    }
}

impl From<Severity> for IssuePriority {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Low => Self::Low,
            Severity::Medium => Self::Medium,
            Severity::High => Self::High,
            Severity::Critical => Self::Critical,
        }
    }
}

/// Something that happened elsewhere, as it arrived, with the issue it became.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Signal {
    /// Its id.
    pub id: SignalId,
    /// What it comes from, such as `sentry`.
    pub source: Text,
    /// What its source calls it.
    pub source_id: Option<Text>,
    /// What it is about, in its source's words.
    #[serde(rename = "type")]
    pub kind: Text,
    /// How bad it is.
    pub severity: Severity,
    /// What arrived.
    pub metadata: SignalMetadata,
    /// The project it belongs to.
    pub project_id: Option<ProjectId>,
    /// The issue it became.
    pub issue_id: IssueId,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// What it is about, if anybody said so.
    pub fingerprint: Option<Fingerprint>,
}

/// What arrived with a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignalMetadata {
    /// What it came from.
    pub source: Text,
    /// All of it.
    #[serde(deserialize_with = "JsonObject::stored")]
    pub raw_payload: JsonObject,
    /// Words to find it by.
    pub tags: Vec<Text>,
}

/// What tells a redelivery from a new delivery: the provider's own name for it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DeliveryKey(String);

impl DeliveryKey {
    /// The key of a delivery that its provider names so. A name that is too long to be indexed is kept as its SHA-256.
    pub fn named(name: &str) -> Self {
        if name.len() <= 200 && !name.contains('\0') { Self(name.to_owned()) } else { Self::of_body(name.as_bytes()) }
    }

    /// The key of a delivery without a name: the SHA-256 of its body.
    pub fn of_body(body: &[u8]) -> Self {
        Self(sha256(body))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeliveryKey({})", self.0)
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("sha256:{}", faster_hex::hex_string(&sha2::Sha256::digest(bytes)))
}

/// What a signal is about, in its source's own words. Signals of one source, project and fingerprint gather in one issue for as long as that is
/// neither resolved nor closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000]*$"))]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The most characters it has, since it is indexed.
    pub const MAX_CHARS: usize = 200;

    /// The fingerprint made of these words. What is too long is kept as its SHA-256.
    pub(crate) fn of(words: &[&str]) -> Self {
        let text = words.join(" ").replace('\0', "");
        if text.chars().count() <= Self::MAX_CHARS { Self(text) } else { Self(sha256(text.as_bytes())) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = crate::InvalidText;

    fn from_str(text: &str) -> Result<Self, crate::InvalidText> {
        crate::text::check(text, 1..=Self::MAX_CHARS).map(|()| Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

sql_text!(Fingerprint, |value| &value.0, |text| text.parse::<Fingerprint>());

/// What creates a signal, and with it the issue it becomes, unless there is one for it already.
#[derive(Debug, Clone)]
pub struct NewSignal {
    /// What it comes from.
    pub source: Word,
    /// What its source calls it.
    pub source_id: Option<Text>,
    /// What it is about.
    pub kind: Word,
    /// How bad it is; the issue's priority too.
    pub severity: Severity,
    /// All that arrived; the issue's `signal_payload` too.
    pub payload: JsonObject,
    /// Words to find it by.
    pub tags: Vec<Text>,
    /// `None` means the store's project, where the store is bound to one.
    pub project_id: Option<ProjectId>,
    /// The issue's title.
    pub title: Title,
    /// What makes a second arrival of the same delivery create nothing. Keys of different sources do not meet.
    pub delivery: Option<DeliveryKey>,
    /// What it is about: with one that is known already, it goes to the issue that is there, and opens no other.
    pub fingerprint: Option<Fingerprint>,
}

impl NewSignal {
    /// A signal posted by hand. The issue's title is `[{source}] {type}: {message}`, where the message is the payload's `message`, else
    /// its `title`, else the type.
    pub fn new(source: Word, kind: Word, severity: Severity, payload: JsonObject) -> Self {
        let words = Part::of(&payload).fields(["message", "title"]);
        let message = words.iter().filter_map(|word| word.string()).find(|text| !text.is_empty());
        let title = Title::cut(&format!("[{source}] {kind}: {}", message.as_deref().unwrap_or(kind.as_str())), "Signal");
        Self {
            source,
            source_id: None,
            kind,
            severity,
            payload,
            tags: Vec::new(),
            project_id: None,
            title,
            delivery: None,
            fingerprint: None,
        }
    }
}

/// A signal that was taken in, and the issue it became.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ingested {
    /// The signal.
    pub signal: Signal,
    /// The issue it became. What its signal said is left out where it went to an issue that was there already; and with redeliveries in one
    /// batch, it stands once for each issue.
    pub issue: Issue,
    /// Whether this was a redelivery: nothing was created, and the two are those of the first delivery.
    #[serde(skip)]
    pub redelivered: bool,
    /// Whether it went to an issue that was there already.
    #[serde(skip)]
    pub attached: bool,
}

/// Which signals a list holds: those that match everything that is set.
#[derive(Debug, Clone, Default)]
pub struct SignalFilter {
    pub(crate) source: Option<Text>,
    pub(crate) kind: Option<Text>,
    pub(crate) severity: Vec<Severity>,
    pub(crate) project_id: Option<ProjectId>,
    pub(crate) issue_id: Option<IssueId>,
    pub(crate) metadata: Option<JsonObject>,
}

impl SignalFilter {
    /// Only those from this source.
    pub fn with_source(mut self, source: Text) -> Self {
        self.source = Some(source);
        self
    }

    /// Only those of this type.
    pub fn with_kind(mut self, kind: Text) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only those of one of these severities.
    pub fn with_severity(mut self, severity: impl Into<Vec<Severity>>) -> Self {
        self.severity = severity.into();
        self
    }

    /// Only those of this project.
    pub fn with_project(mut self, project: ProjectId) -> Self {
        self.project_id = Some(project);
        self
    }

    /// Only those that became this issue.
    pub fn with_issue(mut self, issue: IssueId) -> Self {
        self.issue_id = Some(issue);
        self
    }

    /// Only those whose metadata contains this (PostgreSQL's `@>`).
    pub fn with_metadata(mut self, metadata: JsonObject) -> Self {
        self.metadata = Some(metadata);
        self
    }
}
