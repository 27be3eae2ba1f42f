use http::StatusCode;
use loop_core::{
    JsonObject, NewReview, NewTemplate, NewVersion, Page, PromptReview, PromptTemplate, PromptVersion, Specificity, TemplateDetail,
    TemplateFilter, TemplateId, TemplatePatch, VersionId,
};

use super::{Answer, Posted, Single, answer, single};
use crate::{
    auth::{Reader, Writer},
    error::ApiError,
    extract::{Id, Ids, Input},
    fields::{Fields, FromFields},
    idempotency::{Created, Done, Post},
    openapi::Routes,
    query::{FromQuery, List, Query},
    revision::IfMatch,
};

pub(crate) fn routes() -> Routes {
    Routes::tagged("Prompt templates")
        .get("/templates", "listTemplates", "List prompt templates", list)
        .post("/templates", "createTemplate", "Create a prompt template", create)
        .get("/templates/{id}", "getTemplate", "Get a prompt template with the version in use", detail)
        .patch("/templates/{id}", "updateTemplate", "Change a prompt template", update)
        .delete("/templates/{id}", "deleteTemplate", "Delete a prompt template", delete)
        .get("/templates/{id}/versions", "listVersions", "List the versions of a prompt template", list_versions)
        .post("/templates/{id}/versions", "createVersion", "Add a version, a draft, to a prompt template", create_version)
        .post(
            "/templates/{id}/versions/{versionId}/promote",
            "promoteVersion",
            "Bring a version into use in place of the one before",
            promote,
        )
        .get("/templates/{id}/reviews", "listReviews", "List the reviews of all versions of a prompt template", list_reviews)
        .post("/prompt-reviews", "createReview", "Review a version after work on an issue", create_review)
}

impl FromQuery for TemplateFilter {
    fn from_query(query: &mut Query) -> Self {
        let mut filter = Self::default();
        if let Some(project) = query.one("projectId") {
            filter = filter.with_project(project);
        }
        if let Some(slug) = query.one("slug") {
            filter = filter.with_slug(slug);
        }
        filter
    }
}

impl FromFields for NewTemplate {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (slug, name) = (fields.required("slug"), fields.required("name"));
        let description = fields.optional("description");
        let conditions = fields.or("conditions", JsonObject::default());
        let specificity = fields.or("specificity", Specificity::default());
        let project_id = fields.optional("projectId");
        Some(Self { slug: slug?, name: name?, description, conditions, specificity, project_id })
    }
}

impl FromFields for TemplatePatch {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            slug: fields.set("slug"),
            name: fields.set("name"),
            description: fields.patch("description"),
            conditions: fields.set("conditions"),
            specificity: fields.set("specificity"),
            project_id: fields.patch("projectId"),
        })
    }
}

impl FromFields for NewVersion {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (content, author_type, author_name) =
            (fields.required("content"), fields.required("authorType"), fields.required("authorName"));
        let changelog = fields.optional("changelog");
        Some(Self { content: content?, changelog, author_type: author_type?, author_name: author_name? })
    }
}

impl FromFields for NewReview {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (version_id, issue_id) = (fields.required("versionId"), fields.required("issueId"));
        let (clarity, completeness, relevance) =
            (fields.required("clarity"), fields.required("completeness"), fields.required("relevance"));
        let feedback = fields.optional("feedback");
        let author_type = fields.required("authorType");
        Some(Self {
            version_id: version_id?,
            issue_id: issue_id?,
            clarity: clarity?,
            completeness: completeness?,
            relevance: relevance?,
            feedback,
            author_type: author_type?,
        })
    }
}

async fn list(Reader(store): Reader, List(filter, page): List<TemplateFilter>) -> Answer<Page<PromptTemplate>> {
    answer(store.templates().list(&filter, &page).await?)
}

async fn create(post: Post<NewTemplate>) -> Posted<Created<PromptTemplate>> {
    post.create(async |session, (), new| Ok(session.templates().create(new).await?)).await
}

async fn detail(Reader(store): Reader, Id(id): Id<TemplateId>) -> Single<TemplateDetail> {
    single(store.templates().detail(&id).await?)
}

async fn update(
    Writer(store): Writer,
    Id(id): Id<TemplateId>,
    IfMatch(revisions): IfMatch,
    Input(patch): Input<TemplatePatch>,
) -> Single<PromptTemplate> {
    single(store.templates().expecting(revisions.as_ref()).update(&id, patch).await?)
}

async fn delete(Writer(store): Writer, Id(id): Id<TemplateId>, IfMatch(revisions): IfMatch) -> Result<StatusCode, ApiError> {
    store.templates().expecting(revisions.as_ref()).delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_versions(Reader(store): Reader, Id(template): Id<TemplateId>, List((), page): List<()>) -> Answer<Page<PromptVersion>> {
    answer(store.versions().list(&template, &page).await?)
}

async fn create_version(post: Post<NewVersion, Id<TemplateId>>) -> Posted<Created<PromptVersion>> {
    post.create(async |session, Id(template), new| Ok(session.versions().create(&template, new).await?)).await
}

async fn promote(post: Post<(), Ids<TemplateId, VersionId>>) -> Posted<Done<PromptVersion>> {
    post.run(async |session, Ids(template, version), ()| Ok(session.versions().promote(&template, &version).await?)).await
}

async fn list_reviews(Reader(store): Reader, Id(template): Id<TemplateId>, List((), page): List<()>) -> Answer<Page<PromptReview>> {
    answer(store.reviews().list(&template, &page).await?)
}

async fn create_review(post: Post<NewReview>) -> Posted<Created<PromptReview>> {
    post.create(async |session, (), new| Ok(session.reviews().create(new).await?)).await
}
