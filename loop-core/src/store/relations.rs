use tokio_postgres::Row;

use super::{
    executor::Executor,
    issues::{self, issue_columns},
    sql::{self, Columns, Composed, NEWEST, Statement, params},
};
use crate::{Entity, Error, IssueId, NewRelation, Page, PageRequest, Relation, RelationDirection, RelationId, RelationView};

macro_rules! relation_columns {
    () => {
        "r.id, r.type::text, r.issue_id, r.related_issue_id, r.created_at, r.updated_at"
    };
    (of $issue:literal) => {
        concat!(relation_columns!(), ", r.issue_id = ", $issue, " AS outgoing")
    };
}
pub(crate) use relation_columns;

/// The relations of the issue `$2` from either side, with the issue at the other end: both within the scope, both living.
macro_rules! relation_views {
    () => {
        concat!(
            relation_columns!(of "$2"),
            ", ",
            issue_columns!(list),
            " FROM issue_relations AS r
              JOIN issues AS i ON i.id = $2 AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)
              JOIN issues AS t ON t.id = CASE WHEN r.issue_id = $2 THEN r.related_issue_id ELSE r.issue_id END
                  AND t.deleted_at IS NULL AND ($1::text IS NULL OR t.project_id = $1)
              WHERE (r.issue_id = $2 OR r.related_issue_id = $2)"
        )
    };
}

const LIST: Statement = relation(concat!("-- relations.list\nSELECT ", relation_views!()));

const COUNT: Statement =
    relation(concat!("-- relations.count\nSELECT count(*) FROM (SELECT ", relation_views!(), ") AS t (id) WHERE true"));

const CREATE: Statement = relation(concat!(
    "-- relations.create
WITH checked AS (
    SELECT EXISTS (SELECT FROM issues AS i WHERE i.id = $4 AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)) AS \"found?\",
           EXISTS (SELECT FROM issues AS i WHERE i.id = $5 AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1))
               AS \"relatedIssueId?\"
), written AS (
    INSERT INTO issue_relations AS r (id, type, issue_id, related_issue_id)
    SELECT $2, $3::relation_type, $4, $5 FROM checked WHERE \"found?\" AND \"relatedIssueId?\"
    RETURNING ",
    relation_columns!(),
    ", set_config('loop.actor', $6, true))
SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
));

const DELETE: Statement = relation(
    "-- relations.delete
DELETE FROM issue_relations AS r USING issues AS a, issues AS b
WHERE r.id = $2 AND a.id = r.issue_id AND b.id = r.related_issue_id AND a.deleted_at IS NULL AND b.deleted_at IS NULL
  AND ($1::text IS NULL OR (a.project_id = $1 AND b.project_id = $1))
RETURNING r.id, set_config('loop.actor', $3, true)",
);

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[LIST, COUNT, CREATE, DELETE];

const fn relation(sql: &'static str) -> Statement {
    Statement::new(Entity::Relation, sql)
}

fn read(columns: &mut Columns<'_>) -> Result<Relation, Error> {
    Ok(Relation {
        id: columns.next()?,
        kind: columns.next()?,
        issue_id: columns.next()?,
        related_issue_id: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
    })
}

/// Reads a relation as one of its issues sees it.
pub(crate) fn read_view(columns: &mut Columns<'_>) -> Result<RelationView, Error> {
    let relation = read(columns)?;
    let direction = if columns.next::<bool>()? { RelationDirection::Outgoing } else { RelationDirection::Incoming };
    Ok(RelationView { relation, direction, issue: issues::read(columns)? })
}

/// The relations between issues.
pub struct Relations<'a> {
    pub(crate) on: Executor<'a>,
}

impl Relations<'_> {
    /// The relations of an issue, from either side, the newest first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such issue.
    pub async fn list(&self, issue: &IssueId, page: &PageRequest) -> Result<Page<RelationView>, Error> {
        const ORDER: sql::Order =
            sql::Order { after: " AND (r.created_at, r.id) < (?, ?)", by: " ORDER BY r.created_at DESC, r.id DESC", ..NEWEST };
        let begin = |statement| Composed::parts(statement, issue);
        let key = |view: &RelationView| (view.relation.created_at.as_millis(), view.relation.id.clone());
        let read = |row: &Row| read_view(&mut Columns::of(row, "issue_relations"));
        let page = sql::list(self.on, begin(LIST), || begin(COUNT), page, ORDER, read, key).await?;
        issues::require_behind(self.on, issue, &page).await?;
        Ok(page)
    }

    /// Relates an issue to another.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such issue, [`Error::InvalidReference`] when the related one is not there,
    /// [`Error::Invalid`] when they are the same, [`Error::Conflict`] when they are so related already.
    pub async fn create(&self, issue: &IssueId, new: NewRelation) -> Result<Relation, Error> {
        let NewRelation { kind, related_issue_id } = new;
        let row = self.on.one(CREATE, params![RelationId::new(), kind, issue, related_issue_id, self.on.actor]).await?;
        sql::written_under(&row, Entity::Relation, "issue_relations", (Entity::Issue, issue), read)
    }

    /// Deletes a relation for good.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none between issues that are there.
    pub async fn delete(&self, id: &RelationId) -> Result<(), Error> {
        self.on.opt(DELETE, params![id, self.on.actor]).await?.map(drop).ok_or_else(|| Error::not_found(Entity::Relation, id))
    }
}
