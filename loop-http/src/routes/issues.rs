use axum::extract::FromRequestParts;
use http::{StatusCode, request::Parts};
use loop_core::{
    Commit, Entity, Hypothesis, Issue, IssueDetail, IssueEvent, IssueFilter, IssueId, IssuePatch, IssuePriority, IssueStatus, IssueType,
    LabelId, NewIssue, Page, PullRequest, Search, Session,
};

use super::{Answer, Posted, Single, answer, single};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::{Id, Input, path_parameters},
    fields::{Fields, FromFields, object, objects},
    idempotency::{Created, Post},
    openapi::{Described, OperationDoc, Routes},
    query::{FromQuery, List, Query},
    revision::IfMatch,
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Issues")
        .get("/issues", "listIssues", "List issues", list)
        .post("/issues", "createIssue", "Create an issue", create)
        .get("/issues/{id}", "getIssue", "Get an issue with everything around it", detail)
        .patch("/issues/{id}", "updateIssue", "Change an issue", update)
        .delete("/issues/{id}", "deleteIssue", "Delete an issue", delete)
        .put("/issues/{id}/labels/{labelId}", "attachLabel", "Attach a label to an issue", attach)
        .delete("/issues/{id}/labels/{labelId}", "detachLabel", "Detach a label from an issue", detach)
        .get("/issues/{id}/events", "listIssueEvents", "List what was done to an issue", events)
}

/// An issue in a path: its id, or its number.
pub(crate) struct IssuePath(String);

impl IssuePath {
    /// The issue's id. A number is looked up within what the caller may see.
    pub(crate) async fn resolve(&self, session: Session<'_>) -> Result<IssueId, ApiError> {
        if let Ok(id) = self.0.parse() {
            return Ok(id);
        }
        // `+7` and `007` are not how a number is written.
        let number = self.0.parse::<i64>().ok().filter(|number| *number > 0 && number.to_string() == self.0);
        match number {
            Some(number) => session.issues().find_by_number(number).await?.ok_or_else(|| ApiError::not_found(Entity::Issue)),
            None => Err(ApiError::not_found(Entity::Issue)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IssuePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let [issue] = path_parameters(parts, state).await.ok_or_else(|| ApiError::not_found(Entity::Issue))?;
        Ok(Self(issue))
    }
}

/// An issue and a label in a path.
struct IssueLabelPath(IssuePath, LabelId);

impl<S: Send + Sync> FromRequestParts<S> for IssueLabelPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let [issue, label] = path_parameters(parts, state).await.ok_or_else(|| ApiError::not_found(Entity::Issue))?;
        Ok(Self(IssuePath(issue), label.parse().map_err(|_| ApiError::not_found(Entity::Label))?))
    }
}

impl Described for IssueLabelPath {
    fn describe(operation: &mut OperationDoc<'_>) {
        IssuePath::describe(operation);
        Id::<LabelId>::describe(operation);
    }
}

impl FromQuery for IssueFilter {
    fn from_query(query: &mut Query) -> Self {
        let mut filter = Self::default()
            .with_status(query.several("status"))
            .with_kind(query.several("type"))
            .with_priority(query.several("priority"))
            .with_sort(query.one("sort").unwrap_or_default());
        if let Some(project) = query.one("projectId") {
            filter = filter.with_project(project);
        }
        if let Some(label) = query.one("labelId") {
            filter = filter.with_label(label);
        }
        if let Some(parent) = query.one("parentId") {
            filter = filter.with_parent(parent);
        }
        // A search field that was left empty asks for nothing in particular.
        if let Some(text) = query.one::<Search>("q").filter(|text| !text.as_str().trim().is_empty()) {
            filter = filter.with_text(&text);
        }
        if let Some(time) = query.one("createdAfter") {
            filter = filter.with_created_after(time);
        }
        if let Some(time) = query.one("createdBefore") {
            filter = filter.with_created_before(time);
        }
        filter
    }
}

impl FromFields for Hypothesis {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (statement, confidence) = (fields.required("statement"), fields.required("confidence"));
        let evidence = fields.optional("evidence").unwrap_or_default();
        let validation_criteria = fields.required("validationCriteria");
        let prediction = fields.optional("prediction");
        Some(Self { statement: statement?, confidence: confidence?, evidence, validation_criteria: validation_criteria?, prediction })
    }
}

impl FromFields for Commit {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (sha, message) = (fields.required("sha"), fields.required("message"));
        let (url, author, timestamp) = (fields.optional("url"), fields.optional("author"), fields.optional("timestamp"));
        Some(Self { sha: sha?, message: message?, url, author, timestamp })
    }
}

impl FromFields for PullRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (number, title) = (fields.required("number"), fields.required("title"));
        let (url, state, merged_at) = (fields.optional("url"), fields.optional("state"), fields.optional("mergedAt"));
        Some(Self { number: number?, title: title?, url, state, merged_at })
    }
}

impl FromFields for NewIssue {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let title = fields.required("title");
        let rest = Self {
            description: fields.optional("description"),
            kind: fields.or("type", IssueType::Task),
            status: fields.or("status", IssueStatus::Open),
            priority: fields.or("priority", IssuePriority::Medium),
            parent_id: fields.optional("parentId"),
            project_id: fields.optional("projectId"),
            signal_source: fields.optional("signalSource"),
            signal_payload: fields.optional("signalPayload"),
            hypothesis: fields.optional_by("hypothesis", object),
            agent_session_id: fields.optional("agentSessionId"),
            agent_summary: fields.optional("agentSummary"),
            commits: fields.optional_by("commits", objects),
            pull_requests: fields.optional_by("pullRequests", objects),
            label_ids: fields.optional("labelIds").unwrap_or_default(),
            title: title?,
        };
        Some(rest)
    }
}

impl FromFields for IssuePatch {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            title: fields.set("title"),
            description: fields.patch("description"),
            kind: fields.set("type"),
            status: fields.set("status"),
            priority: fields.set("priority"),
            parent_id: fields.patch("parentId"),
            project_id: fields.patch("projectId"),
            signal_source: fields.patch("signalSource"),
            signal_payload: fields.patch("signalPayload"),
            hypothesis: fields.patch_by("hypothesis", object),
            agent_session_id: fields.patch("agentSessionId"),
            agent_summary: fields.patch("agentSummary"),
            commits: fields.patch_by("commits", objects),
            pull_requests: fields.patch_by("pullRequests", objects),
            label_ids: fields.set("labelIds"),
        })
    }
}

async fn list(Reader(store): Reader, List(filter, page): List<IssueFilter>) -> Answer<Page<Issue>> {
    answer(store.issues().list(&filter, &page).await?)
}

async fn create(post: Post<NewIssue>) -> Posted<Created<Issue>> {
    post.create(async |session, (), new| Ok(session.issues().create(new).await?)).await
}

async fn detail(Reader(store): Reader, path: IssuePath) -> Single<IssueDetail> {
    let id = path.resolve(store.session()).await?;
    single(store.issues().detail(&id).await?)
}

async fn update(Writer(store): Writer, issue: IssuePath, IfMatch(revisions): IfMatch, Input(patch): Input<IssuePatch>) -> Single<Issue> {
    let id = issue.resolve(store.session()).await?;
    single(store.issues().expecting(revisions.as_ref()).update(&id, patch).await?)
}

async fn delete(Writer(store): Writer, path: IssuePath, IfMatch(revisions): IfMatch) -> Result<StatusCode, ApiError> {
    let id = path.resolve(store.session()).await?;
    store.issues().expecting(revisions.as_ref()).delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn events(Reader(store): Reader, path: IssuePath, List((), page): List<()>) -> Answer<Page<IssueEvent>> {
    let id = path.resolve(store.session()).await?;
    answer(store.events().of_issue(&id, &page).await?)
}

async fn attach(Writer(store): Writer, IssueLabelPath(issue, label): IssueLabelPath) -> Result<StatusCode, ApiError> {
    let issue = issue.resolve(store.session()).await?;
    store.labels().attach(&issue, &label).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn detach(Writer(store): Writer, IssueLabelPath(issue, label): IssueLabelPath) -> Result<StatusCode, ApiError> {
    let issue = issue.resolve(store.session()).await?;
    store.labels().detach(&issue, &label).await?;
    Ok(StatusCode::NO_CONTENT)
}
