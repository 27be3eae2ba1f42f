use tokio_postgres::Row;

use super::{
    executor::Executor,
    issues,
    sql::{self, Columns, Composed, KeyKind, Order, Statement},
};
use crate::{Change, Entity, Error, IssueEvent, IssueId, Page, PageRequest, ProjectId};

macro_rules! event_columns {
    () => {
        "e.id, e.issue_id, e.project_id, e.action::text, e.actor, e.changes, e.created_at"
    };
}

/// What was done to the issue `$2`, as long as it belonged to the scope.
macro_rules! of_issue {
    () => {
        " FROM issue_events AS e JOIN issues AS i ON i.id = e.issue_id AND i.deleted_at IS NULL AND ($1::text IS NULL OR i.project_id = $1)
          WHERE e.issue_id = $2 AND ($1::text IS NULL OR e.project_id = $1)"
    };
}

/// What was done to issues while they belonged to the project `$2`.
macro_rules! of_project {
    () => {
        " FROM issue_events AS e WHERE e.project_id = $2 AND ($1::text IS NULL OR e.project_id = $1)"
    };
}

const OF_ISSUE: Statement = event(concat!("-- events.of_issue\nSELECT ", event_columns!(), of_issue!()));
const COUNT_OF_ISSUE: Statement = event(concat!("-- events.count_of_issue\nSELECT count(*)", of_issue!()));
const OF_PROJECT: Statement = event(concat!("-- events.of_project\nSELECT ", event_columns!(), of_project!()));
const COUNT_OF_PROJECT: Statement = event(concat!("-- events.count_of_project\nSELECT count(*)", of_project!()));

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[OF_ISSUE, COUNT_OF_ISSUE, OF_PROJECT, COUNT_OF_PROJECT];

const fn event(sql: &'static str) -> Statement {
    Statement::new(Entity::Issue, sql)
}

fn read_row(row: &Row) -> Result<IssueEvent, Error> {
    let mut columns = Columns::of(row, "issue_events");
    Ok(IssueEvent {
        id: columns.next()?,
        issue_id: columns.next()?,
        project_id: columns.next()?,
        action: columns.next()?,
        actor: columns.next()?,
        changes: columns.json::<Vec<Change>>()?.unwrap_or_default(),
        created_at: columns.next()?,
    })
}

/// The history of issues.
pub struct Events<'a> {
    pub(crate) on: Executor<'a>,
}

impl Events<'_> {
    /// What was done to an issue, the latest first. A store that is bound to a project sees what was done while the issue belonged to it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such issue, [`Error::MalformedCursor`] when the cursor is not one of this list.
    pub async fn of_issue(&self, issue: &IssueId, page: &PageRequest) -> Result<Page<IssueEvent>, Error> {
        let page = self.list((OF_ISSUE, COUNT_OF_ISSUE), issue, page).await?;
        issues::require_behind(self.on, issue, &page).await?;
        Ok(page)
    }

    /// What was done to issues while they belonged to a project, the latest first. Events of deleted issues are among them.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such project, [`Error::MalformedCursor`] when the cursor is not one of this list.
    pub async fn of_project(&self, project: &ProjectId, page: &PageRequest) -> Result<Page<IssueEvent>, Error> {
        let page = self.list((OF_PROJECT, COUNT_OF_PROJECT), project, page).await?;
        if page.data.is_empty() {
            super::Projects { on: self.on }.get(project).await?;
        }
        Ok(page)
    }

    async fn list<Id: sql::Param>(
        &self,
        (rows, count): (Statement, Statement),
        id: &Id,
        page: &PageRequest,
    ) -> Result<Page<IssueEvent>, Error> {
        const ORDER: Order =
            Order { word: "-id", after: " AND (e.id, e.issue_id) < (?, ?)", by: " ORDER BY e.id DESC", key: KeyKind::Number };
        let begin = |statement| Composed::parts(statement, id);
        sql::list(self.on, begin(rows), || begin(count), page, ORDER, read_row, |event| (event.id, event.issue_id.clone())).await
    }
}
