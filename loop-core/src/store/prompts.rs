use tokio_postgres::Row;

use super::{
    executor::Executor,
    sql::{self, Columns, Composed, KeyKind, Keyed, NEWEST, Order, Statement, Target, Update, Within, by_id, params, row_of_project},
};
use crate::{
    Entity, Error, NewReview, NewTemplate, NewVersion, Page, PageRequest, PromptReview, PromptTemplate, PromptVersion, ReviewId,
    TemplateDetail, TemplateFilter, TemplateId, TemplatePatch, VersionId, VersionStatus,
};

macro_rules! template_columns {
    () => {
        "t.id, t.slug, t.name, t.description, t.conditions, t.specificity, t.project_id, t.active_version_id, t.created_at, t.updated_at, \
         t.deleted_at, t.revision"
    };
}

/// The review score is computed from the reviews that can be seen, so it is never out of date.
macro_rules! version_columns {
    () => {
        "v.id, v.template_id, v.version, v.content, v.changelog, v.author_type::text, v.author_name, v.status::text, v.usage_count, \
         v.completion_rate, v.avg_duration_ms, \
         (SELECT avg((w.clarity + w.completeness + w.relevance) / 3.0)::float8 FROM prompt_reviews AS w \
          JOIN issues AS i ON i.id = w.issue_id AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1) \
          WHERE w.version_id = v.id AND w.deleted_at IS NULL) AS review_score, \
         v.created_at, v.updated_at, v.deleted_at"
    };
}

macro_rules! review_columns {
    () => {
        "r.id, r.version_id, r.issue_id, r.clarity, r.completeness, r.relevance, r.feedback, r.author_type::text, r.created_at, \
         r.updated_at, r.deleted_at"
    };
}

/// A part of a template, from the living template `$2` within the scope on.
macro_rules! of_template {
    () => {
        " FROM prompt_templates AS t JOIN prompt_versions AS v ON v.template_id = t.id AND v.deleted_at IS NULL"
    };
}

/// The reviews of a version that are about issues within the scope.
macro_rules! visible_reviews {
    () => {
        " JOIN prompt_reviews AS r ON r.version_id = v.id AND r.deleted_at IS NULL
          JOIN issues AS i ON i.id = r.issue_id AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)"
    };
}

const GET: Keyed = by_id!(Entity::PromptTemplate, "templates.get", template_columns!(), "prompt_templates AS t", row_of_project);

const ACTIVE_VERSION: Statement = template(concat!(
    "-- versions.active\nSELECT ",
    version_columns!(),
    of_template!(),
    " WHERE ",
    row_of_project!(),
    " AND v.id = t.active_version_id"
));

const CREATE: Statement = template(concat!(
    "-- templates.create
WITH checked AS (
    SELECT $8::text IS NULL OR EXISTS (
               SELECT FROM projects AS p WHERE p.id = $8 AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.id = $1)) AS \"projectId?\"
), written AS (
    INSERT INTO prompt_templates AS t (id, slug, name, description, conditions, specificity, project_id)
    SELECT $2, $3, $4, $5, $6, $7, $8 FROM checked WHERE \"projectId?\"
    RETURNING ",
    template_columns!(),
    ")
SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
));

const UPDATE: Target = Target {
    entity: Entity::PromptTemplate,
    update: "templates.update",
    delete: "templates.delete",
    table: "prompt_templates",
    row: row_of_project!(),
    columns: template_columns!(),
    recorded: false,
};

const LIST: Statement =
    template(concat!("-- templates.list\nSELECT ", template_columns!(), " FROM prompt_templates AS t WHERE t.deleted_at IS NULL"));

const COUNT: Statement = template("-- templates.count\nSELECT count(*) FROM prompt_templates AS t WHERE t.deleted_at IS NULL");

const LIST_VERSIONS: Statement =
    version(concat!("-- versions.list\nSELECT ", version_columns!(), of_template!(), " WHERE ", row_of_project!()));

const COUNT_VERSIONS: Statement = version(concat!("-- versions.count\nSELECT count(*)", of_template!(), " WHERE ", row_of_project!()));

/// Counting the template's last version up locks its row, so concurrent versions follow one another, each with a number of its own; the
/// first becomes active. What is inserted uses what the count answered, not what was read before it waited.
const CREATE_VERSION: Statement = version(concat!(
    "-- versions.create
WITH counted AS (
    UPDATE prompt_templates AS t
    SET last_version = t.last_version + 1, active_version_id = coalesce(t.active_version_id, $3), updated_at = now(),
        revision = t.revision + 1
    WHERE ",
    row_of_project!(),
    "
    RETURNING t.id, t.last_version, t.active_version_id
)
INSERT INTO prompt_versions AS v (id, template_id, version, content, changelog, author_type, author_name, status)
SELECT $3, counted.id, counted.last_version, $4, $5, $6::author_type, $7,
       CASE WHEN counted.active_version_id = $3 THEN 'active' ELSE 'draft' END::version_status
FROM counted
RETURNING ",
    version_columns!()
));

/// Writing the template's active version makes it so: a trigger sets both versions' status under the row's lock. The version is read as
/// it was before, with the moment of the promotion behind it.
const PROMOTE: Statement = version(concat!(
    "-- versions.promote
WITH promoted AS (
    UPDATE prompt_templates AS t SET active_version_id = $3, updated_at = now(), revision = t.revision + 1
    WHERE ",
    row_of_project!(),
    "
      AND EXISTS (SELECT FROM prompt_versions AS v WHERE v.id = $3 AND v.template_id = $2 AND v.deleted_at IS NULL)
    RETURNING t.updated_at
)
SELECT ",
    version_columns!(),
    ", promoted.updated_at FROM promoted, prompt_versions AS v WHERE v.id = $3"
));

const GET_VERSION: Statement =
    version(concat!("-- versions.get\nSELECT ", version_columns!(), of_template!(), " WHERE ", row_of_project!(), " AND v.id = $3"));

const LIST_REVIEWS: Statement =
    review(concat!("-- reviews.list\nSELECT ", review_columns!(), of_template!(), visible_reviews!(), " WHERE ", row_of_project!()));

const COUNT_REVIEWS: Statement =
    review(concat!("-- reviews.count\nSELECT count(*)", of_template!(), visible_reviews!(), " WHERE ", row_of_project!()));

const CREATE_REVIEW: Statement = review(concat!(
    "-- reviews.create
WITH checked AS (
    SELECT EXISTS (
               SELECT FROM prompt_versions AS v JOIN prompt_templates AS t ON t.id = v.template_id AND t.deleted_at IS NULL
               WHERE v.id = $3 AND v.deleted_at IS NULL AND ($1::text IS NULL OR t.project_id = $1)) AS \"versionId?\",
           EXISTS (SELECT FROM issues AS i WHERE i.id = $4 AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)) AS \"issueId?\"
), written AS (
    INSERT INTO prompt_reviews AS r (id, version_id, issue_id, clarity, completeness, relevance, feedback, author_type)
    SELECT $2, $3, $4, $5, $6, $7, $8, $9::author_type FROM checked WHERE \"versionId?\" AND \"issueId?\"
    RETURNING ",
    review_columns!(),
    ")
SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
));

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[
    GET.one,
    GET.many,
    ACTIVE_VERSION,
    CREATE,
    LIST,
    COUNT,
    LIST_VERSIONS,
    COUNT_VERSIONS,
    CREATE_VERSION,
    PROMOTE,
    GET_VERSION,
    LIST_REVIEWS,
    COUNT_REVIEWS,
    CREATE_REVIEW,
];

const fn template(sql: &'static str) -> Statement {
    Statement::new(Entity::PromptTemplate, sql)
}

const fn version(sql: &'static str) -> Statement {
    Statement::new(Entity::PromptVersion, sql)
}

const fn review(sql: &'static str) -> Statement {
    Statement::new(Entity::PromptReview, sql)
}

fn read_template(columns: &mut Columns<'_>) -> Result<PromptTemplate, Error> {
    Ok(PromptTemplate {
        id: columns.next()?,
        slug: columns.next()?,
        name: columns.next()?,
        description: columns.next()?,
        conditions: columns.next()?,
        specificity: columns.next()?,
        project_id: columns.next()?,
        active_version_id: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
        revision: columns.next()?,
    })
}

fn read_template_row(row: &Row) -> Result<PromptTemplate, Error> {
    read_template(&mut Columns::of(row, "prompt_templates"))
}

fn read_version_row(row: &Row) -> Result<PromptVersion, Error> {
    read_version(&mut Columns::of(row, "prompt_versions"))
}

fn read_version(columns: &mut Columns<'_>) -> Result<PromptVersion, Error> {
    Ok(PromptVersion {
        id: columns.next()?,
        template_id: columns.next()?,
        version: columns.next()?,
        content: columns.next()?,
        changelog: columns.next()?,
        author_type: columns.next()?,
        author_name: columns.next()?,
        status: columns.next()?,
        usage_count: columns.next()?,
        completion_rate: columns.next()?,
        avg_duration_ms: columns.next()?,
        review_score: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
    })
}

fn read_review(columns: &mut Columns<'_>) -> Result<PromptReview, Error> {
    Ok(PromptReview {
        id: columns.next()?,
        version_id: columns.next()?,
        issue_id: columns.next()?,
        clarity: columns.next()?,
        completeness: columns.next()?,
        relevance: columns.next()?,
        feedback: columns.next()?,
        author_type: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
    })
}

fn matching<'a>(mut list: Composed<'a>, filter: &'a TemplateFilter) -> Composed<'a> {
    let TemplateFilter { project_id, slug } = filter;
    list.condition_if("t.project_id = ?", project_id.as_ref());
    list.condition_if("t.slug = ?", slug.as_ref());
    list
}

/// The prompt templates.
pub struct Templates<'a> {
    pub(crate) on: Executor<'a>,
}

impl Templates<'_> {
    /// The template with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: &TemplateId) -> Result<PromptTemplate, Error> {
        self.on.get(GET, id.as_str(), read_template_row).await
    }

    /// The template with this id and its version in use, in one round trip.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn detail(&self, id: &TemplateId) -> Result<TemplateDetail, Error> {
        let by_id: &[_] = params![id];
        let connection = self.on.connection().await?;
        let (template, active) = futures_util::try_join!(connection.opt(GET.one, by_id), connection.opt(ACTIVE_VERSION, by_id))?;
        Ok(TemplateDetail {
            template: read_template_row(&template.ok_or_else(|| Error::not_found(Entity::PromptTemplate, id))?)?,
            active_version: active.as_ref().map(read_version_row).transpose()?,
        })
    }

    /// The templates that match the filter, the newest first.
    pub async fn list(&self, filter: &TemplateFilter, page: &PageRequest) -> Result<Page<PromptTemplate>, Error> {
        const WITHIN: Within = Within::Project("t.project_id = $1");
        let begin = |statement| matching(Composed::list(statement, self.on.scope, WITHIN), filter);
        let key = |template: &PromptTemplate| (template.created_at.as_millis(), template.id.clone());
        sql::list(self.on, begin(LIST), || begin(COUNT), page, NEWEST, read_template_row, key).await
    }

    /// Creates a template. It has no version yet.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when a living template has the slug, [`Error::InvalidReference`] when the project is not there.
    pub async fn create(&self, new: NewTemplate) -> Result<PromptTemplate, Error> {
        let NewTemplate { slug, name, description, conditions, specificity, project_id } = new;
        let id = TemplateId::new();
        let project_id = project_id.as_ref().or(self.on.scope);
        let row = self.on.one(CREATE, params![id, slug, name, description, conditions, specificity.get(), project_id]).await?;
        sql::written(&row, Entity::PromptTemplate, "prompt_templates", &id, read_template)
    }

    /// Changes a template.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, [`Error::Conflict`] when another living template has the slug,
    /// [`Error::InvalidReference`] when the project is not there.
    pub async fn update(&self, id: &TemplateId, patch: TemplatePatch) -> Result<PromptTemplate, Error> {
        let TemplatePatch { slug, name, description, conditions, specificity, project_id } = patch;
        let specificity = specificity.map(crate::Specificity::get);
        let mut update = Update::of(UPDATE, id);
        update.set("slug", "?", slug.as_ref());
        update.set("name", "?", name.as_ref());
        update.patch("description", &description);
        update.set("conditions", "?", conditions.as_ref());
        update.set("specificity", "?", specificity.as_ref());
        update.refer_project(&project_id);
        sql::update(self.on, update, id, read_template).await
    }

    /// Deletes a template, and its versions and reviews with it. Its slug is free again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn delete(&self, id: &TemplateId) -> Result<(), Error> {
        sql::delete(self.on, UPDATE, id).await
    }
}

/// The versions of prompt templates.
pub struct Versions<'a> {
    pub(crate) on: Executor<'a>,
}

impl Versions<'_> {
    /// A version of a template.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the template has no such version, or is not there itself.
    pub async fn get(&self, template: &TemplateId, id: &VersionId) -> Result<PromptVersion, Error> {
        let row = self.on.opt(GET_VERSION, params![template, id]).await?;
        read_version_row(&row.ok_or_else(|| Error::not_found(Entity::PromptVersion, id))?)
    }

    /// The versions of a template, the newest first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such template.
    pub async fn list(&self, template: &TemplateId, page: &PageRequest) -> Result<Page<PromptVersion>, Error> {
        const ORDER: Order = Order {
            word: "-version",
            after: " AND (v.version, v.id) < (?::int8, ?)",
            by: " ORDER BY v.version DESC, v.id DESC",
            key: KeyKind::Number,
        };
        let begin = |statement| Composed::parts(statement, template);
        let key = |version: &PromptVersion| (version.version.into(), version.id.clone());
        let page = sql::list(self.on, begin(LIST_VERSIONS), || begin(COUNT_VERSIONS), page, ORDER, read_version_row, key).await?;
        if page.data.is_empty() {
            Templates { on: self.on }.get(template).await?;
        }
        Ok(page)
    }

    /// Creates the next version of a template. The first one is active, each later one a draft until it is promoted.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such template.
    pub async fn create(&self, template: &TemplateId, new: NewVersion) -> Result<PromptVersion, Error> {
        let NewVersion { content, changelog, author_type, author_name } = new;
        let parameters: &[_] = params![template, VersionId::new(), content, changelog, author_type, author_name];
        let row = self.on.opt(CREATE_VERSION, parameters).await?;
        read_version_row(&row.ok_or_else(|| Error::not_found(Entity::PromptTemplate, template))?)
    }

    /// Makes a version the one in use, and retires the one before. Of concurrent promotions, each is answered, and the last one holds.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the template has no such version, or is not there itself.
    pub async fn promote(&self, template: &TemplateId, id: &VersionId) -> Result<PromptVersion, Error> {
        let row = self.on.opt(PROMOTE, params![template, id]).await?;
        let row = row.ok_or_else(|| Error::not_found(Entity::PromptVersion, id))?;
        let mut columns = Columns::of(&row, "prompt_versions");
        let version = read_version(&mut columns)?;
        if version.status == VersionStatus::Active {
            return Ok(version);
        }
        Ok(PromptVersion { status: VersionStatus::Active, updated_at: columns.next()?, ..version })
    }
}

/// The reviews of prompt versions.
pub struct Reviews<'a> {
    pub(crate) on: Executor<'a>,
}

impl Reviews<'_> {
    /// The reviews of all versions of a template, the newest first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such template.
    pub async fn list(&self, template: &TemplateId, page: &PageRequest) -> Result<Page<PromptReview>, Error> {
        const ORDER: Order = Order { after: " AND (r.created_at, r.id) < (?, ?)", by: " ORDER BY r.created_at DESC, r.id DESC", ..NEWEST };
        let begin = |statement| Composed::parts(statement, template);
        let key = |review: &PromptReview| (review.created_at.as_millis(), review.id.clone());
        let read = |row: &Row| read_review(&mut Columns::of(row, "prompt_reviews"));
        let page = sql::list(self.on, begin(LIST_REVIEWS), || begin(COUNT_REVIEWS), page, ORDER, read, key).await?;
        if page.data.is_empty() {
            Templates { on: self.on }.get(template).await?;
        }
        Ok(page)
    }

    /// Creates a review.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidReference`] when the version or the issue is not there.
    pub async fn create(&self, new: NewReview) -> Result<PromptReview, Error> {
        let NewReview { version_id, issue_id, clarity, completeness, relevance, feedback, author_type } = new;
        let id = ReviewId::new();
        let grades = (clarity.get(), completeness.get(), relevance.get());
        let parameters: &[_] = params![id, version_id, issue_id, grades.0, grades.1, grades.2, feedback, author_type];
        let row = self.on.one(CREATE_REVIEW, parameters).await?;
        sql::written(&row, Entity::PromptReview, "prompt_reviews", &id, read_review)
    }
}
