//! The pool: what is in it, and what makes sure that a connection still works before it is handed out.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use tokio::time::timeout;

use super::{client::Client, connector::Connector, moment::Moment, pooled::Opening};
use crate::Error;

/// How long a connection may take to say that it still works.
const ANSWER: Duration = Duration::from_secs(1);

pub(crate) type Pool = managed::Pool<Manager>;

/// A connection with its prepared statements.
pub(crate) struct Connection {
    pub(crate) client: Client,
    used: Moment,
}

impl Connection {
    /// Notes that it was in use until now.
    pub(crate) fn touch(&mut self) {
        self.used = Moment::now();
    }
}

/// What opens the pool's connections, and looks at them before they are used again.
pub(crate) struct Manager {
    pub(crate) connector: Connector,
    verify_after: Duration,
    /// When a connection was last found to be silent. Those that were used before that are not waited for.
    silent: Mutex<Option<Instant>>,
}

impl Manager {
    pub(crate) fn new(connector: Connector, verify_after: Duration) -> Self {
        Self { connector, verify_after, silent: Mutex::new(None) }
    }
}

impl managed::Manager for Manager {
    // On the heap: the pool moves it several times for every call.
    type Type = Box<Connection>;
    type Error = Error;

    async fn create(&self) -> Result<Box<Connection>, Error> {
        Opening::begin();
        // On the heap: what connects is large, and the future of every call that may have to is as large as that.
        Ok(Box::new(Connection { client: Box::pin(self.connector.connect()).await?, used: Moment::now() }))
    }

    /// A connection whose end has arrived here is closed. One that was idle for a while may be gone all the same: its end may not have
    /// arrived, because the process was frozen, or something on the way has forgotten it.
    async fn recycle(&self, connection: &mut Box<Connection>, _: &Metrics) -> RecycleResult<Error> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        if connection.used.elapsed() < self.verify_after {
            return Ok(());
        }
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent().is_some_and(|since| connection.used.steady < since) {
            return Err(RecycleError::message("others of its age were silent"));
        }
        Opening::begin();
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
