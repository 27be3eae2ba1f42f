use axum::{Router, routing::get};
use http::StatusCode;
use loop_core::{NewRelation, Page, Relation, RelationId, RelationView};

use super::{Answer, Created, answer, created, issues::IssuePath};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::{Id, Input},
    fields::{Fields, FromFields},
    query::List,
    state::AppState,
};

pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/issues/{id}/relations", get(list).post(create)).route("/relations/{id}", axum::routing::delete(delete))
}

impl FromFields for NewRelation {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (kind, related_issue_id) = (fields.required("type"), fields.required("relatedIssueId"));
        Some(Self { kind: kind?, related_issue_id: related_issue_id? })
    }
}

async fn list(Reader(store): Reader, path: IssuePath, List((), page): List<()>) -> Answer<Page<RelationView>> {
    let issue = path.resolve(&store).await?;
    answer(store.relations().list(&issue, &page).await?)
}

async fn create(Writer(store): Writer, path: IssuePath, Input(new): Input<NewRelation>) -> Created<Relation> {
    let issue = path.resolve(&store).await?;
    created(store.relations().create(&issue, new).await?)
}

async fn delete(Writer(store): Writer, Id(id): Id<RelationId>) -> Result<StatusCode, ApiError> {
    store.relations().delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
