use serde::Serialize;

use crate::{Color, LabelId, LabelName, Timestamp};

/// A word to sort issues by, shared by all projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Label {
    /// Its id.
    pub id: LabelId,
    /// Its name, unique among the living without regard to case.
    pub name: LabelName,
    /// Its color, in any notation.
    pub color: Color,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted: never, in what the store answers.
    pub deleted_at: Option<Timestamp>,
    /// Counted up by every change.
    pub revision: i64,
}

/// What creates a label.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `Label`")]
pub struct NewLabel {
    pub name: LabelName,
    pub color: Color,
}

/// What changes a label.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are those of `Label`")]
pub struct LabelPatch {
    pub name: Option<LabelName>,
    pub color: Option<Color>,
}
