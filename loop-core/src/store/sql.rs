//! Statements and their parameters: every text is `'static`, and every placeholder of a composed one is numbered here.

use bytes::BytesMut;
use postgres_types::{FromSql, IsNull, Json, ToSql, Type};
use serde::Serialize;
use tokio_postgres::Row;

use super::executor::Executor;
use crate::{Cursor, Entity, Error, Page, PageRequest, Patch, ProjectId, Start, Timestamp};

/// A parameter: a value of a type that every PostgreSQL knows, so that no statement waits for a look-up of types.
pub(crate) type Bound<'a> = &'a dyn Value;

/// A value that knows what it is on the wire.
pub(crate) trait Value: ToSql + Sync {
    /// Its type on the wire.
    fn ty(&self) -> Type;
}

impl<T: Param> Value for T {
    fn ty(&self) -> Type {
        T::TYPE
    }
}

/// A type that can be a parameter.
pub trait Param: ToSql + Sync {
    /// What it is on the wire.
    const TYPE: Type;
    /// What several of it are on the wire.
    const ARRAY: Type;
}

macro_rules! param {
    ($($rust:ty => $one:ident, $many:ident;)+) => {
        $(impl Param for $rust {
            const TYPE: Type = Type::$one;
            const ARRAY: Type = Type::$many;
        })+
    };
}

param! {
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    bool => BOOL, BOOL_ARRAY;
    i16 => INT2, INT2_ARRAY;
    i32 => INT4, INT4_ARRAY;
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
}

impl<T: Serialize + std::fmt::Debug + Sync> Param for Json<T> {
    const TYPE: Type = Type::JSONB;
    const ARRAY: Type = Type::JSONB_ARRAY;
}

impl<T: Param> Param for Option<T> {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

impl<T: Param> Param for &T {
    const TYPE: Type = T::TYPE;
    const ARRAY: Type = T::ARRAY;
}

impl<T: Param> Param for Vec<T> {
    const TYPE: Type = T::ARRAY;
    const ARRAY: Type = T::ARRAY;
}

/// One parameter.
pub(crate) fn bind<T: Param>(value: &T) -> Bound<'_> {
    value
}

/// The parameters of a statement, in order, as `[Bound]`.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$(&$value as $crate::store::sql::Bound<'_>),*]
    };
}
pub(crate) use params;

/// A statement, with what it speaks of for its errors. `$1` is always the scope: the executor binds it, so a statement that is about
/// rows of a project and does not say `$1` stands out, and a test finds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statement {
    /// What it speaks of.
    pub(crate) entity: Entity,
    /// Its text.
    pub(crate) sql: &'static str,
}

impl Statement {
    pub(crate) const fn new(entity: Entity, sql: &'static str) -> Self {
        Self { entity, sql }
    }
}

/// The scope as a value of a parameter: null where the store is not bound to a project.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScopeParam<'a>(pub(crate) Option<&'a ProjectId>);

impl Param for ScopeParam<'_> {
    const TYPE: Type = Type::TEXT;
    const ARRAY: Type = Type::TEXT_ARRAY;
}

impl ToSql for ScopeParam<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.map(ProjectId::as_str).to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    postgres_types::to_sql_checked!();
}

/// A statement put together from fragments, each with its values beside it.
pub(crate) struct Composed<'a> {
    pub(crate) entity: Entity,
    pub(crate) sql: String,
    /// The parameters from `$2` on.
    pub(crate) params: Vec<Bound<'a>>,
}

/// What keeps a list within the scope of a store that is bound to a project. Every list must say.
#[derive(Clone, Copy)]
pub(crate) enum Within {
    /// A condition on `$1`.
    Project(&'static str),
    /// The rows are shared by all projects.
    Shared,
}

impl<'a> Composed<'a> {
    /// Begins a list, or its count, with a text that ends in a condition.
    pub(crate) fn list(statement: Statement, scope: Option<&ProjectId>, within: Within) -> Self {
        let mut list = Self { entity: statement.entity, sql: statement.sql.to_owned(), params: Vec::new() };
        if let (Some(_), Within::Project(condition)) = (scope, within) {
            list.condition(condition, &[]);
        }
        list
    }

    /// Adds a fragment. Each `?` in it stands for the next of these values.
    pub(crate) fn push(&mut self, fragment: &'static str, values: &[Bound<'a>]) {
        number(&mut self.sql, &mut self.params, fragment, values);
    }

    /// Adds a condition that must hold too.
    pub(crate) fn condition(&mut self, fragment: &'static str, values: &[Bound<'a>]) {
        self.push(" AND ", &[]);
        self.push(fragment, values);
    }

    /// Adds a condition if there is a value for it.
    pub(crate) fn condition_if<T: Param>(&mut self, fragment: &'static str, value: Option<&'a T>) {
        if let Some(value) = value {
            self.condition(fragment, &[bind(value)]);
        }
    }

    /// Adds the condition that a column is one of these words, if there are any. `value` is a word's expression, such as `?::issue_status`.
    ///
    /// The words stand one by one, because the planner does not look into a parameter that is an array and cast: it would take any number
    /// of words for nearly all rows, and walk a whole table in the list's order for the few there are.
    pub(crate) fn any_of<T: Param + PartialEq>(&mut self, column: &'static str, value: &'static str, words: &'a [T]) {
        let mut distinct: Vec<&'a T> = Vec::new();
        for word in words {
            if !distinct.contains(&word) {
                distinct.push(word);
            }
        }
        let [first, rest @ ..] = &distinct[..] else { return };
        self.condition(column, &[]);
        self.push(if rest.is_empty() { " = " } else { " = ANY (ARRAY[" }, &[]);
        self.push(value, &[bind(*first)]);
        for word in rest {
            self.push(", ", &[]);
            self.push(value, &[bind(*word)]);
        }
        self.push(if rest.is_empty() { "" } else { "])" }, &[]);
    }
}

/// Appends a fragment, putting the number of the next parameter for each `?`.
fn number<'a>(sql: &mut String, params: &mut Vec<Bound<'a>>, fragment: &'static str, values: &[Bound<'a>]) {
    let mut pieces = fragment.split('?');
    sql.push_str(pieces.next().unwrap_or_default());
    for (piece, value) in pieces.zip(values) {
        params.push(*value);
        sql.push('$');
        // `$1` is the scope, so the first of these is `$2`.
        sql.push_str(&(params.len() + 1).to_string());
        sql.push_str(piece);
    }
}

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
    after: String,
}

impl<'a> Update<'a> {
    pub(crate) fn of<Id: Param>(target: Target, id: &'a Id) -> Self {
        let empty = String::new;
        Self { target, params: vec![bind(id)], sets: empty(), checks: empty(), conditions: empty(), after: empty() }
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

    /// Keeps, clears or sets a reference: set, it must be to a row that `exists` finds; clearing is always right.
    pub(crate) fn refer<T: Param>(&mut self, field: &'static str, column: &'static str, exists: &'static str, patch: &'a Patch<T>) {
        if let Patch::Set(value) = patch {
            self.check(field, exists, &[bind(value)]);
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
        self.checks.push_str(" AS \"");
        self.checks.push_str(field);
        self.checks.push('"');
        self.conditions.push_str(" AND \"");
        self.conditions.push_str(field);
        self.conditions.push('"');
    }

    /// Adds a further part, such as `, detached AS (…)`, that may use `written`.
    pub(crate) fn then(&mut self, fragment: &'static str, values: &[Bound<'a>]) {
        number(&mut self.after, &mut self.params, fragment, values);
    }

    fn assign(&mut self, column: &'static str) {
        self.sets.push_str(", ");
        self.sets.push_str(column);
        self.sets.push_str(" = ");
    }

    /// The whole statement. Its row begins with the checks, as [`check_references`] reads them.
    pub(crate) fn compose(self) -> Composed<'a> {
        let Target { entity, name, table, row, columns } = self.target;
        let Self { sets, checks, conditions, after, .. } = self;
        let sql = format!(
            "-- {name}\nWITH checked AS (SELECT EXISTS (SELECT FROM {table} AS t WHERE {row}) AS \"found?\"{checks}), \
             written AS (UPDATE {table} AS t SET updated_at = now(){sets} FROM checked WHERE {row}{conditions} RETURNING {columns}){after} \
             SELECT checked.*, written.* FROM checked LEFT JOIN written ON true"
        );
        Composed { entity, sql, params: self.params }
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

/// Runs a list's statement, and its count where the page asks for it, in one round trip.
pub(crate) async fn list<'a, T, Id: std::str::FromStr + std::fmt::Display>(
    on: Executor<'_>,
    rows: Composed<'_>,
    count: impl FnOnce() -> Composed<'a>,
    page: &PageRequest,
    order: Order,
    read: impl Fn(&Row) -> Result<T, Error>,
    key: impl Fn(&T) -> (i64, Id),
) -> Result<Page<T>, Error> {
    let after = After::of::<Id>(page, order)?;
    let fetch = i64::try_from(page.limit.get()).unwrap_or(i64::MAX) + 1;
    let offset = if let Start::Offset(offset) = page.start { i64::from(offset) } else { 0 };
    let mut rows = rows;
    if let Some(after) = &after {
        rows.push(order.after, &[after.key(), bind(&after.id)]);
    }
    rows.push(order.by, &[]);
    // One row more than the page holds tells whether there is a next one.
    rows.push(" LIMIT ?", &[bind(&fetch)]);
    if offset > 0 {
        rows.push(" OFFSET ?", &[bind(&offset)]);
    }
    let connection = on.connection().await?;
    let (rows, total) = if page.total {
        let count = count();
        let (rows, total) = futures_util::try_join!(connection.composed(&rows), connection.composed(&count))?;
        let total = total.first().map(|row| Columns::of(row, "count").next::<i64>()).transpose()?;
        (rows, total)
    } else {
        (connection.composed(&rows).await?, None)
    };
    let mut data = rows.iter().map(read).collect::<Result<Vec<T>, Error>>()?;
    let more = data.len() > page.limit.get();
    data.truncate(page.limit.get());
    let next_cursor = data.last().filter(|_| more).map(|last| {
        let (key, id) = key(last);
        Cursor::encode(order.word, key, &id.to_string())
    });
    Ok(Page { data, next_cursor, total })
}

/// How a list is ordered, and what its cursor holds: a column (or expression) and the id as the tie-breaker.
#[derive(Clone, Copy)]
pub(crate) struct Order {
    /// The name in cursors.
    pub(crate) word: &'static str,
    /// `AND (…) < (?, ?)`: the rows after a cursor.
    pub(crate) after: &'static str,
    /// `ORDER BY …`.
    pub(crate) by: &'static str,
    /// What the cursor's key is.
    pub(crate) key: KeyKind,
}

/// What the number in a cursor stands for.
#[derive(Clone, Copy)]
pub(crate) enum KeyKind {
    /// Milliseconds since 1970.
    Time,
    /// Itself.
    Number,
    /// A place in an enumeration of that many values, from 1.
    Place(usize),
}

/// The newest first: the order of most lists.
pub(crate) const NEWEST: Order = Order {
    word: "-createdAt",
    after: " AND (t.created_at, t.id) < (?, ?)",
    by: " ORDER BY t.created_at DESC, t.id DESC",
    key: KeyKind::Time,
};

/// The key of a cursor as the database compares it.
enum Key {
    Time(Timestamp),
    Number(i64),
}

/// Where a page begins, decoded.
struct After {
    key: Key,
    id: String,
}

impl After {
    /// Decodes the cursor of a page request for a list in this order, whose rows have ids of type `Id`.
    fn of<Id: std::str::FromStr + std::fmt::Display>(page: &PageRequest, order: Order) -> Result<Option<Self>, Error> {
        let Start::After(cursor) = &page.start else { return Ok(None) };
        let (key, id) = cursor.decode::<Id>(order.word)?;
        let key = match order.key {
            KeyKind::Time => Key::Time(Timestamp::from_millis(key).ok_or(Error::MalformedCursor)?),
            KeyKind::Place(places) if !usize::try_from(key).is_ok_and(|place| (1..=places).contains(&place)) => {
                return Err(Error::MalformedCursor);
            }
            KeyKind::Number | KeyKind::Place(_) => Key::Number(key),
        };
        Ok(Some(Self { key, id: id.to_string() }))
    }

    fn key(&self) -> Bound<'_> {
        match &self.key {
            Key::Time(time) => bind(time),
            Key::Number(number) => bind(number),
        }
    }
}

/// Reads the columns of a row one after the other.
pub(crate) struct Columns<'a> {
    row: &'a Row,
    table: &'static str,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(row: &'a Row, table: &'static str) -> Self {
        Self { row, table, next: 0 }
    }

    /// Begins at the column after that many.
    pub(crate) fn from(row: &'a Row, table: &'static str, next: usize) -> Self {
        Self { row, table, next }
    }

    /// The next column.
    pub(crate) fn next<T: FromSql<'a>>(&mut self) -> Result<T, Error> {
        let index = self.next;
        self.next += 1;
        self.row.try_get(index).map_err(|error| Error::Corrupt {
            table: self.table,
            column: self.row.columns().get(index).map_or_else(|| index.to_string(), |column| column.name().to_owned()),
            source: error.into(),
        })
    }

    /// The next column, a JSON value of a known form.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        Ok(self.next::<Option<Json<T>>>()?.map(|json| json.0))
    }

    /// Whether the next column is null, without passing it: for the rows of a join that found nothing.
    pub(crate) fn is_null(&self) -> Result<bool, Error> {
        let mut ahead = Columns { row: self.row, table: self.table, next: self.next };
        Ok(ahead.next::<Option<Anything>>()?.is_none())
    }
}

/// Any value at all, unread.
struct Anything;

impl FromSql<'_> for Anything {
    fn from_sql(_: &Type, _: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
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
