use serde::{Deserialize, Serialize};

use super::enumeration;
use crate::{AuthorType, Body, IssueId, JsonObject, Name, Patch, ProjectId, ReviewId, Slug, TemplateId, Text, Timestamp, VersionId};

enumeration! {
    /// Where a version of a prompt template stands.
    VersionStatus {
        /// The one in use; at most one per template.
        Active = "active",
        /// Not in use yet.
        Draft = "draft",
        /// No longer in use.
        Retired = "retired",
    }
}

macro_rules! ranged {
    ($($(#[$doc:meta])* $name:ident $min:tt..=$max:tt, $error:ident $text:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i16")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(minimum = $min, maximum = $max))]
        pub struct $name(i16);

        #[doc = concat!("Why a number is not a [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        #[error($text)]
        pub struct $error;

        impl $name {
            /// The number.
            pub const fn get(self) -> i16 {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = $error;

            fn try_from(number: i64) -> Result<Self, $error> {
                match i16::try_from(number) {
                    Ok(number) if ($min..=$max).contains(&number) => Ok(Self(number)),
                    _ => Err($error),
                }
            }
        }

        impl From<$name> for i16 {
            fn from(number: $name) -> Self {
                number.0
            }
        }
    )+};
}

ranged! {
    /// How specific a template's conditions are: 0 to 100; the more specific template wins.
    Specificity 0..=100, InvalidSpecificity "Must be a whole number from 0 to 100";
    /// A grade in a review: 1 (worst) to 5 (best).
    Grade 1..=5, InvalidGrade "Must be a whole number from 1 to 5";
}

impl Default for Specificity {
    fn default() -> Self {
        Self(10)
    }
}

/// A prompt for agents, in versions, with the conditions under which it is used.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromptTemplate {
    /// Its id.
    pub id: TemplateId,
    /// Its name in URLs, unique among the living.
    pub slug: Slug,
    /// Its name for people.
    pub name: Name,
    /// What it is for.
    pub description: Option<Text>,
    /// When to use it.
    pub conditions: JsonObject,
    /// How specific the conditions are.
    pub specificity: i16,
    /// The project it belongs to.
    pub project_id: Option<ProjectId>,
    /// The version in use.
    pub active_version_id: Option<VersionId>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted: never, in what the store answers.
    pub deleted_at: Option<Timestamp>,
    /// Counted up by every change.
    pub revision: i64,
}

/// A template with the version in use.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TemplateDetail {
    /// The template itself.
    #[serde(flatten)]
    pub template: PromptTemplate,
    /// The version in use.
    pub active_version: Option<PromptVersion>,
}

/// What creates a template.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `PromptTemplate`")]
pub struct NewTemplate {
    pub slug: Slug,
    pub name: Name,
    pub description: Option<Text>,
    pub conditions: JsonObject,
    pub specificity: Specificity,
    /// `None` means the store's project, where the store is bound to one.
    pub project_id: Option<ProjectId>,
}

/// What changes a template.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are those of `PromptTemplate`")]
pub struct TemplatePatch {
    pub slug: Option<Slug>,
    pub name: Option<Name>,
    pub description: Patch<Text>,
    pub conditions: Option<JsonObject>,
    pub specificity: Option<Specificity>,
    pub project_id: Patch<ProjectId>,
}

/// Which templates a list holds: those that match everything that is set.
#[derive(Debug, Clone, Default)]
pub struct TemplateFilter {
    pub(crate) project_id: Option<ProjectId>,
    pub(crate) slug: Option<Slug>,
}

impl TemplateFilter {
    /// Only those of this project.
    pub fn with_project(mut self, project: ProjectId) -> Self {
        self.project_id = Some(project);
        self
    }

    /// Only the one with this slug.
    pub fn with_slug(mut self, slug: Slug) -> Self {
        self.slug = Some(slug);
        self
    }
}

/// One wording of a template.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromptVersion {
    /// Its id.
    pub id: VersionId,
    /// The template it is a version of.
    pub template_id: TemplateId,
    /// 1, 2, 3… within the template, without gaps.
    pub version: i32,
    /// The prompt.
    pub content: Body,
    /// What is new in it.
    pub changelog: Option<Text>,
    /// Whether a person or an agent wrote it.
    pub author_type: AuthorType,
    /// Who wrote it.
    pub author_name: Body,
    /// Where it stands.
    pub status: VersionStatus,
    /// How often it was used.
    pub usage_count: i64,
    /// The part of its uses that led to a completed issue, 0 to 1.
    pub completion_rate: Option<f64>,
    /// How long its uses took on average, in milliseconds.
    pub avg_duration_ms: Option<f64>,
    /// The mean of all grades in its reviews, 1 to 5.
    pub review_score: Option<f64>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted: never, in what the store answers.
    pub deleted_at: Option<Timestamp>,
}

/// What creates a version.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `PromptVersion`")]
pub struct NewVersion {
    pub content: Body,
    pub changelog: Option<Text>,
    pub author_type: AuthorType,
    pub author_name: Body,
}

/// What somebody who worked with a version on an issue thinks of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PromptReview {
    /// Its id.
    pub id: ReviewId,
    /// The version it is about.
    pub version_id: VersionId,
    /// The issue that was worked on.
    pub issue_id: IssueId,
    /// How clear the prompt was, 1 to 5.
    pub clarity: i16,
    /// How complete it was, 1 to 5.
    pub completeness: i16,
    /// How much it had to do with the issue, 1 to 5.
    pub relevance: i16,
    /// The rest, in words.
    pub feedback: Option<Text>,
    /// Whether a person or an agent says so.
    pub author_type: AuthorType,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted: never, in what the store answers.
    pub deleted_at: Option<Timestamp>,
}

/// What creates a review.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `PromptReview`")]
pub struct NewReview {
    pub version_id: VersionId,
    pub issue_id: IssueId,
    pub clarity: Grade,
    pub completeness: Grade,
    pub relevance: Grade,
    pub feedback: Option<Text>,
    pub author_type: AuthorType,
}
