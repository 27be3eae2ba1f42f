//! The connections that are served at once, and which of them goes when another one comes and there is no room.
//!
//! Either the server is at work for a connection, from the head of a request until its answer is ready, or the connection keeps the server
//! waiting: for a head, for more of a body that is being read, or until the client takes an answer. One that waits costs its client nothing,
//! so anybody can have any number of them, and a limit on how long each may wait does not keep them from taking all the room there is. So
//! where room is needed, the one goes that has waited longest, but not before an answer had time to reach a client that reads. Where all
//! wait for a moment only, between one request and the next, one is told with its next answer that it is the last. What the server is at
//! work on is never dropped.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// How long everybody may keep the server waiting.
const GRACE: Duration = Duration::from_millis(500);

/// All connections.
pub(crate) struct Connections {
    room: Arc<Semaphore>,
    queue: Arc<Queue>,
}

/// Those that keep the server waiting, in the order in which they began to.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Told when another one begins to wait.
    longer: Notify,
    /// Whether room is needed, and nobody has waited long enough: then whoever is answered next makes it.
    wanted: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    tickets: u64,
    connections: BTreeMap<Place, Arc<Notify>>,
}

/// A place in the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    since: Instant,
    /// Tells apart those that began at the same time.
    ticket: u64,
}

impl Connections {
    /// Room for so many, and for one at least.
    pub(crate) fn new(most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS))), queue: Arc::default() }
    }

    /// A place for one more, which the connection that has waited longest makes if there is none, or the one that is answered next. This
    /// waits only while the server is at work for every one of them, or they have only just begun to wait.
    pub(crate) async fn place(&self) -> Connection {
        let room = || Arc::clone(&self.room).acquire_owned();
        let room = tokio::select! {
            biased;
            room = room() => room,
            () = self.queue.shed() => room().await,
        };
        self.queue.wanted.store(false, Ordering::Relaxed);
        let going = Arc::new(Notify::new());
        let place = self.queue.enter(Instant::now(), &going);
        Connection { queue: Arc::clone(&self.queue), going, state: Mutex::new(State { at_work: 0, place }), _room: room.ok() }
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a connection in its place.
    fn enter(&self, since: Instant, connection: &Arc<Notify>) -> Place {
        let mut waiting = self.waiting();
        waiting.tickets += 1;
        let place = Place { since, ticket: waiting.tickets };
        waiting.connections.insert(place, Arc::clone(connection));
        drop(waiting);
        self.longer.notify_one();
        place
    }

    /// Takes a connection out. Fails if that has been done: then the connection goes.
    fn leave(&self, place: Place) -> io::Result<()> {
        self.waiting().connections.remove(&place).map(|_| ()).ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    /// Has the connection go that has waited longest, as soon as one has waited long enough.
    async fn shed(&self) {
        let mut is_wanted = false;
        loop {
            let soonest = match self.waiting().connections.first_entry() {
                Some(longest) if longest.key().since.elapsed() >= GRACE => {
                    tracing::debug!("a connection that kept the server waiting makes room for another one");
                    return longest.remove().notify_one();
                }
                longest => longest.map(|longest| longest.key().since + GRACE),
            };
            // One is told, and no more: it goes in any case, at the latest when it has waited long enough.
            if !std::mem::replace(&mut is_wanted, true) {
                self.wanted.store(true, Ordering::Relaxed);
            }
            match soonest {
                Some(soonest) => sleep_until(soonest).await,
                None => self.longer.notified().await,
            }
        }
    }
}

/// One connection, with its place.
pub(crate) struct Connection {
    queue: Arc<Queue>,
    /// Told when it has to go.
    going: Arc<Notify>,
    state: Mutex<State>,
    _room: Option<OwnedSemaphorePermit>,
}

struct State {
    /// How many of its requests the server is at work on.
    at_work: usize,
    /// Its place among those that wait, while there are none.
    place: Place,
}

impl Connection {
    /// Ready when the connection has to make room for another one.
    pub(crate) async fn has_to_go(&self) {
        self.going.notified().await;
    }

    /// Whether the answer that is given now is to be the last one, since another connection needs room. True for one that asks.
    pub(crate) fn is_to_make_room(&self) -> bool {
        self.queue.wanted.load(Ordering::Relaxed) && self.queue.wanted.swap(false, Ordering::Relaxed)
    }

    /// Answers a request. Fails if the connection has to go: then nothing of the request was done.
    pub(crate) async fn serve(self: Arc<Self>, router: Router, request: Request) -> io::Result<Response> {
        let work = Arc::new(Work(self));
        work.begin()?;
        let arriving = |body| Body::new(Arriving { body, work: Arc::clone(&work), pending: false, since: None });
        let request = if request.body().is_end_stream() { request } else { request.map(arriving) };
        let Ok(response) = TowerToHyperService::new(router).call(request).await;
        Ok(response)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It is no longer among them if it had to go.
        let _ = self.queue.leave(self.state().place);
    }
}

/// A request that the server is at work on, until this is dropped.
struct Work(Arc<Connection>);

impl Work {
    /// Fails if the connection has to go. It counts as begun all the same.
    fn begin(&self) -> io::Result<()> {
        let mut state = self.0.state();
        state.at_work += 1;
        if state.at_work == 1 { self.0.queue.leave(state.place) } else { Ok(()) }
    }

    /// The client keeps the server waiting.
    fn wait(&self, since: Instant) {
        let mut state = self.0.state();
        state.at_work -= 1;
        if state.at_work == 0 {
            state.place = self.0.queue.enter(since, &self.0.going);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.wait(Instant::now());
    }
}

/// The body of a request. The server is not at work on the request while it waits for more of it.
struct Arriving {
    body: Body,
    work: Arc<Work>,
    pending: bool,
    /// When it first waited. Who sends a byte now and then has waited since then.
    since: Option<Instant>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() != self.pending {
            self.pending = polled.is_pending();
            if self.pending {
                let since = *self.since.get_or_insert_with(Instant::now);
                self.work.wait(since);
            } else if let Err(error) = self.work.begin() {
                return Poll::Ready(Some(Err(axum::Error::new(error))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if self.pending {
            // Nobody waits for the rest any more: what is left is to answer.
            let _ = self.work.begin();
        }
    }
}
