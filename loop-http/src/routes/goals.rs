use http::StatusCode;
use loop_core::{Goal, GoalFilter, GoalId, GoalPatch, GoalStatus, NewGoal, Page};

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
    Routes::tagged("Goals")
        .get("/goals", "listGoals", "List goals", list)
        .post("/goals", "createGoal", "Create a goal", create)
        .get("/goals/{id}", "getGoal", "Get a goal", read)
        .patch("/goals/{id}", "updateGoal", "Change a goal", update)
        .delete("/goals/{id}", "deleteGoal", "Delete a goal", delete)
}

impl FromQuery for GoalFilter {
    fn from_query(query: &mut Query) -> Self {
        let mut filter = Self::default().with_status(query.several("status"));
        if let Some(project) = query.one("projectId") {
            filter = filter.with_project(project);
        }
        filter
    }
}

impl FromFields for NewGoal {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let title = fields.required("title");
        let description = fields.optional("description");
        let metric = fields.optional("metric");
        let target_value = fields.optional("targetValue");
        let current_value = fields.optional("currentValue");
        let unit = fields.optional("unit");
        let status = fields.or("status", GoalStatus::Active);
        let project_id = fields.optional("projectId");
        Some(Self { title: title?, description, metric, target_value, current_value, unit, status, project_id })
    }
}

impl FromFields for GoalPatch {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            title: fields.set("title"),
            description: fields.patch("description"),
            metric: fields.patch("metric"),
            target_value: fields.patch("targetValue"),
            current_value: fields.patch("currentValue"),
            unit: fields.patch("unit"),
            status: fields.set("status"),
            project_id: fields.patch("projectId"),
        })
    }
}

async fn list(Reader(store): Reader, List(filter, page): List<GoalFilter>) -> Answer<Page<Goal>> {
    answer(store.goals().list(&filter, &page).await?)
}

async fn create(post: Post<NewGoal>) -> Posted<Created<Goal>> {
    post.create(async |session, (), new| Ok(session.goals().create(new).await?)).await
}

async fn read(Reader(store): Reader, Id(id): Id<GoalId>) -> Single<Goal> {
    single(store.goals().get(&id).await?)
}

async fn update(Writer(store): Writer, Id(id): Id<GoalId>, IfMatch(revisions): IfMatch, Input(patch): Input<GoalPatch>) -> Single<Goal> {
    single(store.goals().expecting(revisions.as_ref()).update(&id, patch).await?)
}

async fn delete(Writer(store): Writer, Id(id): Id<GoalId>, IfMatch(revisions): IfMatch) -> Result<StatusCode, ApiError> {
    store.goals().expecting(revisions.as_ref()).delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
