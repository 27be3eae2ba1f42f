//! What an observer of a store is told.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use loop_core::{
    Arrival, DeliveryKey, Error, IssueFilter, IssuePatch, LoopStore, NewLabel, NewSignal, Observer, PageRequest, ProjectId, StatementEnd,
    test_util::TestDb,
};

use crate::support::{everything, issue, new_signal, valid};

/// Writes down what it is told.
#[derive(Default)]
struct Witness(Mutex<Vec<String>>);

impl Witness {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// What was told since the last call, without what is told of connections.
    fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap()).into_iter().filter(|line| !line.starts_with("connection")).collect()
    }
}

impl Observer for Witness {
    fn statement(&self, name: &'static str, took: Duration, end: StatementEnd<'_>) {
        assert!(took < Duration::from_mins(1));
        self.note(match end {
            StatementEnd::Rows(rows) => format!("{name}: {rows}"),
            StatementEnd::Failed(error) => format!("{name}: {error}"),
            StatementEnd::Abandoned => format!("{name}: abandoned"),
        });
    }

    fn connection(&self, waited: Duration, got: Result<(), &Error>) {
        assert!(waited < Duration::from_mins(1));
        self.note(format!("connection: {}", got.map_or_else(ToString::to_string, |()| "got".to_owned())));
    }

    fn signals(&self, arrival: Arrival, count: usize) {
        self.note(format!("{arrival:?}: {count}"));
    }
}

fn observed(store: &LoopStore) -> (LoopStore, Arc<Witness>) {
    let witness = Arc::new(Witness::default());
    (store.observed_by(Arc::clone(&witness) as _), witness)
}

#[tokio::test]
async fn every_statement_is_told_by_its_name() {
    let db = TestDb::new().await;
    let (store, witness) = observed(db.store());
    let made = issue(&store, "Observed").await;
    assert_eq!(*witness.0.lock().unwrap(), ["connection: got", "issues.create: 1"]);
    witness.said();
    store.issues().list(&IssueFilter::default(), &everything()).await.unwrap();
    let mut page = witness.said();
    page.sort_unstable();
    assert_eq!(page, ["issues.count: 1", "issues.list: 1"]);
    store.issues().update(&made.id, IssuePatch { title: Some(valid("Changed")), ..IssuePatch::default() }).await.unwrap();
    assert_eq!(witness.said(), ["issues.update: 1"]);
    // So are those of a transaction, of a store bound to a project, and of its clones.
    store
        .transaction(async |tx| {
            tx.issues().get(&made.id).await?;
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    assert_eq!(witness.said(), ["issues.get: 1"]);
    assert!(store.within(ProjectId::new()).clone().issues().get(&made.id).await.is_err());
    assert_eq!(witness.said(), ["issues.get: 0"]);
    // The store that it was made from is not observed.
    db.store().ping().await.unwrap();
    assert!(witness.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn failures_are_told_with_their_errors() {
    let db = TestDb::new().await;
    let (store, witness) = observed(db.store());
    let label = || NewLabel { name: valid("taken"), color: valid("red") };
    store.labels().create(label()).await.unwrap();
    assert!(store.labels().create(label()).await.is_err());
    assert_eq!(witness.said(), ["labels.create: 1", "labels.create: A label with this name already exists"]);
    store.close();
    assert!(store.labels().list(&PageRequest::first()).await.is_err());
    assert_eq!(*witness.0.lock().unwrap(), ["connection: the database is unavailable"]);
}

#[tokio::test]
async fn signals_are_told_by_what_they_were() {
    let db = TestDb::new().await;
    let (store, witness) = observed(db.store());
    let delivery = |id: &str| NewSignal { delivery: Some(DeliveryKey::named(id)), ..new_signal("github") };
    store.signals().ingest_batch(vec![delivery("1"), delivery("1"), new_signal("a"), new_signal("b")]).await.unwrap();
    store.signals().ingest(delivery("1")).await.unwrap();
    let arrivals: Vec<_> = witness.said().into_iter().filter(|line| !line.starts_with("signals.")).collect();
    assert_eq!(arrivals, ["New: 3", "Redelivered: 1", "Redelivered: 1"]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_statement_that_nobody_waits_for_any_more_is_told() {
    let db = TestDb::new().await;
    let (store, witness) = observed(db.store());
    let label = || NewLabel { name: valid("locked"), color: valid("red") };
    db.store()
        .transaction(async |tx| {
            tx.labels().create(label()).await?;
            let labels = store.labels();
            let waiting = labels.create(label());
            assert!(tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err());
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    assert_eq!(witness.said(), ["labels.create: abandoned"]);
}

/// The detail of the server's message may hold the whole row, and causes are logged.
#[tokio::test]
async fn the_cause_of_an_error_holds_no_row() {
    let db = TestDb::new().await;
    db.store().raw("ALTER TABLE issues ADD CONSTRAINT nothing_refused CHECK (title <> 'Refused')").await.unwrap();
    let error = db.store().issues().create(loop_core::NewIssue::titled(valid("Refused"))).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "ERROR: new row for relation \"issues\" violates check constraint \"nothing_refused\" (SQLSTATE 23514)");
    assert!(!format!("{error:?}").contains("Refused,") && !format!("{error:?}").contains("Failing row"), "{error:?}");
}
