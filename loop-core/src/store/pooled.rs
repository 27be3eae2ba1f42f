//! Connections taken from the pool: by one caller alone, or by readers who share one.

use std::{
    mem, pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{Object, PoolError, TimeoutType, Timeouts};
use tokio::{runtime::Handle, sync::Notify, time::timeout};
use tokio_postgres::{IsolationLevel, Transaction};

use super::{
    Inner, Observer,
    client::{Client, Prepared},
    observer::Waiting,
    pool::{self, Manager},
};
use crate::{Error, ProjectId, error::TimedOut};

/// How many read on one connection at a time. A server takes microseconds for a row by its key, so those who stand in line there for so few
/// others wait less than for processes to be woken for each.
const READERS: usize = 32;

/// How many read on one connection before it goes back, so that who waits for one to himself gets it.
const READERS_IN_ALL: usize = 256;

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
    /// A connection for one caller. Waits for it.
    pub(crate) async fn take(inner: &Inner, observer: Option<&dyn Observer>) -> Result<Self, Error> {
        let waiting = Waiting::begin(observer);
        let pooled = match Self::at_once(inner).await {
            None => Box::pin(Self::wait(inner)).await,
            Some(pooled) => pooled,
        };
        waiting.end(&pooled);
        pooled
    }

    /// A connection that others may be reading on, or one to read on with others. Waits for it.
    pub(crate) async fn share(inner: &Inner, observer: Option<&dyn Observer>) -> Result<Arc<Self>, Error> {
        let waiting = Waiting::begin(observer);
        let pooled = match inner.lanes.join(inner) {
            Some(pooled) => Ok(pooled),
            None => match Self::at_once(inner).await {
                None => Box::pin(Self::wait_or_join(inner)).await,
                Some(pooled) => pooled.map(|pooled| inner.lanes.open(pooled)),
            },
        };
        waiting.end(&pooled);
        pooled
    }

    /// A connection, or nothing where all are taken.
    async fn at_once(inner: &Inner) -> Option<Result<Self, Error>> {
        #[expect(clippy::disallowed_methods, reason = "this is one of the two places that take connections")]
        match inner.pool.timeout_get(&AT_ONCE).await {
            Err(PoolError::Timeout(TimeoutType::Wait)) => None,
            object => Some(Self::of(object)),
        }
    }

    async fn wait(inner: &Inner) -> Result<Self, Error> {
        #[expect(clippy::disallowed_methods, reason = "this is one of the two places that take connections")]
        Self::of(inner.pool.get().await)
    }

    /// Keeps its place in the line for a connection of its own until there is one to share.
    async fn wait_or_join(inner: &Inner) -> Result<Arc<Self>, Error> {
        let mut own = pin::pin!(Self::wait(inner));
        loop {
            let opened = inner.lanes.opened.notified();
            if let Some(pooled) = inner.lanes.join(inner) {
                return Ok(pooled);
            }
            tokio::select! {
                biased;
                pooled = &mut own => return pooled.map(|pooled| inner.lanes.open(pooled)),
                () = opened => {}
            }
        }
    }

    fn of(object: Result<Object<Manager>, PoolError<Error>>) -> Result<Self, Error> {
        let object = object.map_err(|error| match error {
            PoolError::Backend(error) => error,
            error => Error::unavailable(error),
        })?;
        Ok(Self { object: Some(object), unfinished: Unfinished::default() })
    }

    pub(crate) fn client(&self) -> Result<&Client, Error> {
        self.object.as_ref().map(|object| &object.client).ok_or_else(gone)
    }

    pub(crate) fn client_mut(&mut self) -> Result<&mut Client, Error> {
        self.object.as_mut().map(|object| &mut object.client).ok_or_else(gone)
    }

    /// Whether it works, as far as is known.
    fn is_sound(&self) -> bool {
        !self.unfinished.get() && self.client().is_ok_and(|client| !client.is_closed())
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
        timeout(inner.statement_timeout, begin).await.map_err(|_| Error::unavailable(TimedOut(inner.statement_timeout)))?
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
        } else if let Some(object) = &mut self.object {
            object.touch();
        }
    }
}

fn gone() -> Error {
    Error::unavailable("the connection is gone")
}

/// The connections that are being read on, for others to do so as well. The driver sends what several ask at the same moment together, and
/// so does the server with what it answers: each wakes the other once for many rows.
#[derive(Default)]
pub(crate) struct Lanes {
    open: Mutex<Vec<Lane>>,
    opened: Notify,
}

/// A connection for as long as anybody reads on it.
struct Lane {
    pooled: Weak<Pooled>,
    /// How many have come so far.
    readers: usize,
}

impl Lanes {
    /// Reads on a connection that others read on, if there is one with room.
    fn join(&self, inner: &Inner) -> Option<Arc<Pooled>> {
        if inner.pool.is_closed() {
            return None;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = 0;
        // The first with room, so that the others come free.
        while let Some(lane) = open.get_mut(place) {
            match lane.pooled.upgrade() {
                Some(pooled) if lane.readers < READERS_IN_ALL && pooled.is_sound() => {
                    // This one is counted already.
                    if Arc::strong_count(&pooled) <= READERS {
                        lane.readers += 1;
                        return Some(pooled);
                    }
                    place += 1;
                }
                _ => drop(open.remove(place)),
            }
        }
        None
    }

    /// Lets others read on a connection, too.
    fn open(&self, pooled: Pooled) -> Arc<Pooled> {
        let pooled = Arc::new(pooled);
        let lane = Lane { pooled: Arc::downgrade(&pooled), readers: 1 };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
        self.opened.notify_waiters();
        pooled
    }
}
