//! Unnamed statements, as behind a pooler that gives every transaction another connection: every handle works, and nothing stays prepared.

use std::time::Duration;

use loop_core::{
    CommentPatch, DeliveryKey, Error, GoalFilter, GoalPatch, IssueFilter, IssuePatch, LabelPatch, LoopStore, NewApiKey, NewRelation,
    NewSignal, ProjectFilter, ProjectPatch, RelationType, Role, SignalFilter, StatementMode, TemplateFilter, TemplatePatch, VersionStatus,
    test_util::TestDb,
};

use crate::support::{
    comment, everything, goal, issue, label, new_issue, new_review, new_signal, one, project, reply, template, valid, version,
};

async fn single(db: &TestDb, mode: StatementMode) -> LoopStore {
    db.store().close();
    let url = if mode == StatementMode::Prepared { db.direct_url() } else { db.url() };
    LoopStore::builder(url).pool_size(1).statement_mode(mode).connect().await.unwrap()
}

/// Uses every method of every handle once, on a migrated database without rows.
async fn use_everything(store: &LoopStore) {
    let page = everything();
    let (shop, target) = (project(store, "Shop").await.id, goal(store, "Goal").await.id);
    let patch = ProjectPatch { goal_id: target.clone().into(), ..ProjectPatch::default() };
    store.projects().update(&shop, patch).await.unwrap();
    assert_eq!(store.projects().detail(&shop).await.unwrap().goal.unwrap().id, target);
    assert_eq!(store.projects().get(&shop).await.unwrap().goal_id, Some(target.clone()));
    assert_eq!(store.projects().list(&ProjectFilter::default().with_goal(target.clone()), &page).await.unwrap().total, Some(1));
    let patch = GoalPatch { project_id: shop.clone().into(), target_value: 1.5.into(), ..GoalPatch::default() };
    assert_eq!(store.goals().update(&target, patch).await.unwrap().target_value, Some(1.5));
    assert_eq!(store.goals().get(&target).await.unwrap().project_id, Some(shop.clone()));
    assert_eq!(store.goals().list(&GoalFilter::default().with_project(shop.clone()), &page).await.unwrap().total, Some(1));

    let (first, second) = (issue(store, "First").await, issue(store, "Second").await);
    let tag = label(store, "tag").await;
    store.labels().update(&tag.id, LabelPatch { name: Some(valid("Tag")), color: None }).await.unwrap();
    assert_eq!(store.labels().get(&tag.id).await.unwrap().name.as_str(), "Tag");
    store.labels().attach(&first.id, &tag.id).await.unwrap();
    assert_eq!(store.labels().of_issue(&first.id).await.unwrap().len(), 1);
    assert_eq!(store.labels().list(&page).await.unwrap().total, Some(1));
    let patch = IssuePatch { parent_id: first.id.clone().into(), label_ids: Some(vec![tag.id.clone()]), ..IssuePatch::default() };
    store.issues().update(&second.id, patch).await.unwrap();
    let relation = NewRelation { kind: RelationType::Blocks, related_issue_id: second.id.clone() };
    let relation = store.relations().create(&first.id, relation).await.unwrap();
    let detail = store.issues().detail(&first.id).await.unwrap();
    assert_eq!((detail.children.len(), detail.relations.len(), detail.labels.len()), (1, 1, 1));
    assert_eq!(store.issues().find_by_number(second.number).await.unwrap(), Some(second.id.clone()));
    assert_eq!(store.issues().get(&second.id).await.unwrap().parent_id, Some(first.id.clone()));
    let filter = IssueFilter::default().with_label(tag.id.clone()).with_text(&valid("second"));
    assert_eq!(store.issues().list(&filter, &page).await.unwrap().total, Some(1));
    assert_eq!(store.relations().list(&second.id, &page).await.unwrap().total, Some(1));

    let said = comment(store, &first.id, "Said").await;
    let answer = reply(store, &said, "Answer").await;
    store.comments().update(&answer.id, CommentPatch { body: Some(valid("Better")) }).await.unwrap();
    assert_eq!(store.comments().get(&answer.id).await.unwrap().body, "Better");
    assert_eq!(store.comments().list(&first.id, &page).await.unwrap().data[0].replies.len(), 1);

    let new = NewSignal { delivery: Some(DeliveryKey::named("1")), ..new_signal("cli") };
    let taken = store.signals().ingest(new.clone()).await.unwrap();
    let batch = store.signals().ingest_batch(vec![new, new_signal("cli")]).await.unwrap();
    assert_eq!((batch[0].redelivered, batch[1].redelivered, &batch[0].signal), (true, false, &taken.signal));
    assert_eq!(store.signals().get(&taken.signal.id).await.unwrap(), taken.signal);
    let filter = SignalFilter::default().with_metadata(valid(r#"{"source": "cli"}"#));
    assert_eq!(store.signals().list(&filter, &page).await.unwrap().total, Some(2));

    let prompt = template(store, "prompt").await;
    store.templates().update(&prompt.id, TemplatePatch { name: Some(valid("New")), ..TemplatePatch::default() }).await.unwrap();
    version(store, &prompt, "One").await;
    let two = version(store, &prompt, "Two").await;
    assert_eq!(store.versions().promote(&prompt.id, &two.id).await.unwrap().status, VersionStatus::Active);
    assert_eq!(store.versions().get(&prompt.id, &two.id).await.unwrap().version, 2);
    assert_eq!(store.versions().list(&prompt.id, &page).await.unwrap().total, Some(2));
    store.reviews().create(new_review(&two.id, &first.id, [3, 3, 3])).await.unwrap();
    assert_eq!(store.reviews().list(&prompt.id, &page).await.unwrap().total, Some(1));
    assert_eq!(store.templates().detail(&prompt.id).await.unwrap().active_version.unwrap().id, two.id);
    assert_eq!(store.templates().get(&prompt.id).await.unwrap().name.as_str(), "New");
    assert_eq!(store.templates().list(&TemplateFilter::default().with_slug(valid("prompt")), &page).await.unwrap().total, Some(1));

    let key = NewApiKey { name: valid("Key"), role: Role::Admin, project_id: Some(shop.clone()), expires_at: None };
    let issued = store.api_keys().create(key).await.unwrap();
    let rotated = store.api_keys().rotate(&issued.key.id, Duration::from_mins(1)).await.unwrap();
    for plaintext in [&issued.plaintext, &rotated.plaintext] {
        assert_eq!(store.api_keys().authenticate(plaintext).await.unwrap().unwrap().id, issued.key.id);
    }
    assert_eq!(store.api_keys().get(&issued.key.id).await.unwrap().prefix, rotated.key.prefix);
    assert_eq!(store.api_keys().list(&page).await.unwrap().total, Some(1));

    let inside: Result<_, Error> = store.transaction(async |tx| tx.issues().create(new_issue("Inside")).await).await;
    store.issues().delete(&inside.unwrap().id).await.unwrap();
    assert_eq!(store.within(shop.clone()).issues().list(&IssueFilter::default(), &page).await.unwrap().total, Some(0));
    store.api_keys().revoke(&issued.key.id).await.unwrap();
    store.relations().delete(&relation.id).await.unwrap();
    store.comments().delete(&said.id).await.unwrap();
    store.labels().detach(&first.id, &tag.id).await.unwrap();
    store.labels().delete(&tag.id).await.unwrap();
    store.templates().delete(&prompt.id).await.unwrap();
    store.goals().delete(&target).await.unwrap();
    store.projects().delete(&shop).await.unwrap();
    assert_eq!(store.migration_status().await.unwrap().pending, [""; 0]);
    assert_eq!(store.migrate().await.unwrap().applied, [""; 0]);
    store.ping().await.unwrap();
}

#[tokio::test]
async fn every_handle_works_with_unnamed_statements() {
    let db = TestDb::new().await;
    let store = single(&db, StatementMode::Unnamed).await;
    use_everything(&store).await;
    assert_eq!(one(&store, "SELECT count(*) FROM pg_prepared_statements").await, "0");
}

#[tokio::test]
async fn every_handle_works_with_prepared_statements_on_one_connection() {
    let db = TestDb::new().await;
    let store = single(&db, StatementMode::Prepared).await;
    use_everything(&store).await;
    let prepared: usize = one(&store, "SELECT count(*) FROM pg_prepared_statements").await.parse().unwrap();
    assert!(prepared > 50, "{prepared}");
    assert_eq!(one(&store, "SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE '-- %'").await, "0", "each has its name");
}
