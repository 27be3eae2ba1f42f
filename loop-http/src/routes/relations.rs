use http::StatusCode;
use loop_core::{NewRelation, Page, Relation, RelationId, RelationView};

use super::{Answer, Created, answer, created, issues::IssuePath};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::{Id, Input},
    fields::{Fields, FromFields},
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
