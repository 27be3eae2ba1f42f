use serde::Serialize;

use crate::{AuthorType, Body, CommentId, IssueId, Timestamp};

/// What somebody says about an issue, or in reply to another comment on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Comment {
    /// Its id.
    pub id: CommentId,
    /// What is said. Empty for a deleted comment that still has replies.
    pub body: String,
    /// The issue it is about.
    pub issue_id: IssueId,
    /// Who says it.
    pub author_name: Body,
    /// Whether a person or an agent does.
    pub author_type: AuthorType,
    /// The comment it replies to, one of the same issue.
    pub parent_id: Option<CommentId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted. Lists keep the place of a deleted comment that still has replies.
    pub deleted_at: Option<Timestamp>,
    /// Counted up by every change.
    pub revision: i64,
}

/// A comment with the replies to it, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommentThread {
    /// The comment itself.
    #[serde(flatten)]
    pub comment: Comment,
    /// The replies, each with the replies to it, at most 32 levels below the first.
    #[cfg_attr(feature = "openapi", schema(no_recursion))]
    pub replies: Vec<CommentThread>,
}

impl CommentThread {
    /// How many levels of replies a thread takes.
    pub const MAX_DEPTH: u8 = 32;
}

/// What creates a comment. Its issue is named by the call.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `Comment`")]
pub struct NewComment {
    pub body: Body,
    pub author_name: Body,
    pub author_type: AuthorType,
    pub parent_id: Option<CommentId>,
}

/// What changes a comment.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are those of `Comment`")]
pub struct CommentPatch {
    pub body: Option<Body>,
}
