use http::StatusCode;
use loop_core::{NewRelation, Page, Relation, RelationId, RelationView, Session};

use super::{Answer, Posted, answer, issues::IssuePath};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::Id,
    fields::{Fields, FromFields},
    idempotency::{Created, Post},
    openapi::Routes,
    query::List,
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Relations")
        .get("/issues/{id}/relations", "listRelations", "List the relations of an issue, from either side", list)
        .post("/issues/{id}/relations", "createRelation", "Relate an issue to another", create)
        .delete("/relations/{id}", "deleteRelation", "Delete a relation", delete)
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

async fn create(post: Post<NewRelation, IssuePath>) -> Posted<Created<Relation>> {
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
