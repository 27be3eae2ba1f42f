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
        let waker = Some(waker.clone());
        let mut limits = LIMITS.lock();
        let place = Self(limits.places.insert(Limit { end, wakes: waker }));
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
        let kept = Some(waker.clone());
        let mut limits = LIMITS.lock();
        let limit = &mut limits.places[self.0];
        if limit.wakes.is_none() {
            return false;
        }
        let replaced = mem::replace(&mut limit.wakes, kept);
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

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn, ready},
        pin::pin,
        sync::Arc,
        task::Wake,
    };

    use futures_util::future::join_all;

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        // Without timers: nothing but the thread wakes it.
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn each_ends_at_its_own_limit() {
        let begun = Instant::now();
        // A later one is no reason to look for an earlier one any later.
        let limits = [400, 50, 200, 50, 1].map(Duration::from_millis);
        let ended = block_on(join_all(limits.map(async |limit| (within(limit, pending::<()>()).await, limit, begun.elapsed()))));
        assert_eq!(ended.len(), 5);
        for (answer, limit, elapsed) in ended {
            assert!(answer.is_none() && elapsed >= limit, "{limit:?}: {elapsed:?}");
        }
    }

    #[test]
    fn what_is_there_in_time_is_answered() {
        assert_eq!(block_on(within(Duration::ZERO, ready(7))), Some(7));
        let mut polls = 0;
        let third = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(polls) } else { Poll::Pending }
        });
        assert_eq!(block_on(within(Duration::MAX, third)), Some(3));
    }

    #[test]
    fn whoever_polled_last_is_woken_and_nobody_is_kept() {
        struct Thread(thread::Thread);
        impl Wake for Thread {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let [first, last] = [(); 2].map(|()| Arc::new(Thread(thread::current())));
        let wakers = [&first, &last].map(|thread| Waker::from(Arc::clone(thread)));
        {
            let mut limited = pin!(within(Duration::from_millis(50), pending::<()>()));
            for waker in &wakers {
                assert!(limited.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            }
            assert_eq!((Arc::strong_count(&first), Arc::strong_count(&last)), (2, 3));
            while limited.as_mut().poll(&mut Context::from_waker(&wakers[1])).is_pending() {
                thread::park();
            }
            assert_eq!(Arc::strong_count(&last), 2);
        }
        {
            let mut limited = pin!(within(Duration::from_hours(1), pending::<()>()));
            assert!(limited.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending());
            assert_eq!(Arc::strong_count(&first), 3);
        }
        assert_eq!(Arc::strong_count(&first), 2);
    }
}
