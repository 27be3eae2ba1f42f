//! Rows, column by column.

use postgres_types::{FromSql, Json, Type};
use tokio_postgres::Row;

use crate::{Error, error::Source};

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
    #[expect(clippy::inline_always, reason = "a row has many, and each would be moved once more on its way")]
    #[inline(always)]
    pub(crate) fn next<T: FromSql<'a>>(&mut self) -> Result<T, Unreadable> {
        let index = self.next;
        self.next += 1;
        self.row.try_get(index).map_err(|error| self.unreadable(index, error))
    }

    #[cold]
    fn unreadable(&self, index: usize, error: tokio_postgres::Error) -> Unreadable {
        Unreadable(Box::new(Error::Corrupt {
            table: self.table,
            column: self.row.columns().get(index).map_or_else(|| index.to_string(), |column| column.name().to_owned()),
            source: Source::new(error),
        }))
    }

    /// The next column, a JSON value of a known form.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Unreadable> {
        Ok(self.next::<Option<Json<T>>>()?.map(|json| json.0))
    }

    /// Whether the next column is null, without passing it: for the rows of a join that found nothing.
    pub(crate) fn is_null(&self) -> Result<bool, Unreadable> {
        let mut ahead = Columns { row: self.row, table: self.table, next: self.next };
        Ok(ahead.next::<Option<Anything>>()?.is_none())
    }
}

/// That a column could not be read. On the heap: of the many columns of a row, each would make room for an error otherwise.
#[derive(Debug)]
pub(crate) struct Unreadable(Box<Error>);

impl From<Unreadable> for Error {
    #[cold]
    fn from(Unreadable(error): Unreadable) -> Self {
        *error
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
