//! The server, killed and told to stop in the middle of writes.

use std::time::{Duration, Instant};

use crate::{
    load::{Load, Write, Writer},
    postgres::{Postgres, until},
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    const ROUNDS: u32 = 10;
    let postgres = Postgres::start();
    let mut server = postgres.serve(&[]);
    let mut load = Load::start("kill -9 of the server", 24, Writer::new(&server.address, &postgres.key));
    let mut away = Duration::ZERO;
    for _ in 0..ROUNDS {
        load.acknowledges(200).await;
        let killed = Instant::now();
        assert_eq!(server.kill().status.code(), None);
        server = postgres.serve(&[]);
        load.writer.turn_to(&server.address);
        load.acknowledges(1).await;
        away += killed.elapsed();
    }
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    account.add_note(format!("{ROUNDS} kills, {:.2?} from a kill to the next write", away / ROUNDS));
    assert!(!account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
}

/// Every request that was sent is answered, also those on connections that are used over and over.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_stop_drops_no_request_that_it_began() {
    const ROUNDS: u32 = 8;
    let postgres = Postgres::start();
    let mut server = postgres.serve(&[]);
    let mut load = Load::start("SIGTERM of the server", 24, Writer::new(&server.address, &postgres.key));
    let mut stopping = Duration::ZERO;
    for _ in 0..ROUNDS {
        load.acknowledges(200).await;
        let told = Instant::now();
        let ended = server.stop();
        stopping += told.elapsed();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert!(ended.stderr.trim_end().ends_with("stopped"), "{}", ended.stderr);
        server = postgres.serve(&[]);
        load.writer.turn_to(&server.address);
    }
    load.acknowledges(1).await;
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    account.add_note(format!("{ROUNDS} stops of {:.2?} each", stopping / ROUNDS));
    assert!(account.refused.is_empty() && account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_stop_waits_for_what_is_under_way_and_a_second_one_does_not() {
    let postgres = Postgres::start();
    for again in [false, true] {
        let server = postgres.serve(&[]);
        let writer = Writer::new(&server.address, &postgres.key);
        let locked = postgres.lock().await;
        let writing = tokio::spawn({
            let writer = writer.clone();
            async move { writer.write(Write::Issue(usize::from(again))).await }
        });
        until("the write waits", Duration::from_secs(20), async || postgres.waiting().await > 0).await;
        server.terminate();
        until("no more connections are accepted", Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect(&server.address).await.is_err()
        })
        .await;
        assert!(!writing.is_finished());
        let told = Instant::now();
        if again {
            server.terminate();
            assert_eq!(server.end().status.code(), Some(1));
            println!("fault: second SIGTERM: the process ended within {:.2?}", told.elapsed());
            assert!(matches!(writing.await.unwrap(), crate::account::Told::Nothing));
            locked.free().await;
        } else {
            locked.free().await;
            assert!(matches!(writing.await.unwrap(), crate::account::Told::Done(_)));
            assert_eq!(server.end().status.code(), Some(0));
        }
        assert!(told.elapsed() < Duration::from_secs(8));
    }
}
