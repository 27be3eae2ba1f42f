//! Limits of time for statements, watched by one thread of the process for all of them.
//!
//! A timer of the runtime's would be set and taken back for every statement, and as long as there is one, each time that the runtime waits it has the
//! system set a timer, too: a tenth of what a row by its key takes. Here a limit is a place in a map. The thread sleeps until the earliest one
//! that it knew of, and most of those are gone by then, so it seldom wakes, and nobody has to wake it.

use std::{
    mem,
    pin::Pin,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use slab::Slab;

pin_project! {
    /// The future's output, or nothing where it is not there within the limit. See [`within`].
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        limit: Duration,
        place: Option<Place>,
    }
}

/// Waits for a future no longer than this, from when it is polled first.
pub(crate) fn within<F: Future>(limit: Duration, future: F) -> Within<F> {
    Within { future, limit, place: None }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        match this.place {
            Some(place) if !place.keep(cx.waker()) => return Poll::Ready(None),
            Some(_) => {}
            // A limit that no clock reaches is none.
            none => *none = Instant::now().checked_add(*this.limit).map(|end| Place::take(end, cx.waker())),
        }
        Poll::Pending
    }
}

/// A place among those that the thread watches, until this is dropped.
struct Place(usize);

impl Place {
    fn take(end: Instant, waker: &Waker) -> Self {
        let wakes = Some(waker.clone());
        let mut limits = LIMITS.lock();
        let place = Self(limits.places.insert(Limit { end, wakes }));
        if limits.looks_again.is_none_or(|moment| end < moment) {
            limits.looks_again = Some(end);
            LIMITS.earlier.notify_one();
        }
        if !limits.is_watched {
            let thread = thread::Builder::new().name("loop-limits".to_owned()).spawn(watch);
            limits.is_watched = thread.is_ok();
            drop(limits);
            if let Err(error) = thread {
                // There is the server's own limit still, and the next statement tries again.
                tracing::error!(%error, "nothing watches the limits of statements");
            }
        }
        place
    }

    /// Whether the limit is not reached yet. Then this is whom to wake when it is.
    fn keep(&self, waker: &Waker) -> bool {
        // What is dropped of a waker may be a whole task with places of its own, so never under the lock.
        let wakes = Some(waker.clone());
        let mut limits = LIMITS.lock();
        let limit = &mut limits.places[self.0];
        if limit.wakes.is_none() {
            return false;
        }
        let replaced = mem::replace(&mut limit.wakes, wakes);
        drop(limits);
        drop(replaced);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let limit = LIMITS.lock().places.remove(self.0);
        drop(limit);
    }
}

static LIMITS: Watched =
    Watched { limits: Mutex::new(Limits { places: Slab::new(), looks_again: None, is_watched: false }), earlier: Condvar::new() };

struct Watched {
    limits: Mutex<Limits>,
    /// Told when the thread has to look earlier than it would.
    earlier: Condvar,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Limits {
    places: Slab<Limit>,
    /// Until when the thread sleeps; nothing, until it is told.
    looks_again: Option<Instant>,
    is_watched: bool,
}

struct Limit {
    end: Instant,
    /// Whom to wake then; nobody, once that is done.
    wakes: Option<Waker>,
}

/// Wakes whoever's limit is reached, for ever.
fn watch() {
    let mut limits = LIMITS.lock();
    loop {
        let now = Instant::now();
        let mut reached = Vec::new();
        let mut next: Option<Instant> = None;
        for (_, limit) in &mut limits.places {
            if limit.end <= now {
                reached.extend(limit.wakes.take());
            } else {
                next = Some(next.map_or(limit.end, |next| next.min(limit.end)));
            }
        }
        limits.looks_again = next;
        if !reached.is_empty() {
            // Not under the lock either: it may run what it wakes.
            drop(limits);
            reached.into_iter().for_each(Waker::wake);
            limits = LIMITS.lock();
            continue;
        }
        limits = match next {
            Some(end) => LIMITS.earlier.wait_timeout(limits, end.saturating_duration_since(now)).unwrap_or_else(PoisonError::into_inner).0,
            None => LIMITS.earlier.wait(limits).unwrap_or_else(PoisonError::into_inner),
        };
    }
}
