//! Connections taken from the pool.

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool::managed::{Object, PoolError, TimeoutType, Timeouts};
use tokio::runtime::Handle;
use tokio_postgres::{IsolationLevel, Transaction};

use super::{
    Inner, Observer,
    client::{Client, Prepared},
    observer::Waiting,
    pool::{self, Manager},
};
use crate::{Error, ProjectId, error::TimedOut, time_limit::limited};

/// Waits for nobody to give a connection back, so no timer is set for that. What opens and verifies one has limits of its own.
const AT_ONCE: Timeouts = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };

/// A connection of the pool. It goes back on drop, unless something may be running on it.
pub(crate) struct Pooled {
    object: Option<Object<Manager>>,
    pub(crate) unfinished: Unfinished,
}

/// Whether the server may still be at work on what nobody waits for.
#[derive(Default)]
pub(crate) struct Unfinished(AtomicBool);

impl Unfinished {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, unfinished: bool) {
        self.0.store(unfinished, Ordering::Relaxed);
    }

    /// Notes it when this is dropped, unless it came to its end.
    pub(crate) fn unless_ended(&self) -> Underway<'_> {
        Underway(self)
    }
}

/// Something that the server is at work on.
pub(crate) struct Underway<'a>(&'a Unfinished);

impl Underway<'_> {
    pub(crate) fn end(self) {
        mem::forget(self);
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

impl Pooled {
    /// A connection. Waits for it.
    pub(crate) async fn take(inner: &Inner, observer: Option<&dyn Observer>) -> Result<Self, Error> {
        let waiting = Waiting::begin(observer);
        let pooled = match inner.pool.manager().take_kept() {
            Some(object) => Ok(Self::of(object)),
            // On the heap: it is large, and often not needed.
            None => Box::pin(Self::of_pool(inner)).await,
        };
        waiting.end(&pooled);
        pooled
    }

    /// One of the pool's own. Waits for it.
    async fn of_pool(inner: &Inner) -> Result<Self, Error> {
        #[expect(clippy::disallowed_methods, reason = "this is one of the two places that take connections")]
        match inner.pool.timeout_get(&AT_ONCE).await {
            Err(PoolError::Timeout(TimeoutType::Wait)) => Self::wait(inner).await,
            object => Self::taken(object),
        }
    }

    async fn wait(inner: &Inner) -> Result<Self, Error> {
        let _in_line = inner.pool.manager().get_in_line();
        if let Some(object) = inner.pool.manager().take_kept() {
            return Ok(Self::of(object));
        }
        #[expect(clippy::disallowed_methods, reason = "this is one of the two places that take connections")]
        Self::taken(inner.pool.get().await)
    }

    fn taken(object: Result<Object<Manager>, PoolError<Error>>) -> Result<Self, Error> {
        object.map(Self::of).map_err(|error| match error {
            PoolError::Backend(error) => error,
            error => Error::unavailable(error),
        })
    }

    fn of(object: Object<Manager>) -> Self {
        Self { object: Some(object), unfinished: Unfinished::default() }
    }

    pub(crate) fn client(&self) -> Result<&Client, Error> {
        self.object.as_ref().map(|object| &object.client).ok_or_else(gone)
    }

    pub(crate) fn client_mut(&mut self) -> Result<&mut Client, Error> {
        self.object.as_mut().map(|object| &mut object.client).ok_or_else(gone)
    }

    /// Begins a transaction within this scope. Whatever the role or the database has for a default, it sees what was committed while it
    /// waited for a lock: the triggers need that, and so do migrators that wait for each other.
    pub(crate) async fn begin(&mut self, inner: &Inner, scope: Option<&ProjectId>) -> Result<(Transaction<'_>, &Prepared), Error> {
        let settings: Vec<String> = inner.local.clone().into_iter().chain(inner.guard(scope)).collect();
        let begin = async {
            let (client, prepared) = self.client_mut()?.split();
            let mut transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
            if inner.read_only {
                transaction = transaction.read_only(true);
            }
            let transaction = transaction.start().await.map_err(Error::unavailable)?;
            if !settings.is_empty() {
                transaction.batch_execute(&settings.join("; ")).await.map_err(Error::unavailable)?;
            }
            Ok((transaction, prepared))
        };
        limited(inner.statement_timeout, begin).await.ok_or_else(|| Error::unavailable(TimedOut(inner.statement_timeout)))?
    }

    /// Closes the connection in place of giving it back, and has the server stop what it is doing for it.
    fn discard(&mut self) {
        let Some(object) = self.object.take() else { return };
        let pool = Object::pool(&object);
        let pool::Connection { client, .. } = *Object::take(object);
        if let (Some(pool), Ok(runtime), false) = (pool, Handle::try_current(), client.is_closed()) {
            runtime.spawn(async move { pool.manager().connector.cancel(client).await });
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if self.unfinished.get() {
            self.discard();
        } else if let Some(object) = self.object.take() {
            Manager::keep(object);
        }
    }
}

fn gone() -> Error {
    Error::unavailable("the connection is gone")
}
