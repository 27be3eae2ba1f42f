//! Readers of single rows, who share connections.
//!
//! With row-level security each read is a transaction of its own, and nobody shares: the tests that need that end at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use loop_core::{
    Entity, Error, Issue, IssueId, LoopStore, StatementMode, StoreBuilder,
    test_util::{Line, TestDb, row_security},
};
use tokio::task::JoinHandle;

use crate::failures::nobody_is_waiting;
use crate::support::{Locked, Problem, issue, new_issue, not_found, one, problem, project};

const SHORT: Duration = Duration::from_secs(1);
/// Well before the usual limits.
const SOON: Duration = Duration::from_secs(4);

#[tokio::test]
async fn each_of_those_who_share_a_connection_gets_its_own_row() {
    if row_security() {
        return;
    }
    let db = TestDb::new().await;
    let shop = project(db.store(), "Shop").await.id;
    let mut issues = Vec::new();
    for number in 0..10 {
        issues.push(issue(db.store(), &format!("Number {number}")).await);
    }
    db.store().close();
    let line = Line::to(db.direct_url()).await;
    line.delay(Duration::from_millis(20));
    let store = LoopStore::builder(line.url()).pool_size(1).connect().await.unwrap();
    let within = store.within(shop);
    store.issues().get(&issues[0].id).await.unwrap();
    for _ in 0..3 {
        line.round_trips();
        let (all, none) = tokio::join!(
            join_all(issues.iter().map(async |issue| store.issues().get(&issue.id).await)),
            join_all(issues.iter().map(async |issue| within.issues().get(&issue.id).await))
        );
        // It depends on the system whether what was sent at once also arrives at once.
        assert!(line.round_trips() <= 2 && line.connections() == 1);
        let read: Vec<Issue> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, issues);
        for (answer, issue) in none.into_iter().zip(&issues) {
            assert_eq!(problem(answer), not_found(Entity::Issue, &issue.id), "the scope is of who asks, not of the connection");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_do_not_keep_a_writer_from_the_only_connection() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    db.store().close();
    let line = Line::to(db.direct_url()).await;
    line.delay(Duration::from_millis(5));
    let store = LoopStore::builder(line.url()).pool_size(1).wait_timeout(SHORT).connect().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    // One is always there when the other has done.
    let readers: Vec<_> = (0..2)
        .map(|place| {
            let (store, id, over) = (store.clone(), id.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5 * place)).await;
                let mut read = 0;
                while !over.load(Ordering::Relaxed) {
                    store.issues().get(&id).await.unwrap();
                    read += 1;
                }
                read
            })
        })
        .collect();
    for number in 0..10 {
        store.issues().create(new_issue(&format!("Written {number}"))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0, "a reader was left out");
    }
    assert_eq!(one(&store, "SELECT count(*) FROM issues").await, "11");
    assert_eq!((store.pool_status().size, store.pool_status().idle), (1, 1), "it came back");
}

fn small(url: &str) -> StoreBuilder {
    LoopStore::builder(url).pool_size(2).statement_timeout(SOON)
}

/// Begins to read, so that it waits on the server.
async fn reader(store: &LoopStore, id: &IssueId) -> JoinHandle<Result<Issue, Error>> {
    let (store, id) = (store.clone(), id.clone());
    let reader = tokio::spawn(async move { store.issues().get(&id).await });
    // Where there was no answer for so long, nobody else is let on the connection if there is another.
    tokio::time::sleep(Duration::from_millis(30)).await;
    reader
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn nobody_is_let_on_a_connection_where_no_answer_comes_if_there_is_another() {
    if row_security() {
        return;
    }
    let db = TestDb::new().await;
    let (id, shop) = (issue(db.store(), "Read").await.id, project(db.store(), "Shop").await.id);
    let store = small(db.direct_url()).connect().await.unwrap();
    let locked = Locked::new(&db, "issues").await;
    let mut readers = vec![reader(&store, &id).await];
    for _ in 0..3 {
        store.projects().get(&shop).await.unwrap();
    }
    // More than usually share one: the other still has answers for all of them.
    for answer in join_all((0..50).map(async |_| store.projects().get(&shop).await)).await {
        assert_eq!(answer.unwrap().id, shop);
    }
    // There is no other one for all of these, and they wait for no connection either.
    for _ in 0..20 {
        readers.push(reader(&store, &id).await);
    }
    assert_eq!((store.pool_status().size, store.pool_status().waiting), (2, 0));
    locked.let_go().await;
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap().id, id);
    }
    assert_eq!((store.pool_status().size, store.pool_status().idle), (2, 2), "both came back");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn one_who_goes_away_takes_nothing_from_those_who_share() {
    if row_security() {
        return;
    }
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    let line = Line::to(db.direct_url()).await;
    let store = small(line.url()).pool_size(1).connect().await.unwrap();
    let locked = Locked::new(&db, "issues").await;
    let (gone, stays) = (reader(&store, &id).await, reader(&store, &id).await);
    assert_eq!(store.pool_status().waiting, 0);
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let other = reader(&store, &id).await;
    assert_eq!(store.pool_status().waiting, 1, "nobody else is let on it");
    locked.let_go().await;
    assert_eq!(stays.await.unwrap().unwrap().id, id);
    assert_eq!(other.await.unwrap().unwrap().id, id);
    // One more may be that of who asks the server to stop.
    assert!(line.connections() >= 2 && store.pool_status().size == 1, "the one that somebody left is closed");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn where_each_statement_is_a_transaction_of_its_own_nobody_shares() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    let store = small(db.direct_url()).statement_mode(StatementMode::Unnamed).connect().await.unwrap();
    let locked = Locked::new(&db, "issues").await;
    let readers = [reader(&store, &id).await, reader(&store, &id).await, reader(&store, &id).await];
    assert_eq!((store.pool_status().size, store.pool_status().waiting), (2, 1));
    locked.let_go().await;
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap().id, id);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn those_who_share_are_given_up_in_time_like_all_others() {
    if row_security() {
        return;
    }
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    let store = small(db.direct_url()).statement_timeout(SHORT).connect().await.unwrap();
    let locked = Locked::new(&db, "issues").await;
    let begin = std::time::Instant::now();
    for answer in join_all((0..40).map(async |_| store.issues().get(&id).await)).await {
        assert_eq!(problem(answer), Problem::Unavailable);
    }
    assert!((SHORT..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    nobody_is_waiting(&db, StatementMode::Prepared).await;
    locked.let_go().await;
    for answer in join_all((0..40).map(async |_| store.issues().get(&id).await)).await {
        assert_eq!(answer.unwrap().id, id);
    }
}

#[tokio::test]
async fn a_store_that_was_closed_lets_nobody_on_a_connection_that_is_shared() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    db.store().close();
    let line = Line::to(db.direct_url()).await;
    let store = LoopStore::builder(line.url()).pool_size(1).connect().await.unwrap();
    let delay = SHORT / 2;
    line.delay(delay);
    let begin = std::time::Instant::now();
    let before = tokio::spawn({
        let (store, id) = (store.clone(), id.clone());
        async move { store.issues().get(&id).await }
    });
    tokio::task::yield_now().await;
    store.close();
    assert_eq!(problem(store.issues().get(&id).await), Problem::Unavailable);
    assert!(begin.elapsed() < delay, "it was asked");
    assert_eq!(before.await.unwrap().unwrap().id, id, "who was on it comes to an end");
}
