//! The pool: what is in it, and what makes sure that a connection still works before it is handed out.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use tokio::time::timeout;

use super::{client::Client, connector::Connector, moment::Moment};
use crate::Error;

/// How long a connection may take to say that it still works.
const ANSWER: Duration = Duration::from_secs(1);

pub(crate) type Pool = managed::Pool<Manager>;

/// A connection with its prepared statements.
pub(crate) struct Connection {
    pub(crate) client: Client,
    used: Moment,
}

/// What opens the pool's connections, and looks at them before they are used again.
pub(crate) struct Manager {
    pub(crate) connector: Connector,
    verify_after: Duration,
    /// When a connection was last found to be silent. Those that were used before that are not waited for.
    silent: Mutex<Option<Instant>>,
    /// The connection that was given back last, for whoever comes next, in front of the pool: what the pool does to hand one out and take it
    /// back is a good part of what a row by its key takes here. For the pool it is in use.
    kept: Mutex<Option<Object<Manager>>>,
    /// How many stand in line at the pool. Nothing is kept from them.
    in_line: AtomicUsize,
}

/// Somebody who stands in line at the pool, until this is dropped.
pub(crate) struct InLine<'a>(&'a AtomicUsize);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Manager {
    pub(crate) fn new(connector: Connector, verify_after: Duration) -> Self {
        Self { connector, verify_after, silent: Mutex::new(None), kept: Mutex::new(None), in_line: AtomicUsize::new(0) }
    }

    /// Takes the connection that was kept, unless it has to be looked at first: then it is given back to the pool, which hands it out next, and does
    /// that.
    pub(crate) fn take_kept(&self) -> Option<Object<Self>> {
        let object = self.kept().take()?;
        (!object.client.is_closed() && self.is_fresh(&object)).then_some(object)
    }

    /// Keeps a connection of this pool for whoever comes next, or gives it back to the pool.
    pub(crate) fn keep(mut object: Object<Self>) {
        object.used = Moment::now();
        let Some(pool) = Object::pool(&object) else { return };
        let manager = pool.manager();
        let mut kept = manager.kept();
        // Whoever gets in line counts himself before he looks here, and who closes the pool does that before, too.
        if kept.is_none() && manager.in_line.load(Ordering::Relaxed) == 0 && !pool.is_closed() {
            *kept = Some(object);
        } else {
            drop(kept);
            drop(object);
        }
    }

    /// Gets in line at the pool: to be done before the last look at what is kept.
    pub(crate) fn get_in_line(&self) -> InLine<'_> {
        self.in_line.fetch_add(1, Ordering::Relaxed);
        InLine(&self.in_line)
    }

    /// Whether a connection is kept.
    pub(crate) fn keeps_one(&self) -> bool {
        self.kept().is_some()
    }

    /// Gives back what is kept.
    pub(crate) fn give_back(&self) {
        let kept = self.kept().take();
        drop(kept);
    }

    fn kept(&self) -> MutexGuard<'_, Option<Object<Self>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection was in use a moment ago.
    fn is_fresh(&self, connection: &Connection) -> bool {
        connection.used.elapsed() < self.verify_after
    }
}

impl managed::Manager for Manager {
    // On the heap: the pool moves it several times for every call.
    type Type = Box<Connection>;
    type Error = Error;

    async fn create(&self) -> Result<Box<Connection>, Error> {
        // On the heap: what connects is large, and the future of every call that may have to is as large as that.
        Ok(Box::new(Connection { client: Box::pin(self.connector.connect()).await?, used: Moment::now() }))
    }

    /// A connection whose end has arrived here is closed. One that was idle for a while may be gone all the same: its end may not have
    /// arrived, because the process was frozen, or something on the way has forgotten it.
    async fn recycle(&self, connection: &mut Box<Connection>, _: &Metrics) -> RecycleResult<Error> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        if self.is_fresh(connection) {
            return Ok(());
        }
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent().is_some_and(|since| connection.used.steady < since) {
            return Err(RecycleError::message("others of its age were silent"));
        }
        match Box::pin(timeout(ANSWER, connection.client.batch_execute(""))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(RecycleError::Backend(Error::unavailable(error))),
            Err(_) => {
                *silent() = Some(Instant::now());
                Err(RecycleError::message("the connection is silent"))
            }
        }
    }
}
