use serde::Serialize;

use super::enumeration;
use crate::{GoalId, Patch, ProjectId, Text, Timestamp, Title};

enumeration! {
    /// Where a goal stands.
    GoalStatus {
        /// Pursued.
        Active = "active",
        /// Reached.
        Achieved = "achieved",
        /// Given up.
        Abandoned = "abandoned",
    }
}

/// What projects pursue, measured where it can be.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Goal {
    /// Its id.
    pub id: GoalId,
    /// What it is, in a line.
    pub title: Title,
    /// What it is, at length.
    pub description: Option<Text>,
    /// What is measured.
    pub metric: Option<Text>,
    /// The value hoped for, in `unit`.
    pub target_value: Option<f64>,
    /// The value now, in `unit`.
    pub current_value: Option<f64>,
    /// The unit of both values.
    pub unit: Option<Text>,
    /// Where it stands.
    pub status: GoalStatus,
    /// The project it belongs to.
    pub project_id: Option<ProjectId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted: never, in what the store answers.
    pub deleted_at: Option<Timestamp>,
    /// Counted up by every change.
    pub revision: i64,
}

/// What creates a goal.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `Goal`")]
pub struct NewGoal {
    pub title: Title,
    pub description: Option<Text>,
    pub metric: Option<Text>,
    pub target_value: Option<f64>,
    pub current_value: Option<f64>,
    pub unit: Option<Text>,
    pub status: GoalStatus,
    /// `None` means the store's project, where the store is bound to one.
    pub project_id: Option<ProjectId>,
}

impl NewGoal {
    /// An active goal with this title and nothing else.
    pub fn titled(title: Title) -> Self {
        Self {
            title,
            description: None,
            metric: None,
            target_value: None,
            current_value: None,
            unit: None,
            status: GoalStatus::Active,
            project_id: None,
        }
    }
}

/// What changes a goal.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are those of `Goal`")]
pub struct GoalPatch {
    pub title: Option<Title>,
    pub description: Patch<Text>,
    pub metric: Patch<Text>,
    pub target_value: Patch<f64>,
    pub current_value: Patch<f64>,
    pub unit: Patch<Text>,
    pub status: Option<GoalStatus>,
    pub project_id: Patch<ProjectId>,
}

/// Which goals a list holds: those that match everything that is set.
#[derive(Debug, Clone, Default)]
pub struct GoalFilter {
    pub(crate) status: Vec<GoalStatus>,
    pub(crate) project_id: Option<ProjectId>,
}

impl GoalFilter {
    /// Only those in one of these statuses.
    pub fn with_status(mut self, status: impl Into<Vec<GoalStatus>>) -> Self {
        self.status = status.into();
        self
    }

    /// Only those of this project.
    pub fn with_project(mut self, project: ProjectId) -> Self {
        self.project_id = Some(project);
        self
    }
}
