//! The only place that takes a connection and runs SQL: statement caching, timeouts, the scope, errors.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use deadpool_postgres::{Object, PoolError};
use postgres_types::{ToSql, Type};
use tokio::time::timeout;
use tokio_postgres::{IsolationLevel, Row, error::SqlState};

use super::{
    Inner, StatementMode, Tx,
    sql::{Bound, Composed, ScopeParam, Statement},
};
use crate::{Entity, Error, ProjectId, error::TimedOut};

/// How many statements a connection keeps prepared before composed ones travel without a name. There are as many of those as there are
/// combinations of filters and fields, and each that is prepared takes memory here and in the server for as long as the connection lives.
const MAX_PREPARED: usize = 256;

/// How long asking the server to stop a statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a handle runs its statements on, and within which project. Every handle has one and can run nothing past it.
#[derive(Clone, Copy)]
pub(crate) struct Executor<'a> {
    pub(crate) on: On<'a>,
    pub(crate) scope: Option<&'a ProjectId>,
}

/// A pool, or one transaction.
#[derive(Clone, Copy)]
pub(crate) enum On<'a> {
    Pool(&'a Inner),
    Tx(&'a Tx<'a>),
}

impl<'a> Executor<'a> {
    /// A connection for several statements: those polled together travel together, in one round trip.
    pub(crate) async fn connection(&self) -> Result<Connection<'a>, Error> {
        let client = match self.on {
            On::Pool(inner) => Client::Pooled(Pooled::take(inner).await?),
            On::Tx(tx) => Client::Tx(tx),
        };
        Ok(Connection { client, scope: self.scope })
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
    row.ok_or_else(|| Error::Database { source: format!("a statement about a {entity} answered no row").into() })
}

/// A connection within a scope.
pub(crate) struct Connection<'a> {
    client: Client<'a>,
    scope: Option<&'a ProjectId>,
}

#[expect(clippy::large_enum_variant, reason = "it lives for one call, on the stack")]
enum Client<'a> {
    Pooled(Pooled<'a>),
    Tx(&'a Tx<'a>),
}

impl Connection<'_> {
    /// Every row the statement answers.
    pub(crate) async fn rows(&self, statement: Statement, params: &[Bound<'_>]) -> Result<Vec<Row>, Error> {
        self.run(statement.entity, statement.sql, params, usize::MAX).await
    }

    /// The row the statement answers, if any.
    pub(crate) async fn opt(&self, statement: Statement, params: &[Bound<'_>]) -> Result<Option<Row>, Error> {
        Ok(self.rows(statement, params).await?.pop())
    }

    /// Every row a composed statement answers.
    pub(crate) async fn composed(&self, statement: &Composed<'_>) -> Result<Vec<Row>, Error> {
        self.run(statement.entity, &statement.sql, &statement.params, MAX_PREPARED).await
    }

    /// Runs a statement, prepared if the connection has prepared fewer than `prepared` so far.
    async fn run(&self, entity: Entity, sql: &str, params: &[Bound<'_>], prepared: usize) -> Result<Vec<Row>, Error> {
        let scope = ScopeParam(self.scope);
        let mut bound: Vec<Bound<'_>> = Vec::with_capacity(params.len() + 1);
        bound.push(&scope);
        bound.extend_from_slice(params);
        let bound = &bound;
        match &self.client {
            Client::Pooled(pooled) => {
                let Some(object) = pooled.object.as_ref() else { return Err(Error::unavailable("the connection is gone")) };
                let mode = pooled.inner.mode.within(prepared, object.statement_cache.size());
                let call = Call { entity, sql, bound, mode, limit: pooled.inner.statement_timeout };
                call.run(object, &***object, &pooled.running).await
            }
            Client::Tx(tx) => {
                let mode = tx.inner.mode.within(prepared, tx.client.statement_cache.size());
                let call = Call { entity, sql, bound, mode, limit: tx.inner.statement_timeout };
                call.run(&tx.client, &*tx.client, &tx.running).await
            }
        }
        .inspect_err(|error| self.note(error))
    }

    /// Keeps a connection from being handed on that is broken, or still at work on what nobody waits for any more; and a transaction from
    /// being committed that the server has given up.
    fn note(&self, error: &Error) {
        let (running, failed) = match &self.client {
            Client::Pooled(pooled) => (&pooled.running, None),
            Client::Tx(tx) => (&tx.running, Some(&tx.failed)),
        };
        if let Error::Unavailable { .. } = error {
            running.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(failed) = failed {
            failed.store(true, Ordering::Relaxed);
        }
    }
}

impl StatementMode {
    /// This mode, or the unnamed one for a connection that has prepared as many statements as it may.
    const fn within(self, most: usize, prepared: usize) -> Self {
        if prepared < most { self } else { Self::Unnamed }
    }
}

/// A statement on its way.
struct Call<'c> {
    entity: Entity,
    sql: &'c str,
    bound: &'c [Bound<'c>],
    mode: StatementMode,
    limit: Duration,
}

impl Call<'_> {
    /// Runs the statement on a connection or a transaction, and no longer than it may take. `running` counts what the server is at work on:
    /// a caller that goes away while this waits leaves it raised, and the connection is not handed on.
    async fn run<C: deadpool_postgres::GenericClient, P: tokio_postgres::GenericClient>(
        &self,
        caching: &C,
        plain: &P,
        running: &AtomicUsize,
    ) -> Result<Vec<Row>, Error> {
        running.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(self.limit, async {
            match self.mode {
                StatementMode::Prepared => {
                    let types: Vec<Type> = self.bound.iter().map(|value| value.ty()).collect();
                    let statement = caching.prepare_typed_cached(self.sql, &types).await?;
                    let values: Vec<&(dyn ToSql + Sync)> = self.bound.iter().map(|value| *value as _).collect();
                    plain.query(&statement, &values).await
                }
                StatementMode::Unnamed => {
                    let values: Vec<(&(dyn ToSql + Sync), Type)> = self.bound.iter().map(|value| (*value as _, value.ty())).collect();
                    plain.query_typed(self.sql, &values).await
                }
            }
        })
        .await;
        running.fetch_sub(1, Ordering::Relaxed);
        match answer {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(Error::from_driver(self.entity, error)),
            Err(_) => Err(Error::unavailable(TimedOut(self.limit))),
        }
    }
}

/// A connection of the pool. It goes back only if nothing is running on it.
pub(crate) struct Pooled<'a> {
    inner: &'a Inner,
    object: Option<Object>,
    running: AtomicUsize,
}

impl<'a> Pooled<'a> {
    /// Waits for a connection. A server that has none left at this moment is asked once more.
    pub(crate) async fn take(inner: &'a Inner) -> Result<Self, Error> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that takes connections")]
        let mut object = inner.pool.get().await;
        if let Err(PoolError::Backend(error)) = &object
            && error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
            #[expect(clippy::disallowed_methods, reason = "this is the one place that takes connections")]
            {
                object = inner.pool.get().await;
            }
        }
        let object = object.map_err(|error| match error {
            // What the server says of a wrong password or database will not be different in a moment.
            PoolError::Backend(error)
                if error.code().is_some_and(|code| code.code().starts_with("28") || code.code().starts_with("3D")) =>
            {
                Error::Database { source: error.into() }
            }
            error => Error::unavailable(error),
        })?;
        Ok(Self { inner, object: Some(object), running: AtomicUsize::new(0) })
    }

    /// Begins what takes several statements: unless [`release`](Self::release) says that it came to its end, the connection is not handed on.
    pub(crate) fn occupy(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends what [`occupy`](Self::occupy) began.
    pub(crate) fn release(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Begins a transaction. Whatever the role or the database has for a default, it sees what was committed while it waited for a lock: the
    /// triggers need that, and so do migrators that wait for each other.
    pub(crate) async fn begin(&mut self) -> Result<deadpool_postgres::Transaction<'_>, Error> {
        let limit = self.inner.statement_timeout;
        let begin = self.object_mut()?.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
        timeout(limit, begin).await.map_err(|_| Error::unavailable(TimedOut(limit)))?.map_err(Error::unavailable)
    }

    pub(crate) fn object_mut(&mut self) -> Result<&mut Object, Error> {
        self.object.as_mut().ok_or_else(|| Error::unavailable("the connection is gone"))
    }

    /// Closes the connection in place of giving it back, and has the server stop what it is doing for it.
    pub(crate) fn discard(&mut self) {
        let Some(object) = self.object.take() else { return };
        let client = Object::take(object);
        if !client.is_closed()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let tls = self.inner.tls.clone();
            // Closed last: a pooler knows whose statement to stop only as long as its client is there.
            runtime.spawn(async move {
                let _ = timeout(CANCEL_TIMEOUT, tls.cancel(&client.cancel_token())).await;
                drop(client);
            });
        }
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        if self.running.load(Ordering::Relaxed) > 0 {
            self.discard();
        }
    }
}
