//! Limits of time that are hardly ever reached, watched by one thread of the process for all of them.
//!
//! The store has one for every statement, and whoever serves it has one for every request. A timer of the runtime's would be set and taken back
//! each time. As long as there is one, the runtime has the system set a timer, too, whenever it waits; and where one is set that ends before all
//! others, the runtime wakes itself. Here a limit is an entry in a list. The thread sleeps until the earliest one that it knew of, and most of those
//! are gone by then: so it wakes, or is woken, about once in the time of a limit.
//!
//! No runtime is needed for it. What ends often, or has to end exactly, is for the runtime's timers.

use std::{
    io, mem,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use slab::Slab;

pin_project! {
    /// The future's output, or `None` where it is not there within the limit. See [`limited`].
    #[must_use = "a future does nothing unless it is polled"]
    #[derive(Debug)]
    pub struct Limited<F> {
        #[pin]
        future: F,
        limit: Duration,
        entry: Option<Entry>,
    }
}

/// Waits for a future no longer than this, from when it is polled first. A limit that no clock reaches is none.
///
/// It may end some milliseconds late, never early, and goes by the system's clock, whatever the runtime's does. Where the system has no thread left
/// to watch it, it ends at once. What is woken runs on the thread that watches, so a waker that waits for anything keeps all others waiting, too;
/// those of runtimes do not.
///
/// ```
/// use std::{future, time::Duration};
///
/// use loop_core::time_limit::limited;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// assert_eq!(limited(Duration::from_secs(5), future::ready(7)).await, Some(7));
/// assert_eq!(limited(Duration::from_millis(5), future::pending::<()>()).await, None);
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn limited<F: Future>(limit: Duration, future: F) -> Limited<F> {
    Limited { future, limit, entry: None }
}

impl<F: Future> Future for Limited<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        match this.entry {
            Some(entry) if !entry.keep(cx.waker()) => return Poll::Ready(None),
            Some(_) => {}
            none => match Instant::now().checked_add(*this.limit).map(|end| Entry::take(end, cx.waker())).transpose() {
                Ok(entry) => *none = entry,
                Err(error) => {
                    tracing::error!(%error, "there is no thread to watch limits of time, so they end at once");
                    return Poll::Ready(None);
                }
            },
        }
        Poll::Pending
    }
}

/// An entry among those that the thread watches, until this is dropped.
#[derive(Debug)]
struct Entry(usize);

/// Starts the thread, unless it is there: to learn early that it cannot be had.
pub(crate) fn start() -> io::Result<()> {
    LIMITS.lock().start()
}

impl Entry {
    /// Fails without a thread to watch it.
    fn take(end: Instant, waker: &Waker) -> io::Result<Self> {
        let waker = Some(waker.clone());
        let mut limits = LIMITS.lock();
        limits.start()?;
        let entry = Self(limits.entries.insert(Limit { end, wakes: waker }));
        if limits.looks_again.is_none_or(|moment| end < moment) {
            limits.looks_again = Some(end);
            LIMITS.earlier.notify_one();
        }
        Ok(entry)
    }

    /// Whether the limit is not reached yet. Then this is whom to wake when it is.
    fn keep(&self, waker: &Waker) -> bool {
        // What is dropped of a waker may be a whole task with entries of its own, so never under the lock.
        let kept = Some(waker.clone());
        let mut limits = LIMITS.lock();
        let limit = &mut limits.entries[self.0];
        if limit.wakes.is_none() {
            return false;
        }
        let replaced = mem::replace(&mut limit.wakes, kept);
        drop(limits);
        drop(replaced);
        true
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let limit = LIMITS.lock().entries.remove(self.0);
        drop(limit);
    }
}

/// How long the thread sleeps at least between two looks, unless a limit ends earlier that it did not know of: it looks at all of them, and there may
/// be one for each of very many connections.
const PAUSE: Duration = Duration::from_millis(4);

static LIMITS: Watch =
    Watch { limits: Mutex::new(Limits { entries: Slab::new(), looks_again: None, is_watched: false }), earlier: Condvar::new() };

struct Watch {
    limits: Mutex<Limits>,
    /// Told when the thread has to look earlier than it would.
    earlier: Condvar,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Limits {
    entries: Slab<Limit>,
    /// Until when the thread sleeps; nothing, until it is told.
    looks_again: Option<Instant>,
    is_watched: bool,
}

impl Limits {
    fn start(&mut self) -> io::Result<()> {
        if !self.is_watched {
            thread::Builder::new().name("loop-limits".to_owned()).spawn(watch)?;
            self.is_watched = true;
        }
        Ok(())
    }

    /// Whom to wake, whose limits are reached; and when to look again.
    fn look(&mut self, now: Instant) -> Vec<Waker> {
        let mut reached = Vec::new();
        let mut next: Option<Instant> = None;
        for (_, limit) in &mut self.entries {
            if limit.end <= now {
                reached.extend(limit.wakes.take());
            } else {
                next = Some(next.map_or(limit.end, |next| next.min(limit.end)));
            }
        }
        self.looks_again = next.map(|end| end.max(now + PAUSE));
        reached
    }
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
        limits = match limits.looks_again {
            None => LIMITS.earlier.wait(limits).unwrap_or_else(PoisonError::into_inner),
            // Told of an earlier moment, it goes to sleep until then, without another look.
            Some(moment) if now < moment => LIMITS.earlier.wait_timeout(limits, moment - now).unwrap_or_else(PoisonError::into_inner).0,
            Some(_) => {
                let reached = limits.look(now);
                // Not under the lock: it may run what it wakes.
                drop(limits);
                for waker in reached {
                    // A caller's own waker that panics is no reason to forget the limits of all others, nor is what it panics with.
                    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                        mem::forget(panic);
                    }
                }
                LIMITS.lock()
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Pending, pending, poll_fn, ready},
        pin::pin,
        sync::Arc,
        task::Wake,
    };

    use futures_util::future::{Either, join_all, select};

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        // Without timers: nothing but the thread wakes it.
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn after(limit: Duration) -> Limited<Pending<()>> {
        limited(limit, pending())
    }

    /// Waits until there are so many of it: whoever has woken a thread lets go of the waker a moment later.
    fn assert_count<T>(of: &Arc<T>, count: usize) {
        let begun = Instant::now();
        while Arc::strong_count(of) != count {
            assert!(begun.elapsed() < Duration::from_secs(10), "{} in place of {count}", Arc::strong_count(of));
            thread::yield_now();
        }
    }

    #[test]
    fn each_ends_at_its_own_limit() {
        let begun = Instant::now();
        // What ends late is there first, and is no reason to look late for the others.
        let late = after(Duration::from_secs(20));
        let others = join_all([50, 200, 50, 1].map(Duration::from_millis).map(async |limit| (after(limit).await, limit, begun.elapsed())));
        let Either::Right((ended, _)) = block_on(select(late, pin!(others))) else { panic!("the last was first") };
        assert_eq!(ended.len(), 4);
        for (answer, limit, elapsed) in ended {
            assert!(answer.is_none() && elapsed >= limit, "{limit:?}: {elapsed:?}");
        }
    }

    #[test]
    fn what_is_there_in_time_is_answered() {
        assert_eq!(block_on(limited(Duration::ZERO, ready(7))), Some(7));
        let mut polls = 0;
        let third = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(polls) } else { Poll::Pending }
        });
        assert_eq!(block_on(limited(Duration::MAX, third)), Some(3));
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
        let poll = |limited: Pin<&mut Limited<Pending<()>>>, waker| limited.poll(&mut Context::from_waker(waker));
        {
            let mut limited = pin!(after(Duration::from_hours(1)));
            assert!(wakers.iter().all(|waker| poll(limited.as_mut(), waker).is_pending()));
            assert_eq!((Arc::strong_count(&first), Arc::strong_count(&last)), (2, 3));
        }
        assert_eq!(Arc::strong_count(&last), 2);
        let mut limited = pin!(after(Duration::from_millis(50)));
        while poll(limited.as_mut(), &wakers[1]).is_pending() {
            thread::park();
        }
        assert_count(&last, 2);
    }

    #[test]
    fn a_waker_that_panics_is_no_harm_to_others() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("woken");
            }
        }
        let panics = Arc::new(Panics);
        let mut limited = pin!(after(Duration::from_millis(1)));
        assert!(limited.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&panics)))).is_pending());
        assert_count(&panics, 1);
        assert_eq!(block_on(after(Duration::from_millis(1))), None);
    }
}
