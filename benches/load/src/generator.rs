//! The generator of load: requests over connections that are kept, from one thread, since it shares the machine with what it measures.
//!
//! In a closed loop each connection asks again as soon as it was answered: that shows how much the server can do. In an open loop requests are due
//! at a constant rate, whatever became of those before, and each is timed from the moment it was due: a server that stalls is not asked less
//! for it, and what waited meanwhile counts as what waited.

use std::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime::Runtime, sync::Semaphore};

use crate::route::{Route, Target};

/// How hard, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Requests a second in an open loop; absent: a closed one.
    pub(crate) rate: Option<f64>,
    /// What is not counted, before what is.
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) seconds: f64,
    /// In nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Answers other than 2xx, and the first of them.
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// Of the bodies of answers.
    pub(crate) bytes: u64,
}

impl Outcome {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { seconds: 0.0, latencies: Histogram::new_with_bounds(1, 120_000_000_000, 3)?, errors: 0, first_error: None, bytes: 0 })
    }

    #[expect(clippy::cast_precision_loss, reason = "there are not that many")]
    pub(crate) fn throughput(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    /// That every answer was a 2xx.
    pub(crate) fn checked(self) -> Result<Self> {
        match self.first_error {
            None => Ok(self),
            Some(error) => bail!("{} of {} answers were errors, the first {error}", self.errors, self.latencies.len()),
        }
    }

    /// Counts another one to this one.
    pub(crate) fn add(&mut self, other: Self) -> Result<()> {
        self.seconds += other.seconds;
        self.latencies.add(other.latencies)?;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        Ok(())
    }

    fn record(&mut self, took: Duration, answer: &Answer) -> Result<()> {
        self.latencies.record(u64::try_from(took.as_nanos())?)?;
        self.bytes += answer.bytes;
        if let Some(error) = &answer.error {
            self.errors += 1;
            self.first_error.get_or_insert_with(|| error.clone());
        }
        Ok(())
    }
}

/// Asks the target for these routes in turn.
pub(crate) fn drive(target: &Target, routes: &[&Route], load: Load) -> Result<Outcome> {
    let runtime = runtime()?;
    let mut senders = runtime.block_on(try_join_all((0..load.connections).map(|_| connect(target))))?;
    let clock = Clock { start: Instant::now(), rate: load.rate, due: Semaphore::new(0), taken: Cell::new(0) };
    let (from, until) = (clock.start + load.warm_up, clock.start + load.warm_up + load.duration);
    let outcome = RefCell::new(Outcome::new()?);
    let asking = senders.iter_mut().enumerate().map(|(first, sender)| {
        let (clock, outcome) = (&clock, &outcome);
        async move {
            for route in routes.iter().cycle().skip(first % routes.len()) {
                let due = clock.next().await?;
                if due >= until {
                    break;
                }
                let answer = ask(sender, route).await?;
                let done = Instant::now();
                // What a closed loop began before its end and finished after it would count for more time than there was.
                if due >= from && (load.rate.is_some() || done <= until) {
                    outcome.borrow_mut().record(done - due, &answer)?;
                }
            }
            anyhow::Ok(())
        }
    });
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        if let Some(rate) = load.rate {
            let (start, due, ended) = (clock.start, &clock.due, &ended);
            scope.spawn(move || pace(start, rate, due, ended));
        }
        let _ending = Ending(&ended);
        runtime.block_on(try_join_all(asking))
    })?;
    let mut outcome = outcome.into_inner();
    outcome.seconds = load.duration.as_secs_f64();
    Ok(outcome)
}

/// Says that something has ended when it is dropped, as it is by a panic, too: a scope waits for its threads even then.
pub(crate) struct Ending<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// When requests are due.
struct Clock {
    start: Instant,
    rate: Option<f64>,
    /// As many as are due and were not taken.
    due: Semaphore,
    taken: Cell<u32>,
}

impl Clock {
    /// Waits for the next request to be due, and says when it was.
    async fn next(&self) -> Result<Instant> {
        let Some(rate) = self.rate else { return Ok(Instant::now()) };
        self.due.acquire().await?.forget();
        let number = self.taken.replace(self.taken.get() + 1);
        Ok(self.start + Duration::from_secs_f64(f64::from(number) / rate))
    }
}

/// Hands out what is due, on a thread of its own: the timers of an asynchronous runtime know no less than a millisecond.
fn pace(start: Instant, rate: f64, due: &Semaphore, ended: &AtomicBool) {
    let mut handed = 0_u32;
    while !ended.load(Ordering::Relaxed) {
        let next = start + Duration::from_secs_f64(f64::from(handed) / rate);
        let wait = next.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            due.add_permits(1);
            handed += 1;
        } else {
            thread::sleep(wait.min(Duration::from_millis(50)));
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(target: &Target) -> Result<Sender> {
    let stream = TcpStream::connect(target.address).await.with_context(|| format!("connecting to {}", target.address))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

struct Answer {
    bytes: u64,
    error: Option<String>,
}

async fn ask(sender: &mut Sender, route: &Route) -> Result<Answer> {
    sender.ready().await?;
    let (head, mut body) = sender.send_request(route.request()?).await?.into_parts();
    if !head.status.is_success() {
        let text = body.collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&text);
        return Ok(Answer { bytes: text.len() as u64, error: Some(format!("{} {text}", head.status)) });
    }
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(Answer { bytes, error: None })
}

/// Asks once.
pub(crate) fn ask_once(target: &Target, route: &Route) -> Result<()> {
    hold(target, route, 1).map(drop)
}

/// Connections that have each asked once, and stay open until this is dropped.
pub(crate) struct Held {
    _senders: Vec<Sender>,
    _runtime: Runtime,
}

pub(crate) fn hold(target: &Target, route: &Route, connections: usize) -> Result<Held> {
    let runtime = runtime()?;
    let senders = runtime.block_on(try_join_all((0..connections).map(async |_| {
        let mut sender = connect(target).await?;
        match ask(&mut sender, route).await?.error {
            None => Ok(sender),
            Some(error) => bail!(error),
        }
    })))?;
    Ok(Held { _senders: senders, _runtime: runtime })
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
