//! Writes of one row, with the checks of what it refers to.

use tokio_postgres::Row;

use super::{Bound, Columns, Composed, Param, bind, composed::number};
use crate::{Entity, Error, Patch, ProjectId, store::executor::Executor};

/// The fixed part of a change of one row.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// What it is about.
    pub(crate) entity: Entity,
    /// The name of the statement that updates.
    pub(crate) update: &'static str,
    /// The name of the statement that deletes.
    pub(crate) delete: &'static str,
    /// The table.
    pub(crate) table: &'static str,
    /// Which row `t`, within the scope `$1`, and with the id `$2`.
    pub(crate) row: &'static str,
    /// The columns to answer.
    pub(crate) columns: &'static str,
    /// Whether the table has a history, so that the statement must say who acts.
    pub(crate) recorded: bool,
}

/// A change of one row, with the checks of what it refers to, in one statement.
pub(crate) struct Update<'a> {
    target: Target,
    name: &'static str,
    params: Vec<Bound<'a>>,
    sets: String,
    checks: String,
    conditions: String,
    acting: String,
    returning: String,
}

impl<'a> Update<'a> {
    pub(crate) fn of<Id: Param>(target: Target, id: &'a Id) -> Self {
        // Room for a usual change: each of them would grow several times.
        let mut params = Vec::with_capacity(8);
        params.push(bind(id));
        Self {
            target,
            name: target.update,
            params,
            sets: String::with_capacity(256),
            checks: String::new(),
            conditions: String::new(),
            acting: String::with_capacity(64),
            returning: String::new(),
        }
    }

    /// Marks the row as deleted.
    fn delete<Id: Param>(target: Target, id: &'a Id) -> Self {
        let target = Target { columns: "t.id", ..target };
        Self { name: target.delete, sets: ", deleted_at = now()".to_owned(), ..Self::of(target, id) }
    }

    /// Changes the row only if it is at one of these revisions.
    fn expect(&mut self, revisions: &'a Vec<i64>) {
        let Target { table, row, .. } = self.target;
        for piece in [", EXISTS (SELECT FROM ", table, " AS t WHERE ", row] {
            self.checks.push_str(piece);
        }
        number(&mut self.checks, &mut self.params, " AND t.revision = ANY (?))", &[bind(revisions)]);
        self.checks.push_str(" AS \"current?\"");
        // Once more, for the row as it is when it is locked.
        number(&mut self.conditions, &mut self.params, " AND t.revision = ANY (?)", &[bind(revisions)]);
    }

    /// Sets a column, if there is a value. `value` is the value's expression, such as `?::issue_status`.
    pub(crate) fn set<T: Param>(&mut self, column: &'static str, value: &'static str, set: Option<&'a T>) {
        if let Some(set) = set {
            self.assign(column);
            number(&mut self.sets, &mut self.params, value, &[bind(set)]);
        }
    }

    /// Keeps, clears or sets a column.
    pub(crate) fn patch<T: Param>(&mut self, column: &'static str, patch: &'a Patch<T>) {
        match patch {
            Patch::Keep => {}
            Patch::Clear => {
                self.assign(column);
                self.sets.push_str("NULL");
            }
            Patch::Set(value) => self.set(column, "?", Some(value)),
        }
    }

    /// Keeps, clears or sets a reference: set, it must be to a row that `exists` finds, unless it is the one that is there already, which
    /// may have been deleted since; clearing is always right.
    pub(crate) fn refer<T: Param>(&mut self, field: &'static str, column: &'static str, exists: &'static str, patch: &'a Patch<T>) {
        if let Patch::Set(value) = patch {
            let Target { table, row, .. } = self.target;
            self.checks.push_str(", ");
            number(&mut self.checks, &mut self.params, exists, &[bind(value)]);
            for piece in [" OR EXISTS (SELECT FROM ", table, " AS t WHERE ", row, " AND t.", column] {
                self.checks.push_str(piece);
            }
            number(&mut self.checks, &mut self.params, " = ?)", &[bind(value)]);
            self.name_check(field);
        }
        self.patch(column, patch);
    }

    /// Keeps, clears or sets the project. A store that is bound to one cannot take a row out of it.
    pub(crate) fn refer_project(&mut self, patch: &'a Patch<ProjectId>) {
        if let Patch::Clear = patch {
            self.check("projectId?", "$1::text IS NULL", &[]);
        }
        self.refer("projectId?", "project_id", PROJECT_EXISTS, patch);
    }

    /// Writes nothing unless `condition` holds, and has the field named otherwise. `field` ends in `?`.
    pub(crate) fn check(&mut self, field: &'static str, condition: &'static str, values: &[Bound<'a>]) {
        self.checks.push_str(", ");
        number(&mut self.checks, &mut self.params, condition, values);
        self.name_check(field);
    }

    fn name_check(&mut self, field: &'static str) {
        for piece in [" AS \"", field, "\""] {
            self.checks.push_str(piece);
        }
        for piece in [" AND \"", field, "\""] {
            self.conditions.push_str(piece);
        }
    }

    /// Adds to what is returned for the row, which is computed under the row's lock: a comma and an expression. It comes behind the columns,
    /// and is not read.
    pub(crate) fn returning(&mut self, fragment: &'static str, values: &[Bound<'a>]) {
        number(&mut self.returning, &mut self.params, fragment, values);
    }

    /// Says who acts, to the triggers that write the history: also to those of what is done under the row's lock, so it comes before that.
    fn act(&mut self, actor: &'a String) {
        number(&mut self.acting, &mut self.params, ", set_config('loop.actor', ?, true)", &[bind(actor)]);
    }

    fn assign(&mut self, column: &'static str) {
        self.sets.push_str(", ");
        self.sets.push_str(column);
        self.sets.push_str(" = ");
    }

    /// The whole statement. Its row begins with the checks, as [`check_references`] reads them.
    pub(crate) fn compose(self) -> Composed<'a> {
        let Target { entity, table, row, columns, .. } = self.target;
        let Self { name, sets, checks, conditions, acting, returning, .. } = self;
        // Joined, and not formatted, since that takes the length of all together first.
        let sql = [
            "-- ",
            name,
            "\nWITH checked AS (SELECT EXISTS (SELECT FROM ",
            table,
            " AS t WHERE ",
            row,
            ") AS \"found?\"",
            &checks,
            "), written AS (UPDATE ",
            table,
            " AS t SET updated_at = now(), revision = t.revision + 1",
            &sets,
            " FROM checked WHERE ",
            row,
            &conditions,
            " RETURNING ",
            columns,
            &acting,
            &returning,
            ") SELECT checked.*, written.* FROM checked LEFT JOIN written ON true",
        ]
        .concat();
        Composed { entity, name, sql, params: self.params, is_named: true, is_indexed: false, is_inner: false }
    }
}

/// That a project which is to be referred to is there, and within the scope.
pub(crate) const PROJECT_EXISTS: &str =
    "EXISTS (SELECT FROM projects AS p WHERE p.id = ? AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.id = $1))";

/// Runs an update, on the revisions that the executor expects, and reads the row it wrote.
pub(crate) async fn update<'a, T>(
    on: Executor<'a>,
    mut update: Update<'a>,
    id: &(dyn std::fmt::Display + Sync),
    read: impl FnOnce(&mut Columns<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let Target { table, entity, recorded, .. } = update.target;
    if let Some(revisions) = on.expected {
        update.expect(revisions);
    }
    if recorded {
        update.act(on.actor);
    }
    let statement = update.compose();
    let row = on.one_composed(&statement).await?;
    written(&row, entity, table, id, read).map_err(|error| match error {
        // It was there when it was checked, and somebody else was first.
        Error::NotFound { entity, .. } if on.expected.is_some() && found(&row) => Error::Stale { entity },
        other => other,
    })
}

/// Marks a row as deleted, on the revisions that the executor expects.
pub(crate) async fn delete<Id: Param + std::fmt::Display>(on: Executor<'_>, target: Target, id: &Id) -> Result<(), Error> {
    update(on, Update::delete(target, id), id, |_| Ok(())).await
}

/// Whether the row to be changed was there when it was checked.
fn found(row: &Row) -> bool {
    Columns::of(row, "references").next().unwrap_or_default()
}

/// Reads the row that a statement with checks wrote. A row that was there when it was checked, and deleted when it was to be written,
/// is not there.
pub(crate) fn written<T>(
    row: &Row,
    entity: Entity,
    table: &'static str,
    id: &(dyn std::fmt::Display + Sync),
    read: impl FnOnce(&mut Columns<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    written_under(row, entity, table, (entity, id), read)
}

/// The same for a row that belongs to another: `found?` and a row that is gone speak of that one.
pub(crate) fn written_under<T>(
    row: &Row,
    entity: Entity,
    table: &'static str,
    owner: (Entity, &(dyn std::fmt::Display + Sync)),
    read: impl FnOnce(&mut Columns<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let checks = check_references(row, entity, owner)?;
    let mut columns = Columns::from(row, table, checks);
    if columns.is_null()? {
        return Err(Error::not_found(owner.0, owner.1));
    }
    read(&mut columns)
}

/// Reads the leading columns of a row that say whether what is written may be: each is a boolean named after a field, with a `?` behind
/// it, and false where the field refers to nothing the scope can see. `found?` is false where the row to be changed is not there, which
/// comes before any complaint about fields: it is the `owner`'s; `current?` where it is at another revision. Answers how many columns that
/// were.
fn check_references(row: &Row, entity: Entity, owner: (Entity, &(dyn std::fmt::Display + Sync))) -> Result<usize, Error> {
    let checks = row.columns().iter().take_while(|column| column.name().ends_with('?')).count();
    let mut wrong = Vec::new();
    for (index, column) in row.columns().iter().enumerate().take(checks) {
        let name = column.name().trim_end_matches('?');
        let holds = Columns::from(row, "references", index).next::<bool>()?;
        match (holds, name) {
            (true, _) => {}
            (false, "found") => return Err(Error::not_found(owner.0, owner.1)),
            (false, "current") => return Err(Error::Stale { entity }),
            (false, field) => wrong.push(field.to_owned()),
        }
    }
    if wrong.is_empty() { Ok(checks) } else { Err(Error::InvalidReference { entity, fields: wrong }) }
}
