use tokio_postgres::Row;

use super::{
    executor::Executor,
    goals,
    sql::{self, Columns, Composed, Keyed, NEWEST, Statement, Target, Update, Within, by_id, params},
};
use crate::{
    Entity, Error, IssueCounts, IssueStatus, NewProject, Page, PageRequest, Project, ProjectDetail, ProjectFilter, ProjectId, ProjectPatch,
};

macro_rules! project_columns {
    () => {
        "t.id, t.name, t.description, t.status::text, t.health::text, t.goal_id, t.created_at, t.updated_at, t.deleted_at, t.revision"
    };
}
pub(crate) use project_columns;

/// The living project with the id `$2` within the scope, which then is that very project.
macro_rules! project_row {
    () => {
        project_row!("$2")
    };
    ($id:literal) => {
        concat!("t.id = ", $id, " AND t.deleted_at IS NULL AND ($1::text IS NULL OR t.id = $1)")
    };
}

const GET: Keyed = by_id!(Entity::Project, "projects.get", project_columns!(), "projects AS t", project_row);

const ISSUE_COUNTS: Statement = project(
    "-- projects.issue_counts
SELECT t.status::text, count(*) FROM issues AS t
WHERE t.project_id = $2 AND t.deleted_at IS NULL AND ($1::text IS NULL OR t.project_id = $1) GROUP BY t.status",
);

const CREATE: Statement = project(concat!(
    "-- projects.create
WITH checked AS (
    SELECT $7::text IS NULL OR EXISTS (
               SELECT FROM goals AS g WHERE g.id = $7 AND g.deleted_at IS NULL AND ($1::text IS NULL OR g.project_id = $1)) AS \"goalId?\"
), written AS (
    INSERT INTO projects AS t (id, name, description, status, health, goal_id)
    SELECT $2, $3, $4, $5::project_status, $6::project_health, $7 FROM checked WHERE \"goalId?\"
    RETURNING ",
    project_columns!(),
    ")
SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
));

const UPDATE: Target = Target {
    entity: Entity::Project,
    update: "projects.update",
    delete: "projects.delete",
    table: "projects",
    row: project_row!(),
    columns: project_columns!(),
    recorded: false,
};

const LIST: Statement = project(concat!("-- projects.list\nSELECT ", project_columns!(), " FROM projects AS t WHERE t.deleted_at IS NULL"));

const COUNT: Statement = project("-- projects.count\nSELECT count(*) FROM projects AS t WHERE t.deleted_at IS NULL");

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[GET.one, GET.many, ISSUE_COUNTS, CREATE, LIST, COUNT];

const WITHIN: Within = Within::Project("t.id = $1");

const fn project(sql: &'static str) -> Statement {
    Statement::new(Entity::Project, sql)
}

pub(crate) fn read(columns: &mut Columns<'_>) -> Result<Project, Error> {
    Ok(Project {
        id: columns.next()?,
        name: columns.next()?,
        description: columns.next()?,
        status: columns.next()?,
        health: columns.next()?,
        goal_id: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
        revision: columns.next()?,
    })
}

fn read_row(row: &Row) -> Result<Project, Error> {
    read(&mut Columns::of(row, "projects"))
}

fn matching<'a>(mut list: Composed<'a>, filter: &'a ProjectFilter) -> Composed<'a> {
    let ProjectFilter { status, health, goal_id } = filter;
    list.any_of("t.status", "?::project_status", status);
    list.any_of("t.health", "?::project_health", health);
    list.condition_if("t.goal_id = ?", goal_id.as_ref());
    list
}

/// The projects. A store bound to one sees that one.
pub struct Projects<'a> {
    pub(crate) on: Executor<'a>,
}

impl Projects<'_> {
    /// The project with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: &ProjectId) -> Result<Project, Error> {
        self.on.get(GET, id.as_str(), read_row).await
    }

    /// The project with this id, its goal, and how many issues it has, in one round trip.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn detail(&self, id: &ProjectId) -> Result<ProjectDetail, Error> {
        let by_id: &[_] = params![id];
        let connection = self.on.connection().await?;
        let (project, goal, counts) = futures_util::try_join!(
            connection.opt(GET.one, by_id),
            connection.opt(goals::OF_PROJECT, by_id),
            connection.rows(ISSUE_COUNTS, by_id),
        )?;
        let mut issue_counts = IssueCounts::default();
        for row in &counts {
            let mut columns = Columns::of(row, "issues");
            issue_counts.set(columns.next::<IssueStatus>()?, columns.next()?);
        }
        Ok(ProjectDetail {
            project: read_row(&project.ok_or_else(|| Error::not_found(Entity::Project, id))?)?,
            goal: goal.as_ref().map(goals::read_row).transpose()?,
            issue_counts,
        })
    }

    /// The projects that match the filter, the newest first.
    pub async fn list(&self, filter: &ProjectFilter, page: &PageRequest) -> Result<Page<Project>, Error> {
        let begin = |statement| matching(Composed::list(statement, self.on.scope, WITHIN), filter);
        let key = |project: &Project| (project.created_at.as_millis(), project.id.clone());
        sql::list(self.on, begin(LIST), || begin(COUNT), page, NEWEST, read_row, key).await
    }

    /// Creates a project.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfScope`] for a store that is bound to a project, [`Error::InvalidReference`] when the goal is not there.
    pub async fn create(&self, new: NewProject) -> Result<Project, Error> {
        if self.on.scope.is_some() {
            return Err(Error::OutOfScope { action: "creating a project" });
        }
        let NewProject { name, description, status, health, goal_id } = new;
        let id = ProjectId::new();
        let row = self.on.one(CREATE, params![id, name, description, status, health, goal_id]).await?;
        sql::written(&row, Entity::Project, "projects", &id, read)
    }

    /// Changes a project.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none, [`Error::InvalidReference`] when the goal is not there.
    pub async fn update(&self, id: &ProjectId, patch: ProjectPatch) -> Result<Project, Error> {
        let ProjectPatch { name, description, status, health, goal_id } = patch;
        let mut update = Update::of(UPDATE, id);
        update.set("name", "?", name.as_ref());
        update.patch("description", &description);
        update.set("status", "?::project_status", status.as_ref());
        update.set("health", "?::project_health", health.as_ref());
        update.refer(
            "goalId?",
            "goal_id",
            "EXISTS (SELECT FROM goals AS g WHERE g.id = ? AND g.deleted_at IS NULL AND ($1::text IS NULL OR g.project_id = $1))",
            &goal_id,
        );
        sql::update(self.on, update, id, read).await
    }

    /// Deletes a project. Its issues, goals and templates stay; nothing new can refer to it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn delete(&self, id: &ProjectId) -> Result<(), Error> {
        let deleted = sql::delete(self.on, UPDATE, id).await;
        // The project's keys open nothing any more.
        self.on.keys_changed();
        deleted
    }
}
