//! Transactions: all or nothing, however they end.

use std::time::Duration;

use loop_core::{Entity, Error, Issue, IssueFilter, IssueId, IssuePatch, LoopStore, test_util::TestDb};

use crate::support::{Problem, comment, everything, issue, label, new_comment, new_issue, not_found, problem, valid};

/// A store with a single connection, so that whatever is left on it is seen.
async fn single(db: &TestDb) -> LoopStore {
    db.store().close();
    LoopStore::builder(db.url()).pool_size(1).wait_timeout(Duration::from_millis(300)).connect().await.unwrap()
}

async fn count(store: &LoopStore) -> i64 {
    store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total.unwrap()
}

#[tokio::test]
async fn what_ends_well_is_kept() {
    let db = TestDb::new().await;
    let store = single(&db).await;
    let answer: Result<_, Error> = store
        .transaction(async |tx| {
            let issue = tx.issues().create(new_issue("Inside")).await?;
            let label = tx.labels().create(crate::support::new_label("inside")).await?;
            tx.labels().attach(&issue.id, &label.id).await?;
            tx.comments().create(&issue.id, new_comment("Said")).await?;
            // It sees what it wrote, also in reads that travel together.
            let detail = tx.issues().detail(&issue.id).await?;
            assert_eq!((detail.labels.len(), tx.issues().list(&IssueFilter::default(), &everything()).await?.total), (1, Some(1)));
            Ok(issue)
        })
        .await;
    let created = answer.unwrap();
    let issue = store.issues().get(&created.id).await.unwrap();
    // The label that was attached made it another revision.
    assert_eq!(issue, Issue { revision: 2, ..created });
    assert_eq!(store.comments().list(&issue.id, &everything()).await.unwrap().total, Some(1));
}

/// An error of a caller's own.
#[derive(Debug)]
enum Mine {
    Changed,
    Store { _error: Error },
}
impl From<Error> for Mine {
    fn from(error: Error) -> Self {
        Self::Store { _error: error }
    }
}

#[tokio::test]
async fn what_fails_leaves_nothing() {
    let db = TestDb::new().await;
    let store = single(&db).await;
    let missing = IssueId::new();
    let failed = store.transaction(async |tx| {
        tx.issues().create(new_issue("Inside")).await?;
        tx.issues().update(&missing, IssuePatch::default()).await
    });
    assert_eq!(problem(failed.await), not_found(Entity::Issue, &missing));
    assert_eq!(count(&store).await, 0);

    // An error of the caller's own rolls back too, and is what comes out.
    let failed = store.transaction(async |tx| {
        tx.issues().create(new_issue("Inside")).await?;
        Err::<(), _>(Mine::Changed)
    });
    assert!(matches!(failed.await, Err(Mine::Changed)));
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn a_refusal_that_is_passed_over_does_not_end_well_by_itself() {
    let db = TestDb::new().await;
    let store = single(&db).await;
    label(&store, "taken").await;
    // What the store itself refuses leaves the transaction usable.
    let missing = IssueId::new();
    let kept: Result<_, Error> = store
        .transaction(async |tx| {
            assert_eq!(problem(tx.issues().get(&missing).await), not_found(Entity::Issue, &missing));
            tx.issues().create(new_issue("Kept")).await
        })
        .await;
    assert_eq!(store.issues().get(&kept.unwrap().id).await.unwrap().title.as_str(), "Kept");
    // What the database refuses ends it: nothing after it works, and no commit is reported.
    let failed: Result<(), Error> = store
        .transaction(async |tx| {
            tx.issues().create(new_issue("Lost")).await?;
            let taken = problem(tx.labels().create(crate::support::new_label("taken")).await);
            assert_eq!(taken, Problem::Conflict(Entity::Label, "labels_name_key"));
            Ok(())
        })
        .await;
    assert!(failed.is_err(), "a commit that the server turned into a rollback is reported as done");
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn what_is_dropped_half_way_leaves_nothing() {
    let db = TestDb::new().await;
    let store = single(&db).await;
    let dropped = store.transaction(async |tx| {
        tx.issues().create(new_issue("Inside")).await?;
        std::future::pending::<Result<(), Error>>().await
    });
    assert!(tokio::time::timeout(Duration::from_millis(300), dropped).await.is_err());
    assert_eq!(count(&store).await, 0);
    issue(&store, "After").await;
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn a_panic_leaves_nothing() {
    let db = TestDb::new().await;
    let store = single(&db).await;
    let inside = store.clone();
    let task = tokio::spawn(async move {
        let work = async |tx: &loop_core::Tx<'_>| -> Result<(), Error> {
            tx.issues().create(new_issue("Inside")).await?;
            panic!("on purpose");
        };
        inside.transaction(work).await
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn the_store_itself_has_no_connection_within() {
    let db = TestDb::new().await;
    let store = single(&db).await;
    let inner = store.clone();
    let nested: Result<Problem, Error> = store
        .transaction(async |tx| {
            tx.issues().create(new_issue("Inside")).await?;
            Ok(problem(inner.issues().list(&IssueFilter::default(), &everything()).await))
        })
        .await;
    assert_eq!(nested.unwrap(), Problem::Unavailable);
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn statements_of_one_transaction_travel_together() {
    let db = TestDb::new().await;
    let store = single(&db).await;
    let id = issue(&store, "Issue").await.id;
    let done: Result<_, Error> = store
        .transaction(async |tx| {
            let (issues, comments) = (tx.issues(), tx.comments());
            let patch = IssuePatch { title: Some(valid("Changed")), ..IssuePatch::default() };
            futures_util::try_join!(issues.update(&id, patch), comments.create(&id, new_comment("Said")), issues.create(new_issue("New")))
        })
        .await;
    assert_eq!(done.unwrap().0.title.as_str(), "Changed");
    assert_eq!(count(&store).await, 2);
    comment(&store, &id, "Again").await;
    assert_eq!(store.comments().list(&id, &everything()).await.unwrap().total, Some(2));
}
