//! Connections taken from the pool: by one caller alone, or by readers who share one.

use std::{
    mem, pin,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::managed::{Object, PoolError, TimeoutType, Timeouts};
use tokio::{runtime::Handle, sync::Notify, time::sleep};
use tokio_postgres::{IsolationLevel, Transaction};

use super::{
    Inner, Observer,
    client::{Client, Prepared},
    limit::limited,
    observer::Waiting,
    pool::{self, Manager},
};
use crate::{Error, ProjectId, error::TimedOut};

/// How many read on one connection at a time where there is another one. A server takes microseconds for a row by its key, so those who stand
/// in line for so few others wait less than for processes to be woken for each.
const READERS: usize = 16;

/// After so long without an answer, a connection is left to those who are on it. One of them may wait for a lock, or ask for much.
const SLOW: Duration = Duration::from_millis(5);

/// Waits for nobody to give a connection back, so no timer is set for that. What opens and verifies one has limits of its own.
const AT_ONCE: Timeouts = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };

/// A connection of the pool. It goes back on drop, unless something may be running on it.
pub(crate) struct Pooled {
    object: Option<Object<Manager>>,
    pub(crate) unfinished: Unfinished,
    /// When it was opened to readers, or one of them had an answer while others were waiting, in microseconds on the [`clock`].
    answered: AtomicU64,
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
            None => {
                let _wanted = inner.lanes.want();
                Box::pin(Self::wait(inner)).await
            }
            Some(pooled) => pooled,
        };
        waiting.end(&pooled);
        pooled
    }

    /// A connection that others may be reading on, or one to read on with others. Waits for it.
    pub(crate) async fn share(inner: &Inner, observer: Option<&dyn Observer>) -> Result<Arc<Self>, Error> {
        let waiting = Waiting::begin(observer);
        let pooled = match inner.lanes.join(inner, Among::Roomy) {
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
        if let Some(object) = inner.pool.manager().take_kept() {
            return Some(Ok(Self::of(object)));
        }
        #[expect(clippy::disallowed_methods, reason = "this is one of the two places that take connections")]
        match inner.pool.timeout_get(&AT_ONCE).await {
            Err(PoolError::Timeout(TimeoutType::Wait)) => None,
            object => Some(Self::taken(object)),
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

    /// Keeps its place in the line for a connection of its own until there is one to share.
    async fn wait_or_join(inner: &Inner) -> Result<Arc<Self>, Error> {
        let opening = Opening::default();
        let mut own = pin::pin!(opening.watch(Self::wait(inner)));
        let mut patience = pin::pin!(sleep(SLOW));
        let mut among = Among::Quick;
        loop {
            let joinable = inner.lanes.joinable.notified();
            // What is being opened would be closed, and the next in the line begin again.
            if !opening.has_begun()
                && let Some(pooled) = inner.lanes.join(inner, among)
            {
                return Ok(pooled);
            }
            tokio::select! {
                biased;
                pooled = &mut own => return pooled.map(|pooled| inner.lanes.open(pooled)),
                () = joinable => {}
                () = &mut patience, if among == Among::Quick => among = Among::All,
            }
        }
    }

    fn taken(object: Result<Object<Manager>, PoolError<Error>>) -> Result<Self, Error> {
        object.map(Self::of).map_err(|error| match error {
            PoolError::Backend(error) => error,
            error => Error::unavailable(error),
        })
    }

    fn of(object: Object<Manager>) -> Self {
        Self { object: Some(object), unfinished: Unfinished::default(), answered: AtomicU64::new(0) }
    }

    pub(crate) fn client(&self) -> Result<&Client, Error> {
        self.object.as_ref().map(|object| &object.client).ok_or_else(gone)
    }

    pub(crate) fn client_mut(&mut self) -> Result<&mut Client, Error> {
        self.object.as_mut().map(|object| &mut object.client).ok_or_else(gone)
    }

    /// Notes that a reader has an answer.
    pub(crate) fn answered(self: &Arc<Self>) {
        if Arc::strong_count(self) > 1 {
            self.answered.store(clock(), Ordering::Relaxed);
        }
    }

    /// Whether it works, as far as is known.
    fn is_sound(&self) -> bool {
        !self.unfinished.get() && self.client().is_ok_and(|client| !client.is_closed())
    }

    /// Whether those who are on it had an answer of late.
    fn is_quick(&self) -> bool {
        Duration::from_micros(clock().saturating_sub(self.answered.load(Ordering::Relaxed))) < SLOW
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

/// Microseconds since this was asked first.
fn clock() -> u64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGUN.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// The connections that are being read on, for others to do so as well. The driver sends what several ask at the same moment together and reads
/// their answers together: it and the server wake each other less often than once for every row.
#[derive(Default)]
pub(crate) struct Lanes {
    /// Each for as long as anybody reads on it.
    open: Mutex<Vec<Weak<Pooled>>>,
    /// Told when there may be one for readers who wait.
    joinable: Notify,
    /// How many wait for a connection to themselves. Nobody is let on one that is shared meanwhile, so that it comes free.
    wanted: AtomicUsize,
}

/// Which of the connections that are shared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    /// Those where answers come, and there is room.
    Roomy,
    /// Those where answers come.
    Quick,
    All,
}

impl Lanes {
    /// Reads on a connection that others read on: the first with room, so that the others come free, or the one with the fewest readers.
    fn join(&self, inner: &Inner, among: Among) -> Option<Arc<Pooled>> {
        if inner.pool.is_closed() || self.wanted.load(Ordering::Relaxed) > 0 {
            return None;
        }
        // Dropped behind the lock: whoever is the last on a connection gives it back.
        let mut passed = Vec::new();
        let mut joined: Option<Arc<Pooled>> = None;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|lane| {
            if joined.is_some() && among == Among::Roomy {
                return true;
            }
            let Some(pooled) = lane.upgrade() else { return false };
            let sound = pooled.is_sound();
            // This caller is counted already.
            let readers = Arc::strong_count(&pooled);
            let suits = (among == Among::All || pooled.is_quick())
                && if among == Among::Roomy {
                    readers <= READERS
                } else {
                    joined.as_ref().is_none_or(|joined| readers < Arc::strong_count(joined))
                };
            passed.extend(if sound && suits { joined.replace(pooled) } else { Some(pooled) });
            sound
        });
        joined
    }

    /// Lets others read on a connection, too.
    fn open(&self, pooled: Pooled) -> Arc<Pooled> {
        pooled.answered.store(clock(), Ordering::Relaxed);
        let pooled = Arc::new(pooled);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody looks through them while somebody waits for one to himself.
            open.retain(|lane| lane.strong_count() > 0);
            open.push(Arc::downgrade(&pooled));
        }
        if self.wanted.load(Ordering::Relaxed) == 0 {
            self.joinable.notify_waiters();
        }
        pooled
    }

    /// Says that somebody waits for a connection to himself, until this is dropped.
    fn want(&self) -> Wanted<'_> {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        Wanted(self)
    }
}

/// Somebody who waits for a connection to himself.
struct Wanted<'a>(&'a Lanes);

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if self.0.wanted.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.joinable.notify_waiters();
        }
    }
}

tokio::task_local! {
    static OPENING: Opening;
}

/// Whether a connection is being opened, or verified, for somebody who stood in line for it.
#[derive(Clone, Default)]
pub(crate) struct Opening(Arc<AtomicBool>);

impl Opening {
    /// Notes that it begins, for whoever is watching.
    pub(crate) fn begin() {
        let _ = OPENING.try_with(|opening| opening.0.store(true, Ordering::Relaxed));
    }

    fn watch<F: Future>(&self, line: F) -> impl Future<Output = F::Output> {
        OPENING.scope(self.clone(), line)
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
