use serde::{Deserialize, Serialize};

use super::enumeration;
use crate::{Body, IssueId, JsonObject, Label, LabelId, Patch, Project, ProjectId, RelationView, Search, Severity, Text, Timestamp, Title};

enumeration! {
    /// What an issue is: ordinary work, or a part of the loop itself.
    IssueType {
        /// Something is broken.
        Bug = "bug",
        /// Something new.
        Feature = "feature",
        /// Something to be done.
        Task = "task",
        /// Something that works and should work better.
        Improvement = "improvement",
        /// What a signal from outside became.
        Signal = "signal",
        /// A guess to be tested.
        Hypothesis = "hypothesis",
        /// A plan for work.
        Plan = "plan",
        /// Something to be watched.
        Monitor = "monitor",
    }
}

enumeration! {
    /// Where an issue stands.
    IssueStatus {
        /// Arrived from a signal; nobody decided yet.
        Triage = "triage",
        /// Accepted, not ready.
        Backlog = "backlog",
        /// Ready to be worked on.
        Open = "open",
        /// Being worked on.
        InProgress = "in_progress",
        /// Done. Sets `completed_at`.
        Resolved = "resolved",
        /// Declined or abandoned. Sets `completed_at`.
        Closed = "closed",
    }
}

impl IssueStatus {
    /// Whether nothing is left to do: resolved or closed.
    pub const fn is_completed(self) -> bool {
        matches!(self, Self::Resolved | Self::Closed)
    }
}

enumeration! {
    /// How urgent an issue is, the most urgent first.
    IssuePriority {
        /// Drop everything.
        Critical = "critical",
        /// Next.
        High = "high",
        /// In turn.
        Medium = "medium",
        /// When there is time.
        Low = "low",
    }
}

/// A guess about what would help, with what speaks for it and how it will be tested.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hypothesis {
    /// The guess.
    pub statement: Body,
    /// How sure its author is.
    pub confidence: Confidence,
    /// What speaks for it.
    #[serde(default)]
    pub evidence: Vec<Text>,
    /// What must be seen for it to hold.
    pub validation_criteria: Body,
    /// What is expected to happen.
    #[serde(default)]
    pub prediction: Option<Text>,
}

/// A probability: a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(minimum = 0, maximum = 1))]
pub struct Confidence(f64);

/// Why a number is not a [`Confidence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Must be a number from 0 to 1")]
pub struct InvalidConfidence;

impl Confidence {
    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Confidence {
    type Error = InvalidConfidence;

    fn try_from(number: f64) -> Result<Self, InvalidConfidence> {
        if (0.0..=1.0).contains(&number) { Ok(Self(number)) } else { Err(InvalidConfidence) }
    }
}

/// A commit that belongs to an issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Commit {
    /// The commit's hash.
    pub sha: Body,
    /// Its message.
    pub message: Text,
    /// Where to see it.
    #[serde(default)]
    pub url: Option<Text>,
    /// Who wrote it.
    #[serde(default)]
    pub author: Option<Text>,
    /// When.
    #[serde(default)]
    pub timestamp: Option<Timestamp>,
}

/// A pull request that belongs to an issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullRequest {
    /// Its number in its repository.
    pub number: u32,
    /// Its title.
    pub title: Text,
    /// Where to see it.
    #[serde(default)]
    pub url: Option<Text>,
    /// How it stands, in its host's words.
    #[serde(default)]
    pub state: Option<Text>,
    /// When it was merged.
    #[serde(default)]
    pub merged_at: Option<Timestamp>,
}

/// A piece of work, or something that may become one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Issue {
    /// Its id.
    pub id: IssueId,
    /// Its number, for people; unique, ascending, with gaps.
    pub number: i64,
    /// What it is about, in a line.
    pub title: Title,
    /// What it is about, at length.
    pub description: Option<Text>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: IssueType,
    /// Where it stands.
    pub status: IssueStatus,
    /// How urgent it is.
    pub priority: IssuePriority,
    /// The issue it is a part of. That issue has no parent itself.
    pub parent_id: Option<IssueId>,
    /// The project it belongs to.
    pub project_id: Option<ProjectId>,
    /// What kind of source its signal came from.
    pub signal_source: Option<Text>,
    /// What its signal said. Lists do not read it, and leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_payload: Option<JsonObject>,
    /// The guess it stands for.
    pub hypothesis: Option<Hypothesis>,
    /// The agent session that works on it.
    pub agent_session_id: Option<Text>,
    /// What the agent says it did.
    pub agent_summary: Option<Text>,
    /// The commits made for it.
    pub commits: Option<Vec<Commit>>,
    /// The pull requests opened for it.
    pub pull_requests: Option<Vec<PullRequest>>,
    /// When it was resolved or closed, if it is.
    pub completed_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted. Only an answer about a redelivered signal shows deleted issues.
    pub deleted_at: Option<Timestamp>,
    /// How many signals arrived for it.
    pub signal_count: i32,
    /// The highest severity among them.
    pub signal_severity: Option<Severity>,
    /// When the last of them arrived.
    pub last_signal_at: Option<Timestamp>,
    /// Counted up by every change, but not by signals that arrive.
    pub revision: i64,
}

/// An issue with everything around it, as it all was at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssueDetail {
    /// The issue itself.
    #[serde(flatten)]
    pub issue: Issue,
    /// The issue it is a part of.
    pub parent: Option<Issue>,
    /// Its parts, the oldest first.
    pub children: Vec<Issue>,
    /// Its labels, by name.
    pub labels: Vec<Label>,
    /// Its relations to other issues, from either side, the oldest first.
    pub relations: Vec<RelationView>,
    /// The project it belongs to.
    pub project: Option<Project>,
}

/// What creates an issue.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `Issue`")]
pub struct NewIssue {
    pub title: Title,
    pub description: Option<Text>,
    pub kind: IssueType,
    pub status: IssueStatus,
    pub priority: IssuePriority,
    pub parent_id: Option<IssueId>,
    /// `None` means the store's project, where the store is bound to one.
    pub project_id: Option<ProjectId>,
    pub signal_source: Option<Text>,
    pub signal_payload: Option<JsonObject>,
    pub hypothesis: Option<Hypothesis>,
    pub agent_session_id: Option<Text>,
    pub agent_summary: Option<Text>,
    pub commits: Option<Vec<Commit>>,
    pub pull_requests: Option<Vec<PullRequest>>,
    /// The labels to attach; repeated ones count once.
    pub label_ids: Vec<LabelId>,
}

impl NewIssue {
    /// An open task of medium priority with this title and nothing else.
    pub fn titled(title: Title) -> Self {
        Self {
            title,
            description: None,
            kind: IssueType::Task,
            status: IssueStatus::Open,
            priority: IssuePriority::Medium,
            parent_id: None,
            project_id: None,
            signal_source: None,
            signal_payload: None,
            hypothesis: None,
            agent_session_id: None,
            agent_summary: None,
            commits: None,
            pull_requests: None,
            label_ids: Vec::new(),
        }
    }
}

/// What changes an issue.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are those of `Issue`")]
pub struct IssuePatch {
    pub title: Option<Title>,
    pub description: Patch<Text>,
    pub kind: Option<IssueType>,
    pub status: Option<IssueStatus>,
    pub priority: Option<IssuePriority>,
    pub parent_id: Patch<IssueId>,
    pub project_id: Patch<ProjectId>,
    pub signal_source: Patch<Text>,
    pub signal_payload: Patch<JsonObject>,
    pub hypothesis: Patch<Hypothesis>,
    pub agent_session_id: Patch<Text>,
    pub agent_summary: Patch<Text>,
    pub commits: Patch<Vec<Commit>>,
    pub pull_requests: Patch<Vec<PullRequest>>,
    /// The labels it has from now on, in place of those it had.
    pub label_ids: Option<Vec<LabelId>>,
}

/// The order of a list of issues. Ties are broken by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IssueSort {
    /// The newest first.
    #[default]
    CreatedDesc,
    /// The oldest first.
    CreatedAsc,
    /// The last changed first.
    UpdatedDesc,
    /// The longest unchanged first.
    UpdatedAsc,
    /// The most urgent first.
    PriorityAsc,
    /// The least urgent first.
    PriorityDesc,
    /// The lowest number first.
    NumberAsc,
    /// The highest number first.
    NumberDesc,
}

impl IssueSort {
    /// Every order, by its word: a field, with `-` before it for the descending order.
    pub const WORDS: &'static [&'static str] =
        &["-createdAt", "createdAt", "-updatedAt", "updatedAt", "priority", "-priority", "number", "-number"];

    /// The order's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreatedDesc => "-createdAt",
            Self::CreatedAsc => "createdAt",
            Self::UpdatedDesc => "-updatedAt",
            Self::UpdatedAsc => "updatedAt",
            Self::PriorityAsc => "priority",
            Self::PriorityDesc => "-priority",
            Self::NumberAsc => "number",
            Self::NumberDesc => "-number",
        }
    }
}

impl std::str::FromStr for IssueSort {
    type Err = crate::InvalidWord;

    fn from_str(word: &str) -> Result<Self, crate::InvalidWord> {
        Ok(match word {
            "-createdAt" => Self::CreatedDesc,
            "createdAt" => Self::CreatedAsc,
            "-updatedAt" => Self::UpdatedDesc,
            "updatedAt" => Self::UpdatedAsc,
            "priority" => Self::PriorityAsc,
            "-priority" => Self::PriorityDesc,
            "number" => Self::NumberAsc,
            "-number" => Self::NumberDesc,
            _ => return Err(crate::InvalidWord { expected: Self::WORDS }),
        })
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for IssueSort {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .enum_values(Some(Self::WORDS.iter().copied()))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for IssueSort {}

/// A search without hyphens that stand before no word: each would be a "not", and PostgreSQL refuses too many of them.
fn searchable(text: &str) -> String {
    let mut chars = text.chars().peekable();
    let mut kept = String::with_capacity(text.len());
    while let Some(char) = chars.next() {
        let before_word = chars.peek().is_some_and(|next| next.is_alphanumeric() || *next == '"');
        kept.push(if char == '-' && !before_word { ' ' } else { char });
    }
    kept
}

/// Which issues a list holds: those that match everything that is set. An empty vector is not set.
#[derive(Debug, Clone, Default)]
pub struct IssueFilter {
    pub(crate) status: Vec<IssueStatus>,
    pub(crate) kind: Vec<IssueType>,
    pub(crate) priority: Vec<IssuePriority>,
    pub(crate) project_id: Option<ProjectId>,
    pub(crate) label_id: Option<LabelId>,
    pub(crate) parent_id: Option<IssueId>,
    pub(crate) text: Option<String>,
    pub(crate) created_after: Option<Timestamp>,
    pub(crate) created_before: Option<Timestamp>,
    pub(crate) sort: IssueSort,
}

impl IssueFilter {
    /// Only those in one of these statuses.
    pub fn with_status(mut self, status: impl Into<Vec<IssueStatus>>) -> Self {
        self.status = status.into();
        self
    }

    /// Only those of one of these types.
    pub fn with_kind(mut self, kind: impl Into<Vec<IssueType>>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Only those of one of these priorities.
    pub fn with_priority(mut self, priority: impl Into<Vec<IssuePriority>>) -> Self {
        self.priority = priority.into();
        self
    }

    /// Only those of this project.
    pub fn with_project(mut self, project: ProjectId) -> Self {
        self.project_id = Some(project);
        self
    }

    /// Only those with this label.
    pub fn with_label(mut self, label: LabelId) -> Self {
        self.label_id = Some(label);
        self
    }

    /// Only the parts of this issue.
    pub fn with_parent(mut self, parent: IssueId) -> Self {
        self.parent_id = Some(parent);
        self
    }

    /// Only those whose title or description has these words, in the manner of a web search: `"a phrase"`, `or`, `-without`.
    pub fn with_text(mut self, text: &Search) -> Self {
        self.text = Some(searchable(text.as_str()));
        self
    }

    /// Only those created after this moment.
    pub fn with_created_after(mut self, time: Timestamp) -> Self {
        self.created_after = Some(time);
        self
    }

    /// Only those created before this moment.
    pub fn with_created_before(mut self, time: Timestamp) -> Self {
        self.created_before = Some(time);
        self
    }

    /// In this order.
    pub fn with_sort(mut self, sort: IssueSort) -> Self {
        self.sort = sort;
        self
    }
}
