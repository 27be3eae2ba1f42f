//! The only place that runs SQL: statement caching, timeouts, the scope, errors.

use std::{borrow::Cow, future::poll_fn, pin::pin, sync::atomic::Ordering, time::Duration};

use futures_util::{TryStreamExt as _, join};
use postgres_types::{ToSql, Type};
use tokio_postgres::{Row, error::SqlState};

use super::{
    Inner, LoopStore, Observer, StatementEnd, StatementMode, Tx,
    client::{Prepared, Text},
    observer::Watched,
    pooled::{Pooled, Unfinished},
    sql::{Bound, Composed, Keyed, ScopeParam, Statement, Value, params},
};
use crate::{Entity, Error, ProjectId, error::TimedOut, time_limit::limited};

/// What a handle runs its statements on, within which project, and for whom. Every handle has one and can run nothing past it.
#[derive(Clone, Copy)]
pub(crate) struct Executor<'a> {
    pub(crate) on: On<'a>,
    pub(crate) scope: Option<&'a ProjectId>,
    /// Who acts, as the history is told.
    pub(crate) actor: &'a String,
    /// The revisions that a change is meant for, if not for any.
    pub(crate) expected: Option<&'a Vec<i64>>,
    pub(crate) observer: Option<&'a dyn Observer>,
}

/// A store's pool, or one transaction.
#[derive(Clone, Copy)]
pub(crate) enum On<'a> {
    Pool(&'a LoopStore),
    Tx(&'a Tx<'a>),
}

impl<'a> Executor<'a> {
    /// Whether each statement is a transaction of its own.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.on, On::Pool(_))
    }

    /// The sources whose signals each open an issue of their own.
    pub(crate) fn ungrouped_sources(&self) -> &'a [String] {
        match self.on {
            On::Pool(store) => &store.inner.ungrouped_sources,
            On::Tx(tx) => &tx.inner.ungrouped_sources,
        }
    }

    /// Notes that API keys open something else than before.
    pub(crate) fn keys_changed(&self) {
        match self.on {
            On::Pool(store) => store.inner.keys.forget(),
            On::Tx(tx) => tx.keys_changed.store(true, Ordering::Relaxed),
        }
    }

    /// A connection for several statements: those polled together travel together, in one round trip.
    pub(crate) async fn connection(&self) -> Result<Connection<'a>, Error> {
        let place = match self.on {
            On::Pool(store) => Place::Pooled(&store.inner, store.take_connection().await?),
            On::Tx(tx) => Place::Tx(tx),
        };
        Ok(Connection { place, scope: self.scope, observer: self.observer })
    }

    /// Reads the row with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub(crate) fn get<T>(
        &self,
        statement: Keyed,
        id: &str,
        read: impl FnOnce(&Row) -> Result<T, Error>,
    ) -> impl Future<Output = Result<T, Error>> {
        // Not `async`: a future around a future is one more for every statement to pass through.
        let not_found = move || Error::not_found(statement.one.entity, id);
        self.load(statement, id, move |rows| read(rows.first().ok_or_else(not_found)?))
    }

    /// Reads the rows with a key. What several ask for at the same moment is one statement.
    pub(crate) async fn load<T>(&self, statement: Keyed, key: &str, read: impl FnOnce(&[Row]) -> Result<T, Error>) -> Result<T, Error> {
        let turn = match self.on {
            On::Tx(_) => None,
            On::Pool(store) => match store.inner.loader.turn() {
                // On the heap: it is rare where there is no hurry.
                None => return read(Box::pin(store.load_together(statement, key)).await?.of(key)),
                turn => turn,
            },
        };
        let rows = self.rows(statement.one, params![key]).await?;
        drop(turn);
        read(&rows)
    }

    /// Every row the statement answers.
    pub(crate) async fn rows(&self, statement: Statement, params: &[Bound<'_>]) -> Result<Vec<Row>, Error> {
        self.connection().await?.rows(statement, params).await
    }

    /// The row the statement answers, if any.
    pub(crate) async fn opt(&self, statement: Statement, params: &[Bound<'_>]) -> Result<Option<Row>, Error> {
        self.connection().await?.opt(statement, params).await
    }

    /// The row the statement always answers.
    pub(crate) async fn one(&self, statement: Statement, params: &[Bound<'_>]) -> Result<Row, Error> {
        one(statement.entity, self.opt(statement, params).await?)
    }

    /// The row a composed statement always answers.
    pub(crate) async fn one_composed(&self, statement: &Composed<'_>) -> Result<Row, Error> {
        let mut rows = self.connection().await?.composed(statement).await?;
        one(statement.entity, rows.pop())
    }
}

/// That a statement that always answers a row did.
fn one(entity: Entity, row: Option<Row>) -> Result<Row, Error> {
    row.ok_or_else(|| Error::database(format!("a statement about a {entity} answered no row")))
}

/// A connection within a scope.
pub(crate) struct Connection<'a> {
    place: Place<'a>,
    scope: Option<&'a ProjectId>,
    observer: Option<&'a dyn Observer>,
}

enum Place<'a> {
    Pooled(&'a Inner, Pooled),
    Tx(&'a Tx<'a>),
}

impl Connection<'_> {
    /// Every row the statement answers.
    pub(crate) fn rows(&self, statement: Statement, params: &[Bound<'_>]) -> impl Future<Output = Result<Vec<Row>, Error>> {
        // Not `async` either.
        self.run(statement.entity, statement.name, Text::fixed(statement.sql), params)
    }

    /// The row the statement answers, if any.
    pub(crate) async fn opt(&self, statement: Statement, params: &[Bound<'_>]) -> Result<Option<Row>, Error> {
        Ok(self.rows(statement, params).await?.pop())
    }

    /// Every row a composed statement answers.
    pub(crate) async fn composed(&self, statement: &Composed<'_>) -> Result<Vec<Row>, Error> {
        let text = Text::composed(&statement.sql, statement.is_named);
        self.run(statement.entity, statement.name, text, &statement.params).await
    }

    async fn run(&self, entity: Entity, name: &'static str, text: Text<'_>, params: &[Bound<'_>]) -> Result<Vec<Row>, Error> {
        let (inner, client, prepared, unfinished) = match &self.place {
            Place::Pooled(inner, pooled) => {
                let client = pooled.client()?;
                (*inner, &**client, client.prepared(), &pooled.unfinished)
            }
            Place::Tx(tx) => (tx.inner, tx.transaction.client(), tx.prepared, &tx.unfinished),
        };
        let begin = if let Place::Pooled(..) = self.place { inner.begin_within(self.scope) } else { None };
        let values = Values { scope: ScopeParam(self.scope), params };
        let call =
            Call { text, values, travel: Travel::of(text, inner.mode, prepared), begin: begin.as_deref(), limit: inner.statement_timeout };
        let watched = Watched::begin(self.observer, name, call.describe());
        // In its place: `Instrument` would have it moved twice, and it is large.
        let mut running = pin!(call.run(client, unfinished));
        let answer = poll_fn(|cx| watched.span().in_scope(|| running.as_mut().poll(cx))).await;
        let answer = answer.map_err(|cause| inner.explain(entity, cause)).inspect_err(|error| self.note(error));
        watched.end(answer.as_ref().map_or_else(StatementEnd::Failed, |rows| StatementEnd::Rows(rows.len())));
        answer
    }

    /// Keeps a connection from being handed on that is broken, or still at work on what nobody waits for any more; and a transaction from
    /// being committed that the server has given up.
    fn note(&self, error: &Error) {
        let (unfinished, failed) = match &self.place {
            Place::Pooled(_, pooled) => (&pooled.unfinished, None),
            Place::Tx(tx) => (&tx.unfinished, Some(&tx.failed)),
        };
        if let Error::Unavailable { .. } | Error::Configuration { .. } = error {
            unfinished.set(true);
        }
        if let Some(failed) = failed {
            failed.store(true, Ordering::Relaxed);
        }
    }
}

impl Inner {
    /// The beginning of the transaction that each statement is, where it is one.
    fn begin_within(&self, scope: Option<&ProjectId>) -> Option<Cow<'_, str>> {
        let begin = self.begin.as_deref()?;
        Some(self.guard(scope).map_or(Cow::Borrowed(begin), |guard| format!("{begin}; {guard}").into()))
    }

    /// What tells the database's own guard which rows may be seen, where it is switched on.
    pub(crate) fn guard(&self, scope: Option<&ProjectId>) -> Option<String> {
        // An id is letters and digits.
        self.row_security.then(|| format!("SET LOCAL loop.project TO '{}'", scope.map_or("*", ProjectId::as_str)))
    }

    /// What it means that a statement did not come to its end.
    fn explain(&self, entity: Entity, cause: Cause) -> Error {
        match cause {
            Cause::Driver(error) if self.read_only && error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
                Error::ReadOnly { entity }
            }
            Cause::Driver(error) => Error::from_driver(entity, error),
            Cause::TimedOut => Error::unavailable(TimedOut(self.statement_timeout)),
        }
    }
}

/// Why a statement did not come to its end.
enum Cause {
    Driver(tokio_postgres::Error),
    TimedOut,
}

/// A statement on its way.
struct Call<'c> {
    text: Text<'c>,
    values: Values<'c>,
    travel: Travel<'c>,
    /// The beginning of a transaction of its own.
    begin: Option<&'c str>,
    limit: Duration,
}

/// What a statement is sent as.
enum Travel<'c> {
    /// As the name it has on this connection.
    Named(tokio_postgres::Statement),
    /// As its text, and it gets a name.
    First(&'c Prepared),
    /// As its text.
    Unnamed,
}

impl<'c> Travel<'c> {
    fn of(text: Text<'_>, mode: StatementMode, prepared: &'c Prepared) -> Self {
        if mode == StatementMode::Unnamed || !text.is_named {
            return Self::Unnamed;
        }
        match prepared.get(text) {
            Some(statement) => Self::Named(statement),
            None if prepared.begin(text) => Self::First(prepared),
            None => Self::Unnamed,
        }
    }
}

/// The parameters of a statement, of which the scope is the first.
struct Values<'c> {
    scope: ScopeParam<'c>,
    params: &'c [Bound<'c>],
}

impl Values<'_> {
    fn iter(&self) -> impl ExactSizeIterator<Item = Bound<'_>> {
        let count = 1 + self.params.len();
        (0..count).map(|place| if place == 0 { &self.scope as Bound<'_> } else { self.params[place - 1] })
    }
}

impl Call<'_> {
    /// The word in logs for how it travels.
    fn describe(&self) -> &'static str {
        match (&self.travel, self.begin.is_some()) {
            (Travel::Unnamed, false) => "unnamed",
            (Travel::Unnamed, true) => "unnamed in a transaction",
            (_, false) => "prepared",
            (_, true) => "prepared in a transaction",
        }
    }

    /// Runs the statement, and no longer than it may take. A caller that goes away while this waits leaves it `unfinished`, and the connection
    /// is not handed on.
    async fn run(&self, client: &tokio_postgres::Client, unfinished: &Unfinished) -> Result<Vec<Row>, Cause> {
        let underway = unfinished.unless_ended();
        let answer = match (&self.travel, self.begin) {
            (Travel::Named(statement), None) => limited(self.limit, self.named(client, statement)).await,
            // On the heap: the rest is rare, and large, and several of these are often one future.
            _ => limited(self.limit, Box::pin(self.answer(client))).await,
        };
        underway.end();
        answer.ok_or(Cause::TimedOut)?.map_err(Cause::Driver)
    }

    async fn answer(&self, client: &tokio_postgres::Client) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Some(begin) = self.begin else { return self.rows(client).await };
        // Each is sent when it is polled first, so all three are one round trip.
        let (opened, rows, ended) = join!(client.batch_execute(begin), self.rows(client), client.batch_execute("COMMIT"));
        opened?;
        let rows = rows?;
        ended?;
        Ok(rows)
    }

    async fn rows(&self, client: &tokio_postgres::Client) -> Result<Vec<Row>, tokio_postgres::Error> {
        match &self.travel {
            Travel::Named(statement) => self.named(client, statement).await,
            Travel::First(prepared) => self.first(client, prepared).await,
            Travel::Unnamed => self.unnamed(client).await,
        }
    }

    async fn named(
        &self,
        client: &tokio_postgres::Client,
        statement: &tokio_postgres::Statement,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let values = self.values.iter().map(|value| value as &(dyn ToSql + Sync));
        client.query_raw(statement, values).await?.try_collect().await
    }

    /// What prepares the statement need not be waited for: the statement goes right behind it, this once without a name, in the same round
    /// trip.
    async fn first(&self, client: &tokio_postgres::Client, prepared: &Prepared) -> Result<Vec<Row>, tokio_postgres::Error> {
        tracing::Span::current().record("first_use", true);
        let types: Vec<Type> = self.values.iter().map(Value::ty).collect();
        let (statement, rows) = join!(client.prepare_typed(self.text.sql, &types), self.unnamed(client));
        prepared.end(self.text, statement.as_ref().ok().cloned());
        match (statement, rows) {
            // What it did is done, whatever became of its name: nobody must be told that it failed, and do it again.
            (Err(error), Ok(rows)) => {
                tracing::warn!(%error, "a statement could not be prepared: is there a transaction pooler that was not recognised?");
                Ok(rows)
            }
            // The name was first, so what is wrong with both is said there.
            (Err(error), Err(_)) => Err(error),
            (Ok(_), rows) => rows,
        }
    }

    async fn unnamed(&self, client: &tokio_postgres::Client) -> Result<Vec<Row>, tokio_postgres::Error> {
        let values: Vec<(&(dyn ToSql + Sync), Type)> = self.values.iter().map(|value| (value as _, value.ty())).collect();
        client.query_typed(self.text.sql, &values).await
    }
}
