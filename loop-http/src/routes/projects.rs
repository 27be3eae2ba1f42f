use http::StatusCode;
use loop_core::{NewProject, Page, Project, ProjectDetail, ProjectFilter, ProjectHealth, ProjectId, ProjectPatch, ProjectStatus};

use super::{Answer, Created, answer, created};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::{Id, Input},
    fields::{Fields, FromFields},
    openapi::Routes,
    query::{FromQuery, List, Query},
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Projects")
        .get("/projects", "listProjects", "List projects", list)
        .post("/projects", "createProject", "Create a project", create)
        .get("/projects/{id}", "getProject", "Get a project with its goal and how many issues it has", detail)
        .patch("/projects/{id}", "updateProject", "Change a project", update)
        .delete("/projects/{id}", "deleteProject", "Delete a project", delete)
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

async fn create(Writer(store): Writer, Input(new): Input<NewProject>) -> Created<Project> {
    created(store.projects().create(new).await?)
}

async fn detail(Reader(store): Reader, Id(id): Id<ProjectId>) -> Answer<ProjectDetail> {
    answer(store.projects().detail(&id).await?)
}

async fn update(Writer(store): Writer, Id(id): Id<ProjectId>, Input(patch): Input<ProjectPatch>) -> Answer<Project> {
    answer(store.projects().update(&id, patch).await?)
}

async fn delete(Writer(store): Writer, Id(id): Id<ProjectId>) -> Result<StatusCode, ApiError> {
    store.projects().delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
