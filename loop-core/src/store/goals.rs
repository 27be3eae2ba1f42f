use tokio_postgres::Row;

use super::{
    executor::Executor,
    sql::{self, Columns, Composed, Keyed, NEWEST, Statement, Target, Update, Within, by_id, params, row_of_project},
};
use crate::{Entity, Error, Goal, GoalFilter, GoalId, GoalPatch, NewGoal, Page, PageRequest};

macro_rules! goal_columns {
    () => {
        "t.id, t.title, t.description, t.metric, t.target_value, t.current_value, t.unit, t.status::text, t.project_id, t.created_at, \
         t.updated_at, t.deleted_at, t.revision"
    };
}

const GET: Keyed = by_id!(Entity::Goal, "goals.get", goal_columns!(), "goals AS t", row_of_project);

/// The goal a project pursues.
pub(crate) const OF_PROJECT: Statement = goal(concat!(
    "-- goals.of_project\nSELECT ",
    goal_columns!(),
    " FROM projects AS p JOIN goals AS t ON t.id = p.goal_id
      WHERE p.id = $2 AND t.deleted_at IS NULL AND ($1::text IS NULL OR (p.id = $1 AND t.project_id = $1))"
));

const CREATE: Statement = goal(concat!(
    "-- goals.create
WITH checked AS (
    SELECT $10::text IS NULL OR EXISTS (
               SELECT FROM projects AS p WHERE p.id = $10 AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.id = $1)) AS \"projectId?\"
), written AS (
    INSERT INTO goals AS t (id, title, description, metric, target_value, current_value, unit, status, project_id)
    SELECT $2, $3, $4, $5, $6, $7, $8, $9::goal_status, $10 FROM checked WHERE \"projectId?\"
    RETURNING ",
    goal_columns!(),
    ")
SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
));

const UPDATE: Target = Target {
    entity: Entity::Goal,
    update: "goals.update",
    delete: "goals.delete",
    table: "goals",
    row: row_of_project!(),
    columns: goal_columns!(),
    recorded: false,
};

const LIST: Statement = goal(concat!("-- goals.list\nSELECT ", goal_columns!(), " FROM goals AS t WHERE t.deleted_at IS NULL"));

const COUNT: Statement = goal("-- goals.count\nSELECT count(*) FROM goals AS t WHERE t.deleted_at IS NULL");

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[GET.one, GET.many, OF_PROJECT, CREATE, LIST, COUNT];

const WITHIN: Within = Within::Project("t.project_id = $1");

const fn goal(sql: &'static str) -> Statement {
    Statement::new(Entity::Goal, sql)
}

fn read(columns: &mut Columns<'_>) -> Result<Goal, Error> {
    Ok(Goal {
        id: columns.next()?,
        title: columns.next()?,
        description: columns.next()?,
        metric: columns.next()?,
        target_value: columns.next()?,
        current_value: columns.next()?,
        unit: columns.next()?,
        status: columns.next()?,
        project_id: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
        revision: columns.next()?,
    })
}

pub(crate) fn read_row(row: &Row) -> Result<Goal, Error> {
    read(&mut Columns::of(row, "goals"))
}

fn matching<'a>(mut list: Composed<'a>, filter: &'a GoalFilter) -> Composed<'a> {
    let GoalFilter { status, project_id } = filter;
    list.any_of("t.status", "?::goal_status", status);
    list.condition_if("t.project_id = ?", project_id.as_ref());
    list
}

/// The goals.
pub struct Goals<'a> {
    pub(crate) on: Executor<'a>,
}

impl Goals<'_> {
    /// The goal with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: &GoalId) -> Result<Goal, Error> {
        self.on.get(GET, id.as_str(), read_row).await
    }

    /// The goals that match the filter, the newest first.
    pub async fn list(&self, filter: &GoalFilter, page: &PageRequest) -> Result<Page<Goal>, Error> {
        let begin = |statement| matching(Composed::list(statement, self.on.scope, WITHIN), filter);
        let key = |goal: &Goal| (goal.created_at.as_millis(), goal.id.clone());
        sql::list(self.on, begin(LIST), || begin(COUNT), page, NEWEST, read_row, key).await
    }

    /// Creates a goal.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidReference`] when the project is not there.
    pub async fn create(&self, new: NewGoal) -> Result<Goal, Error> {
        let NewGoal { title, description, metric, target_value, current_value, unit, status, project_id } = new;
        let id = GoalId::new();
        let project_id = project_id.as_ref().or(self.on.scope);
        let parameters: &[_] = params![id, title, description, metric, target_value, current_value, unit, status, project_id];
        let row = self.on.one(CREATE, parameters).await?;
        sql::written(&row, Entity::Goal, "goals", &id, read)
    }

    /// Changes a goal.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, [`Error::InvalidReference`] when the project is not there.
    pub async fn update(&self, id: &GoalId, patch: GoalPatch) -> Result<Goal, Error> {
        let GoalPatch { title, description, metric, target_value, current_value, unit, status, project_id } = patch;
        let mut update = Update::of(UPDATE, id);
        update.set("title", "?", title.as_ref());
        update.patch("description", &description);
        update.patch("metric", &metric);
        update.patch("target_value", &target_value);
        update.patch("current_value", &current_value);
        update.patch("unit", &unit);
        update.set("status", "?::goal_status", status.as_ref());
        update.refer_project(&project_id);
        sql::update(self.on, update, id, read).await
    }

    /// Deletes a goal. Projects that pursue it still name it, and show none.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn delete(&self, id: &GoalId) -> Result<(), Error> {
        sql::delete(self.on, UPDATE, id).await
    }
}
