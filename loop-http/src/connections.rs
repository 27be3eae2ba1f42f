//! The connections that are served at once, and which of them goes when another one comes and there is no room.
//!
//! Either the server is at work for a connection, from the last byte of a request until its answer is ready, or the connection keeps the
//! server waiting: for a request's head, for its body, or until the client reads. One that waits costs its client nothing, so anybody can
//! have any number of them, and a limit on how long each may wait does not keep them from taking all the room there is. So where room is
//! needed, the one goes that has waited longest. What the server is at work on is never dropped.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
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
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

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
}

#[derive(Default)]
struct Waiting {
    tickets: u64,
    connections: BTreeMap<u64, Arc<Notify>>,
}

impl Connections {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(most)), queue: Arc::default() }
    }

    /// A place for one more, which the connection that has waited longest makes if there is none. Only while the server is at work for every
    /// one of them does this wait.
    pub(crate) async fn place(&self) -> Connection {
        let room = || Arc::clone(&self.room).acquire_owned();
        let room = tokio::select! {
            biased;
            room = room() => room,
            () = self.queue.shed() => room().await,
        };
        let going = Arc::new(Notify::new());
        let ticket = self.queue.wait(&going);
        Connection { queue: Arc::clone(&self.queue), going, state: Mutex::new(State { at_work: 0, ticket }), _room: room.ok() }
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a connection at the end, and gives it a ticket for its place.
    fn wait(&self, connection: &Arc<Notify>) -> u64 {
        let mut waiting = self.waiting();
        waiting.tickets += 1;
        let ticket = waiting.tickets;
        waiting.connections.insert(ticket, Arc::clone(connection));
        drop(waiting);
        self.longer.notify_one();
        ticket
    }

    /// Takes a connection out. Fails if that has been done: then the connection goes.
    fn leave(&self, ticket: u64) -> io::Result<()> {
        self.waiting().connections.remove(&ticket).map(|_| ()).ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    /// Has the connection go that has waited longest, as soon as there is one.
    async fn shed(&self) {
        loop {
            if let Some((_, longest)) = self.waiting().connections.pop_first() {
                tracing::debug!("a connection that kept the server waiting makes room for another one");
                return longest.notify_one();
            }
            self.longer.notified().await;
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
    ticket: u64,
}

impl Connection {
    /// Ready when the connection has to make room for another one.
    pub(crate) async fn has_to_go(&self) {
        self.going.notified().await;
    }

    /// Answers a request. Fails if the connection has to go: then nothing of the request was done.
    pub(crate) async fn serve(self: Arc<Self>, router: Router, request: Request) -> io::Result<Response> {
        let work = Arc::new(OnceLock::new());
        let request = if request.body().is_end_stream() {
            self.begin(&work)?;
            request
        } else {
            // A client that was idle for long has only now begun to keep the server waiting for this.
            self.wait_anew()?;
            request.map(|body| Body::new(Arriving { body, connection: Arc::clone(&self), work: Arc::clone(&work) }))
        };
        let Ok(response) = TowerToHyperService::new(router).call(request).await;
        Ok(response)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to work on a request.
    fn begin(self: &Arc<Self>, work: &OnceLock<Work>) -> io::Result<()> {
        let mut state = self.state();
        if state.at_work == 0 {
            self.queue.leave(state.ticket)?;
        }
        state.at_work += 1;
        drop(state);
        let _ = work.set(Work(Arc::clone(self)));
        Ok(())
    }

    fn wait_anew(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.at_work == 0 {
            self.queue.leave(state.ticket)?;
            state.ticket = self.queue.wait(&self.going);
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It is no longer among them if it had to go.
        let _ = self.queue.leave(self.state().ticket);
    }
}

/// A request that the server is at work on, until this is dropped.
struct Work(Arc<Connection>);

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.at_work -= 1;
        if state.at_work == 0 {
            state.ticket = self.0.queue.wait(&self.0.going);
        }
    }
}

/// The body of a request, which is at work once it is whole.
struct Arriving {
    body: Body,
    connection: Arc<Connection>,
    work: Arc<OnceLock<Work>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let whole = matches!(polled, Poll::Ready(None)) || matches!(polled, Poll::Ready(Some(Ok(_)))) && self.body.is_end_stream();
        // A body that was read to its end may be asked again.
        if whole
            && self.work.get().is_none()
            && let Err(error) = self.connection.begin(&self.work)
        {
            return Poll::Ready(Some(Err(axum::Error::new(error))));
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
