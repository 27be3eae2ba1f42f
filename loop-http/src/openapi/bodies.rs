//! What bodies are called, and the rows they are about.

use loop_core::{
    ApiKey, Comment, CommentPatch, Commit, Goal, GoalPatch, Hypothesis, Issue, IssuePatch, Label, LabelPatch, NewApiKey, NewComment,
    NewGoal, NewIssue, NewLabel, NewProject, NewRelation, NewReview, NewSignal, NewTemplate, NewVersion, Project, ProjectPatch,
    PromptReview, PromptTemplate, PromptVersion, PullRequest, Relation, Signal, TemplatePatch,
};
use utoipa::ToSchema;

use crate::fields::FromFields;

/// The name of a body, and what its fields mean.
pub(crate) trait Body: FromFields {
    /// Its name.
    const NAME: &'static str;
    /// What its fields mean that the row does not have, or not under the same name.
    const TOLD: &'static [(&'static str, &'static str)];
    /// The row whose fields it has.
    type Row: ToSchema;
}

macro_rules! bodies {
    ($($body:ident = $name:literal, $row:ident $({ $($field:literal: $text:literal,)+ })?;)+) => {
        $(impl Body for $body {
            const NAME: &'static str = $name;
            const TOLD: &'static [(&'static str, &'static str)] = &[$($(($field, $text)),+)?];
            type Row = $row;
        })+
    };
}

bodies! {
    NewProject = "NewProject", Project;
    ProjectPatch = "ProjectPatch", Project;
    NewGoal = "NewGoal", Goal;
    GoalPatch = "GoalPatch", Goal;
    NewIssue = "NewIssue", Issue { "labelIds": "The labels to attach; repeated ones count once.", };
    IssuePatch = "IssuePatch", Issue { "labelIds": "The labels it has from now on, in place of those it had.", };
    Hypothesis = "NewHypothesis", Hypothesis;
    Commit = "NewCommit", Commit;
    PullRequest = "NewPullRequest", PullRequest;
    NewComment = "NewComment", Comment { "body": "What is said.", };
    CommentPatch = "CommentPatch", Comment { "body": "What is said.", };
    NewRelation = "NewRelation", Relation { "type": "How the issue in the path relates to the other.", };
    NewLabel = "NewLabel", Label;
    LabelPatch = "LabelPatch", Label;
    NewSignal = "NewSignal", Signal {
        "severity": "How bad it is; the issue's priority too.",
        "payload": "All there is to say; a `message` or `title` in it becomes part of the issue's title.",
        "tags": "Words to find it by.",
    };
    NewTemplate = "NewPromptTemplate", PromptTemplate;
    TemplatePatch = "PromptTemplatePatch", PromptTemplate;
    NewVersion = "NewPromptVersion", PromptVersion;
    NewReview = "NewPromptReview", PromptReview;
    NewApiKey = "NewApiKey", ApiKey { "expiresAt": "When it stops to open anything; in the future.", };
}
