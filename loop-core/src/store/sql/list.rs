//! Pages of lists.

use std::fmt::Write as _;

use tokio_postgres::Row;

use super::{Bound, Columns, Composed, bind};
use crate::{Cursor, Error, Limit, Page, PageRequest, Start, Timestamp, store::executor::Executor};

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
    let most = fetch + offset;
    if rows.is_inner {
        // A query around another that is ordered keeps that order.
        rows.push(" LIMIT ?::bigint) AS t", &[bind(&most)]);
    }
    // One row more than the page holds tells whether there is a next one. A plan for any limit is made for a tenth of all rows, and so is never
    // kept: to make one each time is nearly half of what a page costs. The limit that nobody chose is no parameter therefore, where one plan does.
    if rows.is_indexed && offset == 0 && page.limit == Limit::default() {
        let _ = write!(rows.sql, " LIMIT {fetch}");
    } else {
        rows.push_shown(" LIMIT ?", &[bind(&fetch)]);
    }
    if offset > 0 {
        rows.push_shown(" OFFSET ?", &[bind(&offset)]);
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
    let more = rows.len() > page.limit.get();
    // A collection of results would not know how many there are.
    let mut data = Vec::with_capacity(rows.len());
    for row in rows.iter().take(page.limit.get()) {
        data.push(read(row)?);
    }
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
