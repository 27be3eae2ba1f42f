//! Redeliveries: what arrived before creates nothing and answers what it created then.

use loop_core::{DeliveryKey, Ingested, IssuePatch, LoopStore, NewSignal, ProjectId, Severity, test_util::TestDb};

use crate::support::{new_signal, one, problem, project, valid, wrong_references};

fn delivery(source: &str, name: &str) -> NewSignal {
    NewSignal { delivery: Some(DeliveryKey::named(name)), ..new_signal(source) }
}

fn changed(name: &str) -> NewSignal {
    let other = NewSignal::new(valid("github"), valid("other"), Severity::Low, valid(r#"{"message": "another body"}"#));
    NewSignal { delivery: Some(DeliveryKey::named(name)), ..other }
}

async fn stored(store: &LoopStore) -> String {
    one(store, "SELECT concat_ws(' ', (SELECT count(*) FROM signals), (SELECT count(*) FROM issues), (SELECT count(*) FROM deliveries))")
        .await
}

fn again(first: &Ingested) -> Ingested {
    Ingested { redelivered: true, ..first.clone() }
}

#[tokio::test]
async fn a_redelivery_answers_the_first_arrival() {
    let db = TestDb::new().await;
    let store = db.store();
    let first = store.signals().ingest(delivery("github", "1")).await.unwrap();
    assert!(!first.redelivered);
    assert_eq!(store.signals().ingest(delivery("github", "1")).await.unwrap(), again(&first));
    assert_eq!(store.signals().ingest(changed("1")).await.unwrap(), again(&first), "whatever the body says");
    assert_eq!(stored(store).await, "1 1 1");
    assert_eq!(one(store, "SELECT attempts FROM deliveries").await, "3");

    // What became of the issue since is seen, also that it was deleted.
    let patch = IssuePatch { title: Some(valid("Triaged")), ..IssuePatch::default() };
    let issue = store.issues().update(&first.issue.id, patch).await.unwrap();
    assert_eq!(store.signals().ingest(delivery("github", "1")).await.unwrap(), Ingested { issue, ..again(&first) });
    store.issues().delete(&first.issue.id).await.unwrap();
    let deleted = store.signals().ingest(delivery("github", "1")).await.unwrap();
    assert_eq!((&deleted.issue.id, deleted.issue.deleted_at.is_some(), deleted.redelivered), (&first.issue.id, true, true));
    assert_eq!((deleted.signal, stored(store).await.as_str()), (first.signal, "1 1 1"));
}

#[tokio::test]
async fn keys_of_other_sources_and_projects_do_not_meet() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, blog) = (project(store, "Shop").await.id, project(store, "Blog").await.id);
    let to = |project: &ProjectId| NewSignal { project_id: Some(project.clone()), ..delivery("github", "1") };
    for new in [delivery("github", "1"), delivery("sentry", "1"), delivery("github", "2"), to(&shop), to(&blog), new_signal("github")] {
        assert!(!store.signals().ingest(new).await.unwrap().redelivered);
    }
    assert!(!store.signals().ingest(new_signal("github")).await.unwrap().redelivered, "without a key nothing is the same");
    assert_eq!(stored(store).await, "7 7 5");
    // Within a project the key is the project's, named or not.
    let within = store.within(shop.clone());
    assert!(within.signals().ingest(delivery("github", "1")).await.unwrap().redelivered);
    assert!(within.signals().ingest(to(&shop)).await.unwrap().redelivered);
    assert_eq!(stored(store).await, "7 7 5");

    store.projects().delete(&shop).await.unwrap();
    assert_eq!(problem(store.signals().ingest(to(&shop)).await), wrong_references(loop_core::Entity::Signal, &["projectId"]));
}

#[tokio::test]
async fn a_delivery_that_stands_in_a_batch_twice_is_taken_in_once() {
    let db = TestDb::new().await;
    let store = db.store();
    let before = store.signals().ingest(delivery("github", "old")).await.unwrap();
    let batch = vec![
        delivery("github", "new"),
        delivery("github", "old"),
        new_signal("github"),
        delivery("github", "new"),
        delivery("sentry", "new"),
        delivery("github", "old"),
        changed("new"),
    ];
    let taken = store.signals().ingest_batch(batch.clone()).await.unwrap();
    assert_eq!(taken.iter().map(|taken| taken.redelivered).collect::<Vec<_>>(), [false, true, false, true, false, true, true]);
    assert_eq!((&taken[3], &taken[6]), (&again(&taken[0]), &again(&taken[0])));
    assert_eq!((&taken[1], &taken[5]), (&again(&before), &again(&before)));
    assert_eq!(taken[4].signal.source.as_str(), "sentry");
    assert_eq!(stored(store).await, "4 4 3");

    let repeated = store.signals().ingest_batch(batch).await.unwrap();
    assert_eq!(repeated.iter().map(|taken| taken.redelivered).collect::<Vec<_>>(), [true, true, false, true, true, true, true]);
    assert_eq!((&repeated[0], &repeated[4]), (&again(&taken[0]), &again(&taken[4])));
    assert_eq!(stored(store).await, "5 5 3");
}

#[tokio::test]
async fn a_refused_batch_leaves_no_delivery_behind() {
    let db = TestDb::new().await;
    let store = db.store();
    let wrong = NewSignal { project_id: Some(ProjectId::new()), ..delivery("github", "wrong") };
    let refused = store.signals().ingest_batch(vec![delivery("github", "good"), wrong.clone(), wrong]).await;
    let fields = ["signals[1].projectId", "signals[2].projectId"];
    assert_eq!(problem(refused), wrong_references(loop_core::Entity::Signal, &fields));
    assert_eq!(stored(store).await, "0 0 0");
    assert!(!store.signals().ingest(delivery("github", "good")).await.unwrap().redelivered);
}

#[tokio::test]
async fn any_name_makes_a_key() {
    let db = TestDb::new().await;
    let store = db.store();
    let long = "x".repeat(1_000_000);
    for name in ["", "a", "A", "a\0", "ü|'\"", &long, &long[1..]] {
        assert!(!store.signals().ingest(delivery("github", name)).await.unwrap().redelivered, "{name:.9}");
        assert!(store.signals().ingest(delivery("github", name)).await.unwrap().redelivered, "{name:.9}");
    }
    let by_body = |body: &[u8]| NewSignal { delivery: Some(DeliveryKey::of_body(body)), ..new_signal("github") };
    assert!(!store.signals().ingest(by_body(b"{}")).await.unwrap().redelivered);
    assert!(store.signals().ingest(by_body(b"{}")).await.unwrap().redelivered);
    assert!(!store.signals().ingest(by_body(b"{} ")).await.unwrap().redelivered);
    assert_eq!(stored(store).await, "9 9 9");
}
