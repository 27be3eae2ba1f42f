//! How often the store waits for the database, counted on the line between them.

use std::time::Duration;

use loop_core::{
    DeliveryKey, IssueFilter, LoopStore, NewApiKey, NewSignal, Role, StatementMode,
    test_util::{Line, TestDb},
};

use crate::support::{everything, issue, new_signal, valid};

/// What startup takes: the server lets everybody in, and asks for nothing more.
const CONNECT: usize = 1;

/// A line on which nothing that is sent is answered before all that was sent has left.
async fn line(db: &TestDb) -> Line {
    let line = Line::to(db.direct_url()).await;
    line.delay(Duration::from_millis(5));
    line
}

fn delivery(id: &str) -> NewSignal {
    NewSignal { delivery: Some(DeliveryKey::named(id)), ..new_signal("github") }
}

#[tokio::test]
async fn the_first_statement_of_a_connection_takes_as_many_as_the_hundredth() {
    let db = TestDb::new().await;
    let key = NewApiKey { name: valid("Key"), role: Role::Read, project_id: None, expires_at: None };
    let key = db.store().api_keys().create(key).await.unwrap().plaintext;
    // The first use of a key within a minute is marked, which is another one.
    db.store().api_keys().authenticate(&key).await.unwrap().unwrap();
    let shown = issue(db.store(), "Shown").await.id;
    db.store().close();
    let line = line(&db).await;
    for mode in [StatementMode::Prepared, StatementMode::Unnamed] {
        let store = LoopStore::builder(line.url()).pool_size(1).statement_mode(mode).build().unwrap();
        line.round_trips();
        let name = format!("{mode:?}");
        store.signals().ingest(delivery(&name)).await.unwrap();
        assert_eq!(line.round_trips(), CONNECT + 1, "{mode:?}, the first");
        for number in 0..3 {
            store.signals().ingest(delivery(&format!("{name}{number}"))).await.unwrap();
            assert_eq!(line.round_trips(), 1, "{mode:?}, number {number}");
        }
        for _ in 0..3 {
            store.issues().detail(&shown).await.unwrap();
            assert_eq!(line.round_trips(), 1, "{mode:?}, the parts of an issue");
            store.issues().list(&IssueFilter::default(), &everything()).await.unwrap();
            assert_eq!(line.round_trips(), 1, "{mode:?}, a page and its total");
            store.api_keys().authenticate(&key).await.unwrap().unwrap();
            assert_eq!(line.round_trips(), 1, "{mode:?}, a key");
            // The first arrival is read by a statement that sees it.
            store.signals().ingest(delivery(&name)).await.unwrap();
            assert_eq!(line.round_trips(), 2, "{mode:?}, a redelivery");
        }
        store.close();
    }
    assert_eq!(line.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_was_idle_is_asked_first() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Shown").await.id;
    db.store().close();
    let line = line(&db).await;
    let idle = Duration::from_millis(200);
    let store = LoopStore::builder(line.url()).pool_size(1).verify_after(idle).connect().await.unwrap();
    line.round_trips();
    tokio::time::sleep(idle).await;
    store.issues().get(&id).await.unwrap();
    assert_eq!(line.round_trips(), 2);
    store.issues().get(&id).await.unwrap();
    assert_eq!((line.round_trips(), line.connections()), (1, 1));
}

/// What a network does that forgets a connection: nothing comes back, and nobody says why.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn connections_that_fell_silent_are_replaced_within_a_request() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Shown").await.id;
    let line = Line::to(db.direct_url()).await;
    let idle = Duration::from_millis(100);
    let store = LoopStore::builder(line.url()).pool_size(3).verify_after(idle).build().unwrap();
    // Not by the id: that would be one statement for several.
    let all = async || futures_util::future::join_all((0..3).map(async |_| store.issues().find_by_number(1).await)).await;
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(line.connections(), 3);
    line.silence(true);
    let lost = tokio::time::timeout(Duration::from_millis(300), all()).await;
    assert!(lost.is_err(), "they answered");
    line.silence(false);
    assert!(all().await.iter().all(Result::is_ok));

    // All three are idle and lost: the first is waited for, the others are not.
    tokio::time::sleep(idle).await;
    line.silence(true);
    let begin = std::time::Instant::now();
    let waiting = tokio::spawn({
        let (store, id) = (store.clone(), id.clone());
        async move { store.issues().get(&id).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    line.silence(false);
    waiting.await.unwrap().unwrap();
    assert!(begin.elapsed() < Duration::from_millis(1900), "{:?}", begin.elapsed());
    assert!(all().await.iter().all(Result::is_ok));
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
