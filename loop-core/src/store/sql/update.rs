//! Writes of one row, with the checks of what it refers to.

use tokio_postgres::Row;

use super::{Bound, Columns, Composed, Param, bind, composed::number};
use crate::{Entity, Error, Patch, ProjectId, store::executor::Executor};

/// The fixed part of a partial update of one row.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// What it is about.
    pub(crate) entity: Entity,
    /// The statement's name.
    pub(crate) name: &'static str,
    /// The table.
    pub(crate) table: &'static str,
    /// Which row `t`, within the scope `$1`, and with the id `$2`.
    pub(crate) row: &'static str,
    /// The columns to answer.
    pub(crate) columns: &'static str,
}

/// A partial update of one row, with the checks of what it refers to, in one statement.
pub(crate) struct Update<'a> {
    target: Target,
    params: Vec<Bound<'a>>,
    sets: String,
    checks: String,
    conditions: String,
    returning: String,
}

impl<'a> Update<'a> {
    pub(crate) fn of<Id: Param>(target: Target, id: &'a Id) -> Self {
        let empty = String::new;
        Self { target, params: vec![bind(id)], sets: empty(), checks: empty(), conditions: empty(), returning: empty() }
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

    /// Adds to what is returned for the row, which is computed under the row's lock: a comma and an expression. It comes last, and is not
    /// read.
    pub(crate) fn returning(&mut self, fragment: &'static str, values: &[Bound<'a>]) {
        number(&mut self.returning, &mut self.params, fragment, values);
    }

    fn assign(&mut self, column: &'static str) {
        self.sets.push_str(", ");
        self.sets.push_str(column);
        self.sets.push_str(" = ");
    }

    /// The whole statement. Its row begins with the checks, as [`check_references`] reads them.
    pub(crate) fn compose(self) -> Composed<'a> {
        let Target { entity, name, table, row, columns } = self.target;
        let Self { sets, checks, conditions, returning, .. } = self;
        let sql = format!(
            "-- {name}\nWITH checked AS (SELECT EXISTS (SELECT FROM {table} AS t WHERE {row}) AS \"found?\"{checks}), \
             written AS (UPDATE {table} AS t SET updated_at = now(){sets} FROM checked WHERE {row}{conditions} RETURNING {columns}{returning}) \
             SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
        );
        Composed { entity, name, sql, params: self.params }
    }
}

/// That a project which is to be referred to is there, and within the scope.
pub(crate) const PROJECT_EXISTS: &str =
    "EXISTS (SELECT FROM projects AS p WHERE p.id = ? AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.id = $1))";

/// Runs an update and reads the row it wrote.
pub(crate) async fn update<T>(
    on: Executor<'_>,
    update: Update<'_>,
    id: &(dyn std::fmt::Display + Sync),
    read: impl FnOnce(&mut Columns<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let table = update.target.table;
    let statement = update.compose();
    let row = on.one_composed(&statement).await?;
    written(&row, statement.entity, table, id, read)
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
/// comes before any complaint about fields: it is the `owner`'s. Answers how many columns that were.
fn check_references(row: &Row, entity: Entity, owner: (Entity, &(dyn std::fmt::Display + Sync))) -> Result<usize, Error> {
    let checks = row.columns().iter().take_while(|column| column.name().ends_with('?')).count();
    let mut wrong = Vec::new();
    for (index, column) in row.columns().iter().enumerate().take(checks) {
        let name = column.name().trim_end_matches('?');
        let holds = Columns::from(row, "references", index).next::<bool>()?;
        match (holds, name) {
            (true, _) => {}
            (false, "found") => return Err(Error::not_found(owner.0, owner.1)),
            (false, field) => wrong.push(field.to_owned()),
        }
    }
    if wrong.is_empty() { Ok(checks) } else { Err(Error::InvalidReference { entity, fields: wrong }) }
}
