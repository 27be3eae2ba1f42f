use tokio_postgres::Row;

use super::{
    executor::Executor,
    sql::{self, Columns, Composed, Keyed, NEWEST, Statement, Target, Update, Within, by_id, params},
};
use crate::{Entity, Error, IssueId, Label, LabelId, LabelName, LabelPatch, NewLabel, Page, PageRequest};

macro_rules! label_columns {
    () => {
        "t.id, t.name, t.color, t.created_at, t.updated_at, t.deleted_at, t.revision"
    };
}
pub(crate) use label_columns;

/// The living label with this id.
macro_rules! label_row {
    ($id:literal) => {
        concat!("t.id = ", $id, " AND t.deleted_at IS NULL")
    };
}

const GET: Keyed = by_id!(Entity::Label, "labels.get", label_columns!(), "labels AS t", label_row);

const CREATE: Statement = label(concat!(
    "-- labels.create\nINSERT INTO labels AS t (id, name, color, name_key) VALUES ($2, $3, $4, $5) RETURNING ",
    label_columns!()
));

const LIST: Statement = label(concat!("-- labels.list\nSELECT ", label_columns!(), " FROM labels AS t WHERE t.deleted_at IS NULL"));

const COUNT: Statement = label("-- labels.count\nSELECT count(*) FROM labels AS t WHERE t.deleted_at IS NULL");

const UPDATE: Target = Target {
    entity: Entity::Label,
    update: "labels.update",
    delete: "labels.delete",
    table: "labels",
    row: "t.id = $2 AND t.deleted_at IS NULL",
    columns: label_columns!(),
    recorded: false,
};

const OF_ISSUE: Statement = label(concat!(
    "-- labels.of_issue\nSELECT ",
    label_columns!(),
    " FROM issue_labels AS l JOIN labels AS t ON t.id = l.label_id AND t.deleted_at IS NULL
      JOIN issues AS i ON i.id = l.issue_id AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)
      WHERE l.issue_id = $2 ORDER BY t.name_key, t.id"
));

/// The issue is locked first, as by whoever replaces its labels, so that the two do not wait for each other.
const ATTACH: Statement = label(
    "-- labels.attach
WITH found AS MATERIALIZED (
    SELECT FROM issues AS i WHERE i.id = $2 AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1) FOR NO KEY UPDATE
), checked AS (
    SELECT EXISTS (SELECT FROM found) AS issue,
           EXISTS (SELECT FROM labels AS l WHERE l.id = $3 AND l.deleted_at IS NULL) AS label
), attached AS (
    INSERT INTO issue_labels (issue_id, label_id) SELECT $2, $3 FROM checked WHERE issue AND label ON CONFLICT DO NOTHING
    RETURNING issue_id, set_config('loop.actor', $4, true)
), revised AS (
    UPDATE issues AS i SET revision = i.revision + 1, updated_at = now() FROM attached WHERE i.id = attached.issue_id
)
SELECT issue, label FROM checked",
);

const DETACH: Statement = label(
    "-- labels.detach
WITH found AS MATERIALIZED (
    SELECT FROM issues AS i WHERE i.id = $2 AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1) FOR NO KEY UPDATE
), checked AS (
    SELECT EXISTS (SELECT FROM found) AS issue,
           EXISTS (SELECT FROM labels AS l WHERE l.id = $3 AND l.deleted_at IS NULL) AS label
), detached AS (
    DELETE FROM issue_labels AS t USING checked WHERE t.issue_id = $2 AND t.label_id = $3 AND issue AND label
    RETURNING t.issue_id, set_config('loop.actor', $4, true)
), revised AS (
    UPDATE issues AS i SET revision = i.revision + 1, updated_at = now() FROM detached WHERE i.id = detached.issue_id
)
SELECT issue, label FROM checked",
);

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[GET.one, GET.many, CREATE, LIST, COUNT, OF_ISSUE, ATTACH, DETACH];

const fn label(sql: &'static str) -> Statement {
    Statement::new(Entity::Label, sql)
}

pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Label, Error> {
    Ok(Label {
        id: columns.next()?,
        name: columns.next()?,
        color: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
        revision: columns.next()?,
    })
}

fn read_row(row: &Row) -> Result<Label, Error> {
    read(&mut Columns::of(row, "labels"))
}

/// The labels. They are shared by all projects, so a store bound to one sees them all.
pub struct Labels<'a> {
    pub(crate) on: Executor<'a>,
}

impl Labels<'_> {
    /// The label with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: &LabelId) -> Result<Label, Error> {
        self.on.get(GET, id.as_str(), read_row).await
    }

    /// The labels, the newest first.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<Label>, Error> {
        let begin = |statement| Composed::list(statement, self.on.scope, Within::Shared);
        sql::list(self.on, begin(LIST), || begin(COUNT), page, NEWEST, read_row, |label| (label.created_at.as_millis(), label.id.clone()))
            .await
    }

    /// Creates a label.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when a living label has the name, in whatever case.
    pub async fn create(&self, new: NewLabel) -> Result<Label, Error> {
        let NewLabel { name, color } = new;
        read_row(&self.on.one(CREATE, params![LabelId::new(), name, color, name.key()]).await?)
    }

    /// Changes a label.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, [`Error::Conflict`] when another living label has the name.
    pub async fn update(&self, id: &LabelId, patch: LabelPatch) -> Result<Label, Error> {
        let LabelPatch { name, color } = patch;
        let key = name.as_ref().map(LabelName::key);
        let mut update = Update::of(UPDATE, id);
        update.set("name", "?", name.as_ref());
        update.set("name_key", "?", key.as_ref());
        update.set("color", "?", color.as_ref());
        sql::update(self.on, update, id, read).await
    }

    /// Deletes a label, which takes it off every issue.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn delete(&self, id: &LabelId) -> Result<(), Error> {
        sql::delete(self.on, UPDATE, id).await
    }

    /// The labels of an issue, by name. None for an issue that is not there.
    pub async fn of_issue(&self, issue: &IssueId) -> Result<Vec<Label>, Error> {
        self.on.rows(OF_ISSUE, params![issue]).await?.iter().map(read_row).collect()
    }

    /// Puts a label on an issue. It may already be there.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such issue or label.
    pub async fn attach(&self, issue: &IssueId, label: &LabelId) -> Result<(), Error> {
        self.link(ATTACH, issue, label).await
    }

    /// Takes a label off an issue. It may already be gone.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such issue or label.
    pub async fn detach(&self, issue: &IssueId, label: &LabelId) -> Result<(), Error> {
        self.link(DETACH, issue, label).await
    }

    async fn link(&self, statement: Statement, issue: &IssueId, label: &LabelId) -> Result<(), Error> {
        let row = self.on.one(statement, params![issue, label, self.on.actor]).await?;
        let mut columns = Columns::of(&row, "issue_labels");
        match (columns.next::<bool>()?, columns.next::<bool>()?) {
            (true, true) => Ok(()),
            (false, _) => Err(Error::not_found(Entity::Issue, issue)),
            (true, false) => Err(Error::not_found(Entity::Label, label)),
        }
    }
}
