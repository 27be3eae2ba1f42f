use http::StatusCode;
use loop_core::{
    IssueEvent, NewProject, Page, Project, ProjectDetail, ProjectFilter, ProjectHealth, ProjectId, ProjectPatch, ProjectStatus,
};

use super::{Answer, Posted, Single, answer, single};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::{Id, Input},
    fields::{Fields, FromFields},
    idempotency::{Created, Post},
    openapi::Routes,
    query::{FromQuery, List, Query},
    revision::IfMatch,
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Projects")
        .get("/projects", "listProjects", "List projects", list)
        .post("/projects", "createProject", "Create a project", create)
        .get("/projects/{id}", "getProject", "Get a project with its goal and how many issues it has", detail)
        .patch("/projects/{id}", "updateProject", "Change a project", update)
        .delete("/projects/{id}", "deleteProject", "Delete a project", delete)
        .get("/projects/{id}/events", "listProjectEvents", "List what was done to the issues of a project", events)
}

impl FromQuery for ProjectFilter {
    fn from_query(query: &mut Query) -> Self {
        let mut filter = Self::default().with_status(query.several("status")).with_health(query.several("health"));
        if let Some(goal) = query.one("goalId") {
            filter = filter.with_goal(goal);
        }
        filter
    }
}

impl FromFields for NewProject {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name");
        let description = fields.optional("description");
        let status = fields.or("status", ProjectStatus::Backlog);
        let health = fields.or("health", ProjectHealth::OnTrack);
        let goal_id = fields.optional("goalId");
        Some(Self { name: name?, description, status, health, goal_id })
    }
}

impl FromFields for ProjectPatch {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            name: fields.set("name"),
            description: fields.patch("description"),
            status: fields.set("status"),
            health: fields.set("health"),
            goal_id: fields.patch("goalId"),
        })
    }
}

async fn list(Reader(store): Reader, List(filter, page): List<ProjectFilter>) -> Answer<Page<Project>> {
    answer(store.projects().list(&filter, &page).await?)
}

async fn create(post: Post<NewProject>) -> Posted<Created<Project>> {
    post.create(async |session, (), new| Ok(session.projects().create(new).await?)).await
}

async fn detail(Reader(store): Reader, Id(id): Id<ProjectId>) -> Single<ProjectDetail> {
    single(store.projects().detail(&id).await?)
}

async fn update(
    Writer(store): Writer,
    Id(id): Id<ProjectId>,
    IfMatch(revisions): IfMatch,
    Input(patch): Input<ProjectPatch>,
) -> Single<Project> {
    single(store.projects().expecting(revisions.as_ref()).update(&id, patch).await?)
}

async fn delete(Writer(store): Writer, Id(id): Id<ProjectId>, IfMatch(revisions): IfMatch) -> Result<StatusCode, ApiError> {
    store.projects().expecting(revisions.as_ref()).delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn events(Reader(store): Reader, Id(id): Id<ProjectId>, List((), page): List<()>) -> Answer<Page<IssueEvent>> {
    answer(store.events().of_project(&id, &page).await?)
}
