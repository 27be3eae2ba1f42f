//! Statements and their parameters: every text is `'static`, and every placeholder of a composed one is numbered here.

mod columns;
mod composed;
mod list;
mod update;

use bytes::BytesMut;
use postgres_types::{IsNull, Json, ToSql, Type};
use serde::Serialize;

pub(crate) use self::{
    columns::Columns,
    composed::{Composed, Within},
    list::{KeyKind, NEWEST, Order, list},
    update::{Target, Update, delete, update, written, written_under},
};
use crate::{Entity, ProjectId};

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
    &[u8] => BYTEA, BYTEA_ARRAY;
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
    /// What it is called in logs and metrics: its first line, behind `-- `.
    pub(crate) name: &'static str,
    /// Its text.
    pub(crate) sql: &'static str,
}

impl Statement {
    pub(crate) const fn new(entity: Entity, sql: &'static str) -> Self {
        // While it is compiled: a statement without a name does not build.
        let [b'-', b'-', b' ', ..] = sql.as_bytes() else { panic!("its first line is no name") };
        let mut end = 3;
        while sql.as_bytes()[end] != b'\n' {
            end += 1;
        }
        Self { entity, name: sql.split_at(end).0.split_at(3).1, sql }
    }
}

/// Statements that read by a key: for one, `$2`, and for several at once, of which `$2` is an array. Both answer the same columns. Of the rows for several
/// the first column is the key, and those of a key stand together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyed {
    /// For one.
    pub(crate) one: Statement,
    /// For several.
    pub(crate) many: Statement,
}

/// The living row with the id `$2`, or what else is given, within the scope, in a table whose rows have a `project_id`.
macro_rules! row_of_project {
    () => {
        $crate::store::sql::row_of_project!("$2")
    };
    ($id:literal) => {
        concat!("t.id = ", $id, " AND t.deleted_at IS NULL AND ($1::text IS NULL OR t.project_id = $1)")
    };
}
pub(crate) use row_of_project;

/// The statements that read rows of a table by their ids, which are the first of the columns. `$row` is a macro that says which row it is, given what
/// its id is equal to.
macro_rules! by_id {
    ($entity:expr, $name:literal, $columns:expr, $table:literal, $row:ident) => {
        $crate::store::sql::Keyed {
            one: Statement::new($entity, concat!("-- ", $name, "\nSELECT ", $columns, " FROM ", $table, " WHERE ", $row!("$2"))),
            // The planner is not shown how many there are: a plan for just as many is never kept.
            many: Statement::new(
                $entity,
                concat!("-- ", $name, "_many\nSELECT ", $columns, " FROM ", $table, " WHERE ", $row!("ANY ((SELECT $2::text[])::text[])")),
            ),
        }
    };
}
pub(crate) use by_id;

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
