//! More requests than connections to the database, and all of those stuck.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::{
    account::Told,
    load::{Write, Writer},
    postgres::{Postgres, until},
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn requests_beyond_the_pool_are_refused_soon() {
    const POOL: usize = 3;
    let postgres = Postgres::start();
    let server = postgres.serve(&[("LOOP_POOL_SIZE", &POOL.to_string())]);
    let writer = Writer::new(&server.address, &postgres.key);
    let write = async |number| {
        let sent = Instant::now();
        (writer.write(Write::Issue(number)).await, sent.elapsed())
    };
    let locked = postgres.lock().await;
    let stuck = tokio::spawn({
        let writer = writer.clone();
        async move { join_all((0..POOL).map(|number| writer.write(Write::Issue(number)))).await }
    });
    until("the pool is used up", Duration::from_secs(9), async || postgres.waiting().await == POOL).await;
    let beyond = join_all((POOL..POOL + 100).map(write));
    let health = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..40 {
            let asked = Instant::now();
            assert_eq!(writer.get("/health").await.0, 200);
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        slowest
    };
    let (beyond, slowest_health) = tokio::join!(beyond, health);
    let slowest = beyond.iter().map(|(_, took)| *took).max().unwrap();
    assert!(beyond.iter().all(|(told, _)| matches!(told, Told::Refused)));
    let stuck = stuck.await.unwrap();
    assert!(stuck.iter().all(|told| matches!(told, Told::Refused)));
    // They are cancelled beside the answers: one that the lock came free for before that would be done, unsaid.
    until("nobody waits any more", Duration::from_secs(10), async || postgres.waiting().await == 0).await;
    locked.free().await;
    let freed = Instant::now();
    let after = join_all((200..300).map(write)).await;
    assert!(after.iter().all(|(told, _)| matches!(told, Told::Done(_))));
    println!(
        "fault: a pool of {POOL} that is stuck: 100 beyond it refused within {slowest:.1?}, /health within {slowest_health:.2?}; \
         100 written within {:.2?} after",
        freed.elapsed()
    );
    // What waits for a connection waits for 5 seconds.
    assert!(slowest < Duration::from_secs(9) && slowest_health < Duration::from_secs(2));
    // None of those that were refused came true afterwards.
    assert_eq!(postgres.query("SELECT count(*) FROM issues").await, ["100"]);
}
