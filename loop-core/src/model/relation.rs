use serde::Serialize;

use super::enumeration;
use crate::{Issue, IssueId, RelationId, Timestamp};

enumeration! {
    /// How one issue relates to another.
    RelationType {
        /// It must be done first.
        Blocks = "blocks",
        /// The other must be done first.
        BlockedBy = "blocked_by",
        /// They have to do with each other.
        Related = "related",
        /// It says what the other says.
        Duplicate = "duplicate",
    }
}

/// That one issue relates to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Relation {
    /// Its id.
    pub id: RelationId,
    /// How `issue_id` relates to `related_issue_id`.
    #[serde(rename = "type")]
    pub kind: RelationType,
    /// The issue that relates.
    pub issue_id: IssueId,
    /// The issue it relates to.
    pub related_issue_id: IssueId,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Which end of a relation an issue is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RelationDirection {
    /// The issue is `issue_id`.
    Outgoing,
    /// The issue is `related_issue_id`.
    Incoming,
}

/// A relation as one of its two issues sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RelationView {
    /// The relation itself.
    #[serde(flatten)]
    pub relation: Relation,
    /// Which end the seeing issue is at.
    pub direction: RelationDirection,
    /// The issue at the other end.
    pub issue: Issue,
}

/// What creates a relation. The issue that relates is named by the call.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `Relation`")]
pub struct NewRelation {
    pub kind: RelationType,
    pub related_issue_id: IssueId,
}
