//! A database that is slow, busy, gone or not migrated. What it is asked to do goes on elsewhere: the tests that need that need a server.

use std::time::{Duration, Instant};

use loop_core::{Error, IssueFilter, IssueId, IssuePatch, LoopStore, StatementMode, StoreBuilder, test_util::TestDb};

use crate::support::{Problem, everything, issue, new_issue, one, problem, valid};

const SHORT: Duration = Duration::from_secs(1);
/// Well before the usual limits, and long after those of these tests.
const SOON: Duration = Duration::from_secs(4);

fn single(db: &TestDb) -> StoreBuilder {
    LoopStore::builder(db.url()).pool_size(1)
}

/// The same with statements that travel in this way; those with names need a session of their own.
fn single_with(db: &TestDb, mode: StatementMode) -> StoreBuilder {
    let url = if mode == StatementMode::Prepared { db.direct_url() } else { db.url() };
    LoopStore::builder(url).pool_size(1).statement_mode(mode)
}

/// A transaction that holds an issue's row until it is let go, on a connection of its own.
struct Held {
    release: tokio::sync::oneshot::Sender<()>,
    done: tokio::task::JoinHandle<()>,
}

async fn hold(db: &TestDb, id: &IssueId) -> Held {
    let (store, id) = (db.store().clone(), id.clone());
    let (release, released) = tokio::sync::oneshot::channel();
    let (held, is_held) = tokio::sync::oneshot::channel();
    let done = tokio::spawn(async move {
        let work = async |tx: &loop_core::Tx<'_>| -> Result<(), Error> {
            tx.issues().update(&id, IssuePatch::default()).await?;
            held.send(()).unwrap();
            released.await.unwrap();
            Ok(())
        };
        store.transaction(work).await.unwrap();
    });
    is_held.await.unwrap();
    Held { release, done }
}

impl Held {
    async fn let_go(self) {
        self.release.send(()).unwrap();
        self.done.await.unwrap();
    }
}

async fn rename(store: &LoopStore, id: &IssueId) -> Result<(), Error> {
    store.issues().update(id, IssuePatch { title: Some(valid("Renamed")), ..IssuePatch::default() }).await.map(drop)
}

/// That nobody is at work for the store any more: within a moment where the server can be told, and else when its own limit has passed.
pub(crate) async fn nobody_is_waiting(db: &TestDb, mode: StatementMode) {
    let patience = if mode == StatementMode::Prepared { SOON / 2 } else { SOON + SHORT };
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let begin = Instant::now();
    while one(db.store(), waiting).await != "0" {
        assert!(begin.elapsed() < patience, "the server is still at work");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// That the next statement is not behind one that nobody waits for any more.
async fn works_at_once(store: &LoopStore) {
    let begin = Instant::now();
    store.labels().list(&everything()).await.unwrap();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_statement_that_takes_too_long_is_given_up() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Issue").await.id;
    for mode in [StatementMode::Prepared, StatementMode::Unnamed] {
        let store = single_with(&db, mode).statement_timeout(SHORT).connect().await.unwrap();
        let held = hold(&db, &id).await;
        let begin = Instant::now();
        let error = rename(&store, &id).await.unwrap_err();
        assert!(error.is_retryable() && (SHORT..SOON).contains(&begin.elapsed()), "{mode:?}: {error:?} after {:?}", begin.elapsed());
        works_at_once(&store).await;
        nobody_is_waiting(&db, mode).await;
        held.let_go().await;
        assert_eq!(store.issues().get(&id).await.unwrap().title.as_str(), "Issue", "what was given up was not done");
        rename(&store, &id).await.unwrap();
        store.raw("UPDATE issues SET title = 'Issue'").await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_call_that_is_dropped_takes_its_connection_with_it() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Issue").await.id;
    for mode in [StatementMode::Prepared, StatementMode::Unnamed] {
        let store = single_with(&db, mode).statement_timeout(SOON).connect().await.unwrap();
        let held = hold(&db, &id).await;
        assert!(tokio::time::timeout(SHORT, rename(&store, &id)).await.is_err());
        works_at_once(&store).await;
        nobody_is_waiting(&db, mode).await;
        held.let_go().await;
        assert_eq!(store.issues().get(&id).await.unwrap().title.as_str(), "Issue");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_transaction_that_is_dropped_takes_its_connection_with_it() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Issue").await.id;
    for mode in [StatementMode::Prepared, StatementMode::Unnamed] {
        drop_transactions(&db, &id, mode).await;
    }
}

async fn drop_transactions(db: &TestDb, id: &IssueId, mode: StatementMode) {
    let store = single_with(db, mode).statement_timeout(SOON).connect().await.unwrap();
    let held = hold(db, id).await;
    let work = store.transaction(async |tx| {
        tx.issues().create(new_issue("Lost")).await?;
        tx.issues().update(id, IssuePatch::default()).await
    });
    assert!(tokio::time::timeout(SHORT, work).await.is_err());
    works_at_once(&store).await;
    nobody_is_waiting(db, mode).await;
    // Also when only the statement is dropped, and the transaction goes on as if nothing were.
    let went_on: Result<(), Error> = store
        .transaction(async |tx| {
            tx.issues().create(new_issue("Lost too")).await?;
            assert!(tokio::time::timeout(SHORT, tx.issues().update(id, IssuePatch::default())).await.is_err());
            Ok(())
        })
        .await;
    assert_eq!(problem(went_on), Problem::Unavailable);
    works_at_once(&store).await;
    held.let_go().await;
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(1));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_transaction_with_a_slow_statement_is_given_up() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Issue").await.id;
    let store = single(&db).statement_timeout(SHORT).connect().await.unwrap();
    let held = hold(&db, &id).await;
    let slow = store.transaction(async |tx| {
        tx.issues().create(new_issue("Lost")).await?;
        tx.issues().update(&id, IssuePatch::default()).await
    });
    assert_eq!(problem(slow.await), Problem::Unavailable);
    works_at_once(&store).await;
    held.let_go().await;
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(1));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn connections_that_the_server_ends_are_replaced() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Issue").await.id;
    let store = LoopStore::builder(db.url()).pool_size(4).connect().await.unwrap();
    // Not by an id: that would be one statement for several.
    let read = async || store.issues().list(&IssueFilter::default(), &everything()).await;
    let all = || futures_util::future::join_all((0..4).map(|_| read()));
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(store.pool_status().size, 4);
    // Through a pooler, it might be the only one there is that asks for the end of the others.
    let pooled = db.url() != db.direct_url();
    let control = if pooled { LoopStore::connect(db.direct_url()).await.unwrap() } else { db.store().clone() };

    for idle in [true, false] {
        let under_way = if idle { None } else { Some(hold(&db, &id).await) };
        let blocked = tokio::spawn({
            let (store, id) = (store.clone(), id.clone());
            async move { if idle { Ok(()) } else { rename(&store, &id).await } }
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while !idle && one(db.store(), waiting).await == "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let which = if idle { "true" } else { "wait_event_type = 'Lock'" };
        let end = format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND {which}"
        );
        assert_ne!(one(&control, &end).await, "0");
        match (idle, blocked.await.unwrap()) {
            (true, outcome) => outcome.unwrap(),
            (false, outcome) => assert_eq!(problem(outcome), Problem::Unavailable, "what was under way may be tried again"),
        }
        if let Some(held) = under_way {
            held.let_go().await;
        }
        // Whatever was lost is noticed at the latest when it is used, once per connection.
        let mut lost = 0;
        while let Err(error) = read().await {
            assert!(error.is_retryable(), "{error:?}");
            lost += 1;
            assert!(lost <= 4, "the pool does not heal");
        }
        assert!(all().await.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_pool_without_a_free_connection_says_so_in_time() {
    let db = TestDb::new().await;
    db.store().close();
    let store = single(&db).wait_timeout(SHORT).connect().await.unwrap();
    let waited: Result<_, Error> = store
        .transaction(async |_| {
            let begin = Instant::now();
            let error = store.issues().get(&IssueId::new()).await.unwrap_err();
            Ok((error, begin.elapsed()))
        })
        .await;
    let (error, waited) = waited.unwrap();
    assert!(error.is_retryable() && (SHORT..SOON).contains(&waited), "{error:?} after {waited:?}");
    assert_eq!((store.pool_status().max_size, store.pool_status().size), (1, 1));
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable_at_once() {
    // A port that is taken, but on which nobody listens.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("postgres://nobody@{}/none?sslmode=disable", socket.local_addr().unwrap());
    let begin = Instant::now();
    assert_eq!(problem(LoopStore::connect(&url).await), Problem::Unavailable);
    let store = LoopStore::builder(&url).build().unwrap();
    assert_eq!(problem(store.migration_status().await), Problem::Unavailable);
    assert_eq!(problem(store.migrate().await), Problem::Unavailable);
    assert!(begin.elapsed() < SOON);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://nobody@{}/none?sslmode=disable", silent.local_addr().unwrap());
    let begin = Instant::now();
    assert_eq!(problem(LoopStore::builder(&url).connect_timeout(SHORT).connect().await), Problem::Unavailable);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_database_that_does_not_exist_is_no_passing_trouble() {
    let db = TestDb::new().await;
    let name = one(db.store(), "SELECT current_database()").await;
    let error = LoopStore::connect(&db.url().replace(&name, "no_such_database")).await.unwrap_err();
    assert!(matches!(error, Error::Configuration { setting: "connection string", .. }) && !error.is_retryable(), "{error:?}");
}

#[test]
fn a_statement_timeout_can_be_said_to_the_server() {
    for limit in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
        let error = LoopStore::builder("postgres://nobody@localhost/none").statement_timeout(limit).build().unwrap_err();
        assert!(matches!(error, Error::Configuration { setting: "statement timeout", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_database_without_tables_waits_for_its_migration() {
    let db = TestDb::unmigrated().await;
    db.store().ping().await.unwrap();
    let error = db.store().issues().get(&IssueId::new()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_retryable(), "{error:?}");
    assert!(format!("{:?}", std::error::Error::source(&error)).contains("issues"), "the cause names the table, for logs");
}

#[tokio::test]
async fn a_closed_store_answers_nothing() {
    let db = TestDb::new().await;
    let store = db.store().clone();
    store.ping().await.unwrap();
    db.store().close();
    assert_eq!(problem(store.ping().await), Problem::Unavailable);
}

#[tokio::test]
async fn stored_values_that_cannot_be_read_are_named() {
    let db = TestDb::new().await;
    let store = db.store();
    let id = issue(store, "Issue").await.id;
    store.raw(r#"UPDATE issues SET hypothesis = '{"statement": 1}'"#).await.unwrap();
    let Error::Corrupt { table: "issues", column, source: _ } = store.issues().get(&id).await.unwrap_err() else { panic!("not corrupt") };
    assert_eq!(column, "hypothesis");
    store.raw("UPDATE issues SET hypothesis = NULL").await.unwrap();
    store.issues().get(&id).await.unwrap();
}

#[tokio::test]
async fn what_the_server_cannot_do_at_the_moment_is_unavailable() {
    let db = TestDb::new().await;
    let raise = async |code: &str| db.store().raw(&format!("DO $$ BEGIN RAISE 'no' USING ERRCODE = '{code}'; END $$")).await.unwrap_err();
    for code in ["08006", "25006", "25P03", "53100", "53200", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "58030"] {
        let error = raise(code).await;
        assert!(matches!(error, Error::Unavailable { .. }) && error.is_retryable(), "{code}: {error:?}");
    }
    // A file of its own that is missing, or broken, does not come back by itself.
    for code in ["58P01", "XX000", "XX001", "XX002"] {
        let error = raise(code).await;
        assert!(matches!(error, Error::Database { .. }) && !error.is_retryable(), "{code}: {error:?}");
    }
}
