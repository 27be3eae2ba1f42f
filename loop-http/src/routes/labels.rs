use http::StatusCode;
use loop_core::{Label, LabelId, LabelPatch, NewLabel, Page};

use super::{Answer, Posted, Single, answer, single};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::{Id, Input},
    fields::{Fields, FromFields},
    idempotency::{Created, Post},
    openapi::Routes,
    query::List,
    revision::IfMatch,
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Labels")
        .get("/labels", "listLabels", "List labels", list)
        .post("/labels", "createLabel", "Create a label", create)
        .get("/labels/{id}", "getLabel", "Get a label", read)
        .patch("/labels/{id}", "updateLabel", "Change a label", update)
        .delete("/labels/{id}", "deleteLabel", "Delete a label", delete)
}

impl FromFields for NewLabel {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (name, color) = (fields.required("name"), fields.required("color"));
        Some(Self { name: name?, color: color? })
    }
}

impl FromFields for LabelPatch {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { name: fields.set("name"), color: fields.set("color") })
    }
}

async fn list(Reader(store): Reader, List((), page): List<()>) -> Answer<Page<Label>> {
    answer(store.labels().list(&page).await?)
}

async fn create(post: Post<NewLabel>) -> Posted<Created<Label>> {
    post.create(async |session, (), new| Ok(session.labels().create(new).await?)).await
}

async fn read(Reader(store): Reader, Id(id): Id<LabelId>) -> Single<Label> {
    single(store.labels().get(&id).await?)
}

async fn update(Writer(store): Writer, Id(id): Id<LabelId>, IfMatch(revisions): IfMatch, Input(patch): Input<LabelPatch>) -> Single<Label> {
    single(store.labels().expecting(revisions.as_ref()).update(&id, patch).await?)
}

async fn delete(Writer(store): Writer, Id(id): Id<LabelId>, IfMatch(revisions): IfMatch) -> Result<StatusCode, ApiError> {
    store.labels().expecting(revisions.as_ref()).delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
