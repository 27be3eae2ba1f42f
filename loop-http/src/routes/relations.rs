use axum::{Router, routing::get};
use http::StatusCode;
use loop_core::{NewRelation, Page, RelationId, RelationView, Session};

use super::{Answer, Posted, answer, issues::IssuePath};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::Id,
    fields::{Fields, FromFields},
    idempotency::Post,
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
    let issue = path.resolve(store.session()).await?;
    answer(store.relations().list(&issue, &page).await?)
}

async fn create(post: Post<NewRelation, IssuePath>) -> Posted {
    let create = async |session: Session<'_>, path: IssuePath, new| {
        let issue = path.resolve(session).await?;
        Ok(session.relations().create(&issue, new).await?)
    };
    post.create(create).await
}

async fn delete(Writer(store): Writer, Id(id): Id<RelationId>) -> Result<StatusCode, ApiError> {
    store.relations().delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
