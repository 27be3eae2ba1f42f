//! The typed store: a handle per entity, from the store itself or from a transaction.

mod api_keys;
mod builder;
mod client;
mod comments;
mod connection_string;
mod connector;
mod detail;
mod events;
mod executor;
mod goals;
mod idempotency;
mod issues;
mod key_cache;
mod labels;
mod loader;
mod moment;
mod observer;
mod pool;
mod pooled;
mod projects;
mod prompts;
mod relations;
mod signals;
pub(crate) mod sql;
mod tls;
mod tx;

use std::{sync::Arc, time::Duration};

pub use self::{
    api_keys::ApiKeys,
    builder::{StatementMode, StoreBuilder},
    comments::Comments,
    events::Events,
    goals::Goals,
    idempotency::{IdempotentRequest, Once, StoredAnswer},
    issues::Issues,
    labels::Labels,
    observer::{Arrival, Observer, StatementEnd},
    projects::Projects,
    prompts::{Reviews, Templates, Versions},
    relations::Relations,
    signals::Signals,
    sql::Param,
    tx::Tx,
};
use self::{
    executor::{Executor, On},
    key_cache::KeyCache,
    loader::Loader,
    pool::Pool,
    pooled::Pooled,
};
use crate::{Actor, Error, ProjectId};

/// A typed store over a PostgreSQL database. Cheap to clone: the clones share one pool of connections.
///
/// A store may be bound to a project ([`within`](Self::within)). Then no handle sees or touches a row of another project, whatever it is
/// asked: such a row does not exist for it.
///
/// A future that was polled has to be polled on or dropped: one that is left alone may hold a connection.
#[derive(Clone)]
pub struct LoopStore {
    inner: Arc<Inner>,
    scope: Option<Arc<ProjectId>>,
    /// Who acts, as the history is told.
    actor: Arc<String>,
    observer: Option<Arc<dyn Observer>>,
}

/// What all clones of a store share.
pub(crate) struct Inner {
    pool: Pool,
    loader: Loader,
    mode: StatementMode,
    statement_timeout: Duration,
    schema: Option<String>,
    /// The settings of a transaction, where the session is not ours to have any: all that a pooler keeps is what belongs to a transaction.
    local: Option<String>,
    /// The beginning of the transaction that each statement is, where it is one.
    begin: Option<String>,
    /// Whether the database is told which rows may be seen.
    row_security: bool,
    /// Whether this is a replica.
    read_only: bool,
    replica: Option<Arc<Inner>>,
    /// The sources whose signals each open an issue of their own.
    ungrouped_sources: Vec<String>,
    keys: KeyCache,
    /// Held by the one migrator of this process: the others would wait in the database, each on a connection of its own.
    migrating: tokio::sync::Mutex<()>,
}

impl Inner {
    fn close(&self) {
        self.pool.close();
        self.pool.manager().give_back();
    }
}

impl std::fmt::Debug for LoopStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoopStore").field("mode", &self.inner.mode).field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl LoopStore {
    /// Connects to the database with the usual settings, and makes sure that it answers.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when the connection string cannot be used, or the database refuses what it says: the user, the password, the
    /// name of the database, TLS. [`Error::Unavailable`] when the database does not answer.
    pub async fn connect(connection_string: &str) -> Result<Self, Error> {
        Self::builder(connection_string).connect().await
    }

    /// A store with settings of one's own.
    pub fn builder(connection_string: &str) -> StoreBuilder {
        StoreBuilder::new(connection_string)
    }

    /// The same store bound to one project, with the same connections.
    pub fn within(&self, project: ProjectId) -> Self {
        Self { scope: Some(Arc::new(project)), ..self.clone() }
    }

    /// The same store for somebody whose name the history of issues will give. Without, it is [`Actor::app`] without a name.
    pub fn acting(&self, actor: &Actor) -> Self {
        Self { actor: Arc::new(actor.to_string()), ..self.clone() }
    }

    /// The same store, with the same connections, that tells this observer what it does. So do those made from it, in place of any other.
    pub fn observed_by(&self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self.clone() }
    }

    /// The store of the replica that the builder was given, within the same project, or `None` where it was given none.
    ///
    /// What it answers may lag behind what was written, so nothing goes there unless it is sent there. It cannot write.
    pub fn replica(&self) -> Option<Self> {
        self.inner.replica.as_ref().map(|inner| Self { inner: Arc::clone(inner), ..self.clone() })
    }

    /// The project this store is bound to.
    pub fn scope(&self) -> Option<&ProjectId> {
        self.scope.as_deref()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.executor().one(PING, &[]).await.map(drop)
    }

    /// Opens a connection where none is open, so that the first caller need not wait for it.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.take_connection().await.map(drop)
    }

    /// How many connections are open, how many of them are idle, and how many callers wait for one.
    pub fn pool_status(&self) -> PoolStatus {
        let kept = usize::from(self.inner.pool.manager().keeps_one());
        let status = self.inner.pool.status();
        PoolStatus {
            max_size: status.max_size,
            size: status.size,
            idle: (status.available + kept).min(status.size),
            waiting: status.waiting,
        }
    }

    /// Closes the pool, and that of the replica: idle connections at once, others as they come back. From then on every call answers
    /// [`Error::Unavailable`].
    pub fn close(&self) {
        self.inner.close();
        if let Some(replica) = &self.inner.replica {
            replica.close();
        }
    }

    pub(crate) fn executor(&self) -> Executor<'_> {
        let (scope, observer) = (self.scope(), self.observer());
        Executor { on: On::Pool(self), scope, actor: &self.actor, expected: None, observer }
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.as_deref()
    }

    /// The name of the schema that the tables are in, where it was chosen.
    pub(crate) fn schema(&self) -> Option<&str> {
        self.inner.schema.as_deref()
    }

    /// Runs statements as they are and answers their rows as text: for tests to arrange and to see what no handle does.
    #[cfg(feature = "test-util")]
    pub async fn raw(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        use tokio_postgres::SimpleQueryMessage;

        let mut connection = self.take_connection().await?;
        connection.unfinished.set(true);
        // Several statements in one message are a transaction.
        let guard = self.inner.guard(self.scope());
        let guarded = guard.map_or_else(|| sql.to_owned(), |guard| format!("{guard}; {sql}"));
        let answer = connection.client_mut()?.simple_query(&guarded).await;
        connection.unfinished.set(false);
        let messages = answer.map_err(|error| Error::from_driver(crate::Entity::Migration, error))?;
        let rows = messages.iter().filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None });
        Ok(rows.map(|row| (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()).collect())
    }

    /// Whether the database is told which rows may be seen.
    pub(crate) fn has_row_security(&self) -> bool {
        self.inner.row_security
    }

    /// Whether this is the store of a replica.
    pub(crate) fn is_replica(&self) -> bool {
        self.inner.read_only
    }

    /// The right to migrate, of which there is one in this process.
    pub(crate) async fn migrator(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.migrating.lock().await
    }

    /// A connection for what is no statement of a handle.
    pub(crate) fn take_connection(&self) -> impl Future<Output = Result<Pooled, Error>> {
        // Not `async`, as in the executor.
        Pooled::take(&self.inner, self.observer())
    }

    /// Begins a transaction on it that is not within any scope.
    pub(crate) async fn begin<'c>(
        &self,
        connection: &'c mut Pooled,
    ) -> Result<(tokio_postgres::Transaction<'c>, &'c client::Prepared), Error> {
        connection.begin(&self.inner, None).await
    }
}

const PING: sql::Statement = sql::Statement::new(crate::Entity::Migration, "-- ping\nSELECT $1::text");

/// How a pool of connections is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// The most connections it opens.
    pub max_size: usize,
    /// The open ones.
    pub size: usize,
    /// The open ones that nobody uses.
    pub idle: usize,
    /// The callers that wait for one.
    pub waiting: usize,
}

/// Where handles come from: a store or a transaction, for work that is to run on either.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    on: Executor<'a>,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("scope", &self.on.scope).finish_non_exhaustive()
    }
}

impl LoopStore {
    /// The handles of this store.
    pub fn session(&self) -> Session<'_> {
        Session { on: self.executor() }
    }
}

impl Tx<'_> {
    /// The handles of this transaction.
    pub fn session(&self) -> Session<'_> {
        Session { on: self.executor() }
    }
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident: $handle:ident,)+) => {
        impl LoopStore {
            $($(#[$doc])* pub fn $name(&self) -> $handle<'_> {
                self.session().$name()
            })+
        }

        impl Tx<'_> {
            $($(#[$doc])* pub fn $name(&self) -> $handle<'_> {
                self.session().$name()
            })+
        }

        impl<'a> Session<'a> {
            $($(#[$doc])* pub fn $name(self) -> $handle<'a> {
                $handle { on: self.on }
            })+
        }

        $(impl std::fmt::Debug for $handle<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($handle)).field("scope", &self.on.scope).finish_non_exhaustive()
            }
        })+
    };
}

handles! {
    /// The issues.
    issues: Issues,
    /// The labels, and which issues have them.
    labels: Labels,
    /// The comments on issues.
    comments: Comments,
    /// The relations between issues.
    relations: Relations,
    /// The projects.
    projects: Projects,
    /// The goals.
    goals: Goals,
    /// The signals.
    signals: Signals,
    /// The prompt templates.
    templates: Templates,
    /// The versions of prompt templates.
    versions: Versions,
    /// The reviews of prompt versions.
    reviews: Reviews,
    /// The API keys.
    api_keys: ApiKeys,
    /// The history of issues.
    events: Events,
}

macro_rules! revised {
    ($($handle:ident)+) => {
        $(impl<'a> $handle<'a> {
            /// The same handle for changes of what is at one of these revisions: `update` and `delete` answer [`Error::Stale`] and change
            /// nothing if it is at another; `None` takes any. Whatever else is asked of the handle is not affected.
            pub fn expecting(mut self, revisions: impl Into<Option<&'a Vec<i64>>>) -> Self {
                self.on.expected = revisions.into();
                self
            }
        })+
    };
}

revised! { Issues Labels Comments Projects Goals Templates }

/// Every fixed statement of the store, with its name: to be prepared against the schema by tests.
#[cfg(feature = "test-util")]
pub fn statements() -> Vec<&'static str> {
    [
        &[PING][..],
        api_keys::STATEMENTS,
        comments::STATEMENTS,
        events::STATEMENTS,
        goals::STATEMENTS,
        idempotency::STATEMENTS,
        issues::STATEMENTS,
        labels::STATEMENTS,
        projects::STATEMENTS,
        prompts::STATEMENTS,
        relations::STATEMENTS,
        signals::STATEMENTS,
    ]
    .concat()
    .iter()
    .map(|statement| statement.sql)
    .collect()
}
