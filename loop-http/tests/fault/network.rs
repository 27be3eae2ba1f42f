//! A network between the server and its database that stalls, resets and delays.

use std::time::{Duration, Instant};

use loop_core::test_util::Line;

use crate::{
    load::{Load, Writer},
    postgres::Postgres,
};

/// The longest that a request may wait for anything: for its own limit of 30 seconds, and no longer.
const BOUND: Duration = Duration::from_secs(32);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn resets_in_the_middle_of_statements_lose_nothing_that_was_acknowledged() {
    let postgres = Postgres::start();
    let line = Line::to(&postgres.url()).await;
    let server = postgres.serve(&[("DATABASE_URL", line.url())]);
    let mut load = Load::start("resets between server and database", 24, Writer::new(&server.address, &postgres.key));
    // So that most statements are on their way when it is cut.
    line.delay(Duration::from_millis(2));
    let mut back = Vec::new();
    for _ in 0..15 {
        load.acknowledges(60).await;
        line.reset();
        back.push(Instant::now());
    }
    load.acknowledges(60).await;
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    let slowest = back.into_iter().map(|moment| account.first_after(moment)).max().unwrap();
    account.add_note(format!("15 resets; written to again at most {slowest:.2?} later"));
    assert!(!account.refused.is_empty() && account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_stall_ends_in_bounded_time_and_loses_nothing_that_was_acknowledged() {
    let postgres = Postgres::start();
    let line = Line::to(&postgres.url()).await;
    let server = postgres.serve(&[("DATABASE_URL", line.url())]);
    let mut load = Load::start("a stall between server and database", 24, Writer::new(&server.address, &postgres.key));
    load.acknowledges(200).await;
    line.silence(true);
    let stalled = Instant::now();
    let mut slowest_health = Duration::ZERO;
    while stalled.elapsed() < Duration::from_secs(12) {
        let asked = Instant::now();
        assert_eq!(load.writer.get("/health").await.0, 200);
        slowest_health = slowest_health.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    line.silence(false);
    let over = Instant::now();
    load.acknowledges(200).await;
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    let recovered = account.first_after(over);
    account.add_note(format!("12 s long; /health within {slowest_health:.2?}; written to again {recovered:.2?} later"));
    assert!(!account.refused.is_empty() && account.unanswered.is_empty());
    assert!(account.slowest < BOUND && slowest_health < Duration::from_secs(2) && recovered < BOUND);
    account.settle(&postgres.url(), &writer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn delays_only_delay() {
    let postgres = Postgres::start();
    let line = Line::to(&postgres.url()).await;
    let server = postgres.serve(&[("DATABASE_URL", line.url())]);
    let mut load = Load::start("delays between server and database", 24, Writer::new(&server.address, &postgres.key));
    for delay in [100, 0, 250, 10] {
        line.delay(Duration::from_millis(delay));
        load.acknowledges(100).await;
    }
    let writer = load.writer.clone();
    let account = load.stop().await;
    assert!(account.refused.is_empty() && account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
}
