use serde::Serialize;

use super::enumeration;
use crate::{Goal, GoalId, IssueStatus, Name, Patch, ProjectId, Text, Timestamp};

enumeration! {
    /// Where a project stands.
    ProjectStatus {
        /// Thought of.
        Backlog = "backlog",
        /// Meant to be done.
        Planned = "planned",
        /// Being done.
        Active = "active",
        /// Stopped for now.
        Paused = "paused",
        /// Done.
        Completed = "completed",
        /// Given up.
        Canceled = "canceled",
    }
}

enumeration! {
    /// How a project does.
    ProjectHealth {
        /// As hoped.
        OnTrack = "on_track",
        /// It may not be done as hoped.
        AtRisk = "at_risk",
        /// It will not be done as hoped.
        OffTrack = "off_track",
    }
}

/// What issues belong to, and a key can be bound to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: Name,
    /// What it is about.
    pub description: Option<Text>,
    /// Where it stands.
    pub status: ProjectStatus,
    /// How it does.
    pub health: ProjectHealth,
    /// The goal it pursues.
    pub goal_id: Option<GoalId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted: never, in what the store answers.
    pub deleted_at: Option<Timestamp>,
    /// Counted up by every change.
    pub revision: i64,
}

/// A project with its goal and how many issues it has.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProjectDetail {
    /// The project itself.
    #[serde(flatten)]
    pub project: Project,
    /// The goal it pursues.
    pub goal: Option<Goal>,
    /// Its living issues, by status.
    pub issue_counts: IssueCounts,
}

/// How many issues there are in each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IssueCounts([i64; IssueStatus::ALL.len()]);

impl IssueCounts {
    /// How many are in this status.
    pub const fn get(&self, status: IssueStatus) -> i64 {
        self.0[status as usize]
    }

    pub(crate) const fn set(&mut self, status: IssueStatus, count: i64) {
        self.0[status as usize] = count;
    }
}

impl Serialize for IssueCounts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(IssueStatus::ALL.iter().map(|status| (status.as_str(), self.get(*status))))
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for IssueCounts {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let counts = utoipa::openapi::ObjectBuilder::new().description(Some("How many issues there are in each status."));
        let count = || utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::Integer).minimum(Some(0));
        IssueStatus::WORDS.iter().fold(counts, |counts, status| counts.property(*status, count())).into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for IssueCounts {}

/// What creates a project.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `Project`")]
pub struct NewProject {
    pub name: Name,
    pub description: Option<Text>,
    pub status: ProjectStatus,
    pub health: ProjectHealth,
    pub goal_id: Option<GoalId>,
}

impl NewProject {
    /// A project of this name in the backlog, on track.
    pub fn named(name: Name) -> Self {
        Self { name, description: None, status: ProjectStatus::Backlog, health: ProjectHealth::OnTrack, goal_id: None }
    }
}

/// What changes a project.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are those of `Project`")]
pub struct ProjectPatch {
    pub name: Option<Name>,
    pub description: Patch<Text>,
    pub status: Option<ProjectStatus>,
    pub health: Option<ProjectHealth>,
    pub goal_id: Patch<GoalId>,
}

/// Which projects a list holds: those that match everything that is set.
#[derive(Debug, Clone, Default)]
pub struct ProjectFilter {
    pub(crate) status: Vec<ProjectStatus>,
    pub(crate) health: Vec<ProjectHealth>,
    pub(crate) goal_id: Option<GoalId>,
}

impl ProjectFilter {
    /// Only those in one of these statuses.
    pub fn with_status(mut self, status: impl Into<Vec<ProjectStatus>>) -> Self {
        self.status = status.into();
        self
    }

    /// Only those of one of these healths.
    pub fn with_health(mut self, health: impl Into<Vec<ProjectHealth>>) -> Self {
        self.health = health.into();
        self
    }

    /// Only those that pursue this goal.
    pub fn with_goal(mut self, goal: GoalId) -> Self {
        self.goal_id = Some(goal);
        self
    }
}
