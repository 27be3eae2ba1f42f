//! Labels, and which issues have them.

use loop_core::{Entity, IssueId, Label, LabelId, LabelPatch, NewLabel, test_util::TestDb};

use crate::support::{Problem, change, check_changes, everything, issue, label, new_label, not_found, problem, sets, valid};

#[tokio::test]
async fn every_field_comes_back() {
    let db = TestDb::new().await;
    let labels = db.store().labels();
    let created = labels.create(NewLabel { name: valid("Größe: XL 🏷"), color: valid("rebeccapurple") }).await.unwrap();
    assert_eq!((created.name.as_str(), created.color.as_str()), ("Größe: XL 🏷", "rebeccapurple"));
    assert_eq!((created.updated_at, created.deleted_at), (created.created_at, None));
    assert_eq!(labels.get(&created.id).await.unwrap(), created);
    let page = labels.list(&everything()).await.unwrap();
    assert_eq!((page.data, page.total), (vec![created], Some(1)));
}

#[tokio::test]
async fn unknown_and_deleted_labels_are_not_found() {
    let db = TestDb::new().await;
    let store = db.store();
    let issue = issue(store, "Issue").await;
    let gone = label(store, "gone").await;
    store.labels().attach(&issue.id, &gone.id).await.unwrap();
    store.labels().delete(&gone.id).await.unwrap();
    for id in [LabelId::new(), gone.id] {
        let missing = || not_found(Entity::Label, &id);
        assert_eq!(problem(store.labels().get(&id).await), missing());
        assert_eq!(problem(store.labels().update(&id, LabelPatch::default()).await), missing());
        assert_eq!(problem(store.labels().delete(&id).await), missing());
        assert_eq!(problem(store.labels().attach(&issue.id, &id).await), missing());
        assert_eq!(problem(store.labels().detach(&issue.id, &id).await), missing());
    }
    assert_eq!(store.labels().of_issue(&issue.id).await.unwrap(), []);
    let page = store.labels().list(&everything()).await.unwrap();
    assert_eq!((page.data, page.total), (vec![], Some(0)));
}

#[tokio::test]
async fn each_field_is_kept_or_set() {
    let db = TestDb::new().await;
    let store = db.store();
    let before = label(store, "bug").await;
    let id = before.id.clone();
    let mut changes = sets!(LabelPatch to Label: name = valid("BUG"), color = valid("red"));
    changes.push(change("nothing", LabelPatch::default(), |_| {}));
    let update = async |patch| store.labels().update(&id, patch).await;
    check_changes(before, changes, |label| (&mut label.updated_at, &mut label.revision), update, async || store.labels().get(&id).await)
        .await;
}

#[tokio::test]
async fn a_name_is_taken_whatever_its_case_until_its_label_is_deleted() {
    let db = TestDb::new().await;
    let store = db.store();
    let (bug, other) = (label(store, "Bug").await, label(store, "other").await);
    let taken = || Problem::Conflict(Entity::Label, "labels_name_key");
    for name in ["Bug", "bug", "BUG"] {
        assert_eq!(problem(store.labels().create(new_label(name)).await), taken());
        let rename = LabelPatch { name: Some(valid(name)), color: None };
        assert_eq!(problem(store.labels().update(&other.id, rename).await), taken());
    }
    assert_eq!(store.labels().get(&other.id).await.unwrap(), other);
    label(store, "bug ").await;
    let error = store.labels().create(new_label("bug")).await.unwrap_err();
    assert_eq!(error.to_string(), "A label with this name already exists");

    store.labels().delete(&bug.id).await.unwrap();
    let again = label(store, "bug").await;
    assert_ne!(again.id, bug.id);
}

#[tokio::test]
async fn attaching_and_detaching_can_be_repeated() {
    let db = TestDb::new().await;
    let store = db.store();
    let (one, other) = (issue(store, "One").await.id, issue(store, "Other").await.id);
    let (b, a) = (label(store, "b").await, label(store, "A").await);
    for label in [&b, &a, &b] {
        store.labels().attach(&one, &label.id).await.unwrap();
    }
    store.labels().attach(&other, &b.id).await.unwrap();
    assert_eq!(store.labels().of_issue(&one).await.unwrap(), [a.clone(), b.clone()], "by name, whatever its case");
    for _ in 0..2 {
        store.labels().detach(&one, &b.id).await.unwrap();
    }
    assert_eq!(store.labels().of_issue(&one).await.unwrap(), std::slice::from_ref(&a));
    assert_eq!(store.labels().of_issue(&other).await.unwrap(), [b]);

    let unknown = IssueId::new();
    assert_eq!(problem(store.labels().attach(&unknown, &a.id).await), not_found(Entity::Issue, &unknown));
    assert_eq!(problem(store.labels().detach(&unknown, &a.id).await), not_found(Entity::Issue, &unknown));
    assert_eq!(store.labels().of_issue(&unknown).await.unwrap(), []);
}

#[tokio::test]
async fn names_are_compared_by_unicode_s_rules_whatever_the_locale() {
    let db = TestDb::new().await;
    let labels = db.store().labels();
    let first = labels.create(new_label("É1")).await.unwrap();
    assert_eq!(problem(labels.create(new_label("é1")).await), Problem::Conflict(Entity::Label, "labels_name_key"));
    let renamed = labels.update(&first.id, LabelPatch { name: Some(valid("Ö")), ..LabelPatch::default() }).await.unwrap();
    assert_eq!(renamed.name, valid("Ö"));
    labels.create(new_label("é1")).await.unwrap();
    assert_eq!(problem(labels.create(new_label("ö")).await), Problem::Conflict(Entity::Label, "labels_name_key"));
}
