use http::StatusCode;
use loop_core::{Comment, CommentId, CommentPatch, CommentThread, NewComment, Page, Session};

use super::{Answer, Posted, Single, answer, issues::IssuePath, single};
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
    Routes::tagged("Comments")
        .get("/issues/{id}/comments", "listComments", "List the comments on an issue, with the replies to them", list)
        .post("/issues/{id}/comments", "createComment", "Comment on an issue, or reply to a comment", create)
        .patch("/comments/{id}", "updateComment", "Change a comment", update)
        .delete("/comments/{id}", "deleteComment", "Delete a comment", delete)
}

impl FromFields for NewComment {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (body, author_name, author_type) = (fields.required("body"), fields.required("authorName"), fields.required("authorType"));
        let parent_id = fields.optional("parentId");
        Some(Self { body: body?, author_name: author_name?, author_type: author_type?, parent_id })
    }
}

impl FromFields for CommentPatch {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { body: fields.set("body") })
    }
}

async fn list(Reader(store): Reader, path: IssuePath, List((), page): List<()>) -> Answer<Page<CommentThread>> {
    let issue = path.resolve(store.session()).await?;
    answer(store.comments().list(&issue, &page).await?)
}

async fn create(post: Post<NewComment, IssuePath>) -> Posted<Created<Comment>> {
    let create = async |session: Session<'_>, path: IssuePath, new| {
        let issue = path.resolve(session).await?;
        Ok(session.comments().create(&issue, new).await?)
    };
    post.create(create).await
}

async fn update(
    Writer(store): Writer,
    Id(id): Id<CommentId>,
    IfMatch(revisions): IfMatch,
    Input(patch): Input<CommentPatch>,
) -> Single<Comment> {
    single(store.comments().expecting(revisions.as_ref()).update(&id, patch).await?)
}

async fn delete(Writer(store): Writer, Id(id): Id<CommentId>, IfMatch(revisions): IfMatch) -> Result<StatusCode, ApiError> {
    store.comments().expecting(revisions.as_ref()).delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
