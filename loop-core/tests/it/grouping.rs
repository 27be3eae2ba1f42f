//! Signals of one fingerprint: they gather in one issue until that is done with.

use std::time::Duration;

use futures_util::future::join_all;
use loop_core::{
    DeliveryKey, Ingested, Issue, IssueId, IssuePatch, IssuePriority, IssueStatus, LoopStore, NewSignal, Patch, ProjectId, RelationType,
    Severity, SignalFilter, test_util::TestDb,
};

use crate::support::{everything, new_signal, one, project, valid};

fn about(fingerprint: &str) -> NewSignal {
    NewSignal { fingerprint: Some(valid(fingerprint)), ..new_signal("sentry") }
}

fn severe(fingerprint: &str, severity: Severity) -> NewSignal {
    NewSignal { severity, ..about(fingerprint) }
}

async fn ingest(store: &LoopStore, new: NewSignal) -> Ingested {
    store.signals().ingest(new).await.unwrap()
}

async fn set_status(store: &LoopStore, issue: &IssueId, status: IssueStatus) -> Issue {
    store.issues().update(issue, IssuePatch { status: Some(status), ..IssuePatch::default() }).await.unwrap()
}

async fn related(store: &LoopStore, issue: &IssueId) -> Vec<(RelationType, IssueId)> {
    let page = store.relations().list(issue, &everything()).await.unwrap();
    page.data.into_iter().map(|view| (view.relation.kind, view.issue.id)).collect()
}

/// Whether every issue's counts are those of its signals.
pub(crate) async fn consistent(store: &LoopStore) {
    let wrong = "SELECT count(*) FROM issues AS i CROSS JOIN LATERAL
                 (SELECT count(*) AS signals, max(severity) AS severity, max(created_at) AS last FROM signals WHERE issue_id = i.id) AS s
                 WHERE (i.signal_count, i.signal_severity, i.last_signal_at) IS DISTINCT FROM (s.signals, s.severity, s.last)";
    assert_eq!(one(store, wrong).await, "0");
    let elsewhere =
        "SELECT count(*) FROM signals AS s JOIN issues AS i ON i.id = s.issue_id WHERE s.project_id IS DISTINCT FROM i.project_id";
    assert_eq!(one(store, elsewhere).await, "0");
}

#[tokio::test]
async fn signals_attach_while_their_issue_is_unresolved() {
    let db = TestDb::new().await;
    let store = db.store();
    let first = ingest(store, about("42")).await;
    assert!(!first.attached);
    assert_eq!((first.issue.signal_count, first.issue.signal_severity, first.issue.revision), (1, Some(Severity::High), 1));
    assert_eq!(first.issue.last_signal_at, Some(first.signal.created_at));
    assert_eq!(first.signal.fingerprint, Some(valid("42")));
    assert_eq!(store.issues().get(&first.issue.id).await.unwrap(), first.issue);
    assert_eq!(store.signals().get(&first.signal.id).await.unwrap(), first.signal);

    for status in [IssueStatus::Triage, IssueStatus::Backlog, IssueStatus::Open, IssueStatus::InProgress] {
        let before = set_status(store, &first.issue.id, status).await;
        let next = ingest(store, about("42")).await;
        assert!(next.attached && !next.redelivered, "{status}");
        let stored = store.issues().get(&first.issue.id).await.unwrap();
        // What the issue's own signal said is not answered again and again.
        assert_eq!(next.issue, Issue { signal_payload: None, ..stored.clone() }, "{status}");
        let expected = Issue { signal_count: before.signal_count + 1, last_signal_at: Some(next.signal.created_at), ..before };
        assert_eq!(stored, expected, "it is no other revision, and was not updated");
        assert_eq!(store.signals().get(&next.signal.id).await.unwrap(), next.signal);
    }
    let page = store.signals().list(&SignalFilter::default().with_issue(first.issue.id), &everything()).await.unwrap();
    assert_eq!(page.total, Some(5));
    consistent(store).await;
}

#[tokio::test]
async fn after_it_is_done_a_new_issue_is_opened_and_related() {
    let db = TestDb::new().await;
    let store = db.store();
    let mut before = ingest(store, about("42")).await.issue;
    for status in [IssueStatus::Resolved, IssueStatus::Closed] {
        set_status(store, &before.id, status).await;
        let next = ingest(store, about("42")).await;
        assert!(!next.attached && next.issue.id != before.id);
        assert!(related(store, &next.issue.id).await.contains(&(RelationType::Related, before.id.clone())));
        assert!(ingest(store, about("42")).await.issue.id == next.issue.id);
        before = next.issue;
    }
    // Opening the issue before again changes nothing: there is a newer one.
    let newest = ingest(store, about("42")).await.issue.id;
    let older = related(store, &newest).await[0].1.clone();
    set_status(store, &older, IssueStatus::Open).await;
    assert_eq!(ingest(store, about("42")).await.issue.id, newest);
    // One that is done with and opened again before anything arrived goes on.
    set_status(store, &newest, IssueStatus::Resolved).await;
    set_status(store, &newest, IssueStatus::Open).await;
    assert_eq!(ingest(store, about("42")).await.issue.id, newest);
    // A deleted one is not related to.
    store.issues().delete(&newest).await.unwrap();
    let last = ingest(store, about("42")).await;
    assert!(!last.attached && related(store, &last.issue.id).await.is_empty());
    consistent(store).await;
}

#[tokio::test]
async fn only_a_severity_that_is_new_raises_the_priority() {
    let db = TestDb::new().await;
    let store = db.store();
    let id = ingest(store, severe("42", Severity::Medium)).await.issue.id;
    let arrives = async |severity| {
        let issue = ingest(store, severe("42", severity)).await.issue;
        (issue.priority, issue.signal_severity.unwrap(), issue.revision)
    };
    assert_eq!(arrives(Severity::Low).await, (IssuePriority::Medium, Severity::Medium, 1));
    assert_eq!(arrives(Severity::High).await, (IssuePriority::High, Severity::High, 2));
    let lowered = IssuePatch { priority: Some(IssuePriority::Low), ..IssuePatch::default() };
    store.issues().update(&id, lowered).await.unwrap();
    assert_eq!(arrives(Severity::High).await, (IssuePriority::Low, Severity::High, 3), "who lowered it is not overruled");
    assert_eq!(arrives(Severity::Critical).await, (IssuePriority::Critical, Severity::Critical, 4));
    let raised = store.issues().get(&id).await.unwrap();
    assert!(raised.updated_at >= raised.created_at && raised.signal_count == 5);
    consistent(store).await;
}

#[tokio::test]
async fn other_sources_projects_and_fingerprints_do_not_meet() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, blog) = (project(store, "Shop").await.id, project(store, "Blog").await.id);
    let to = |project: &ProjectId| NewSignal { project_id: Some(project.clone()), ..about("42") };
    let others = [about("42"), about("43"), NewSignal { fingerprint: Some(valid("42")), ..new_signal("app") }, to(&shop), to(&blog)];
    for new in others.into_iter().chain([new_signal("sentry"), new_signal("sentry")]) {
        assert!(!ingest(store, new).await.attached);
    }
    let within = store.within(shop.clone());
    let inside = within.signals().ingest(about("42")).await.unwrap();
    assert!(inside.attached && inside.signal.project_id == Some(shop));
    consistent(store).await;
}

#[tokio::test]
async fn an_issue_that_was_moved_takes_what_may_see_it() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, blog) = (project(store, "Shop").await.id, project(store, "Blog").await.id);
    let move_to = async |issue: &IssueId, project: &ProjectId| {
        let patch = IssuePatch { project_id: Patch::Set(project.clone()), ..IssuePatch::default() };
        store.issues().update(issue, patch).await.unwrap();
    };
    // What is delivered to no project follows its issue into the project where somebody put it.
    let triaged = ingest(store, about("1")).await.issue.id;
    move_to(&triaged, &shop).await;
    let next = ingest(store, about("1")).await;
    assert_eq!((next.issue.id, next.signal.project_id), (triaged, Some(shop.clone())));
    // What is delivered to a project stays there, and nothing leads to the other.
    let to_shop = || NewSignal { project_id: Some(shop.clone()), ..about("2") };
    let moved = ingest(store, to_shop()).await.issue.id;
    move_to(&moved, &blog).await;
    let within = store.within(shop.clone());
    let next = within.signals().ingest(to_shop()).await.unwrap();
    assert!(!next.attached && next.signal.project_id == Some(shop));
    assert!(related(store, &next.issue.id).await.is_empty());
    consistent(store).await;
}

#[tokio::test]
async fn a_batch_is_gathered_as_single_signals_are() {
    let db = TestDb::new().await;
    let store = db.store();
    let old = ingest(store, severe("old", Severity::Low)).await.issue;
    let batch = vec![
        severe("new", Severity::Low),
        new_signal("sentry"),
        severe("old", Severity::Critical),
        severe("new", Severity::High),
        severe("old", Severity::Medium),
        about("alone"),
        severe("new", Severity::Medium),
    ];
    let done = store.signals().ingest_batch(batch).await.unwrap();
    let issue = |place: usize| &done[place].issue;
    assert_eq!(done.iter().map(|one| one.attached).collect::<Vec<_>>(), [false, false, true, true, true, false, true]);
    let without_payload = Issue { signal_payload: None, ..issue(0).clone() };
    assert_eq!((&without_payload, issue(2)), (issue(3), issue(4)));
    assert_eq!((&without_payload, &issue(2).id), (issue(6), &old.id));
    assert_eq!((issue(0).signal_count, issue(0).priority, issue(0).signal_severity), (3, IssuePriority::High, Some(Severity::High)));
    assert_eq!((issue(2).signal_count, issue(2).priority), (3, IssuePriority::Critical));
    assert_eq!(store.issues().get(&issue(0).id).await.unwrap(), *issue(0));
    for one in &done {
        assert_eq!(store.signals().get(&one.signal.id).await.unwrap(), one.signal);
    }
    assert_eq!(one(store, "SELECT count(*) FROM issues").await, "4");
    consistent(store).await;
}

#[tokio::test]
async fn a_redelivery_is_not_counted() {
    let db = TestDb::new().await;
    let store = db.store();
    let delivered = |name: &str| NewSignal { delivery: Some(DeliveryKey::named(name)), ..about("42") };
    let first = ingest(store, delivered("1")).await;
    let second = ingest(store, delivered("2")).await;
    let again = ingest(store, delivered("2")).await;
    assert!(again.redelivered && again.signal == second.signal);
    assert_eq!((again.issue.id, again.issue.signal_count), (first.issue.id, 2));
    consistent(store).await;
}

#[tokio::test]
async fn grouping_can_be_turned_off_for_a_source() {
    let db = TestDb::new().await;
    db.store().close();
    let store = LoopStore::builder(db.url()).pool_size(1).ungrouped_sources(["sentry"]).connect().await.unwrap();
    let done = store.signals().ingest_batch(vec![about("42"), about("42")]).await.unwrap();
    assert!(done.iter().all(|one| !one.attached && one.issue.signal_count == 1 && one.signal.fingerprint.is_some()));
    let other = || NewSignal { fingerprint: Some(valid("42")), ..new_signal("posthog") };
    let done = store.signals().ingest_batch(vec![other(), other()]).await.unwrap();
    assert_eq!((done[0].attached, done[1].attached), (false, true));
    consistent(&store).await;
}

async fn many(db: &TestDb) -> LoopStore {
    LoopStore::builder(db.url()).pool_size(16).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn two_hundred_at_once_are_one_issue() {
    let db = TestDb::new().await;
    let store = many(&db).await;
    for round in 0..5 {
        let tasks = (0..200).map(|place| {
            let store = store.clone();
            let new = NewSignal { delivery: Some(DeliveryKey::named(&format!("{round}/{place}"))), ..about(&format!("round {round}")) };
            tokio::spawn(async move { store.signals().ingest(new).await.unwrap() })
        });
        let done: Vec<Ingested> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(done.iter().filter(|one| !one.attached).count(), 1);
        let issue = store.issues().get(&done[0].issue.id).await.unwrap();
        assert!(done.iter().all(|one| one.issue.id == issue.id));
        assert_eq!(issue.signal_count, 200);
    }
    assert_eq!(one(&store, "SELECT count(*) || ' ' || (SELECT count(*) FROM signals) FROM issues").await, "5 1000");
    consistent(&store).await;
}

/// Batches that have fingerprints in common in all orders, while issues are resolved under them: no signal is lost, nobody waits in a circle,
/// and each signal that opened an issue says which one was before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn batches_and_those_who_resolve_do_not_wait_in_a_circle() {
    let db = TestDb::new().await;
    let store = many(&db).await;
    let tasks = (0..12).map(|task: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                let batch = (0..10).map(|place| about(&format!("{}", (place * (2 * task + 1) + round) % 10))).collect();
                for one in store.signals().ingest_batch(batch).await.unwrap() {
                    if one.signal.created_at.as_millis() % 3 == 0 {
                        set_status(&store, &one.issue.id, IssueStatus::Resolved).await;
                    }
                }
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
    assert_eq!(one(&store, "SELECT count(*) FROM signals").await, "1200");
    let unrelated = "SELECT (SELECT count(*) FROM issues) - 10 - (SELECT count(*) FROM issue_relations)";
    assert_eq!(one(&store, unrelated).await, "0", "each but the first of its fingerprint is related to the one before");
    consistent(&store).await;
}

#[tokio::test]
async fn what_an_issue_s_signal_said_is_answered_once() {
    let db = TestDb::new().await;
    let store = db.store();
    let delivered = |place: usize| NewSignal { delivery: Some(DeliveryKey::named(&place.to_string())), ..about("42") };
    let batch: Vec<_> = (0..5).map(delivered).collect();
    for redelivered in [false, true] {
        let ingested = store.signals().ingest_batch(batch.clone()).await.unwrap();
        let with_payload: Vec<_> = ingested.iter().filter(|one| one.issue.signal_payload.is_some()).collect();
        assert_eq!((ingested.len(), with_payload.len()), (5, 1), "{redelivered}");
        assert!(ingested[0].issue.signal_payload.is_some(), "{redelivered}");
        assert!(ingested.iter().all(|one| one.redelivered == redelivered && one.issue.id == with_payload[0].issue.id));
    }
    // Alone, a redelivery is answered whole.
    assert!(ingest(store, delivered(3)).await.issue.signal_payload.is_some());
}

#[tokio::test]
async fn a_delivery_that_stands_in_a_batch_twice_is_counted_once_in_its_group() {
    let db = TestDb::new().await;
    let store = db.store();
    let batch =
        |names: &[&str]| names.iter().map(|name| NewSignal { delivery: Some(DeliveryKey::named(name)), ..about("42") }).collect::<Vec<_>>();
    let flags = |ingested: &[Ingested]| ingested.iter().map(|one| (one.redelivered, one.attached)).collect::<Vec<_>>();
    let opened = store.signals().ingest_batch(batch(&["a", "b", "a", "c", "b"])).await.unwrap();
    assert_eq!(flags(&opened), [(false, false), (false, true), (true, false), (false, true), (true, true)]);
    assert_eq!((&opened[2].signal, &opened[4].signal), (&opened[0].signal, &opened[1].signal));
    let with_payload = opened.iter().map(|one| one.issue.signal_payload.is_some()).collect::<Vec<_>>();
    assert_eq!(with_payload, [true, false, true, false, false]);

    let grown = store.signals().ingest_batch(batch(&["d", "a", "e", "d"])).await.unwrap();
    assert_eq!(flags(&grown), [(false, true), (true, false), (false, true), (true, true)]);
    assert_eq!((&grown[1].signal, &grown[3].signal), (&opened[0].signal, &grown[0].signal));
    assert!(opened.iter().all(|one| one.issue.signal_count == 3 && one.issue.id == opened[0].issue.id));
    assert!(grown.iter().all(|one| one.issue.signal_count == 5 && one.issue.id == opened[0].issue.id));
    consistent(store).await;
}

/// Nothing is known of tables that were empty a moment ago, and the plans that are made then are kept.
#[tokio::test]
async fn no_table_that_grows_with_signals_is_read_whole_for_one() {
    let db = TestDb::new().await;
    db.store().close();
    let store = LoopStore::builder(db.url()).pool_size(1).connect().await.unwrap();
    let shop = project(&store, "Shop").await.id;
    // What whoever made the tables did is counted when he has left.
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while one(&store, others).await != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let read = async || {
        store.raw("SELECT pg_stat_force_next_flush()").await.unwrap();
        let scans = "SELECT sum(seq_scan), sum(idx_scan) > 0 FROM pg_stat_user_tables
                     WHERE relname IN ('issues', 'signals', 'fingerprints', 'deliveries', 'issue_relations', 'issue_events')";
        store.raw(scans).await.unwrap()
    };
    let before = read().await;
    for number in 0..60 {
        let delivery = Some(DeliveryKey::named(&format!("{number}")));
        // New ones, those that are attached, and those after an issue that is done with.
        let new = NewSignal { delivery, project_id: Some(shop.clone()), ..about(&format!("{}", number % 20)) };
        let done = ingest(&store, new).await;
        assert_eq!(done.attached, number >= 40);
        if number < 20 {
            set_status(&store, &done.issue.id, IssueStatus::Resolved).await;
        }
    }
    let after = read().await;
    assert_eq!(after[0][1].as_deref(), Some("t"), "nothing was counted");
    assert_eq!(after[0][0], before[0][0], "a table was read whole");
}
