//! Changes on condition that nobody made another one first.

use futures_util::future::join_all;
use loop_core::{
    CommentPatch, Entity, Error, GoalPatch, IssuePatch, LabelPatch, LoopStore, ProjectPatch, TemplatePatch, test_util::TestDb,
};

use crate::support::{comment, goal, issue, label, new_version, project, template, valid};

#[expect(clippy::needless_pass_by_value, reason = "it is called with answers")]
fn stale<T: std::fmt::Debug>(answer: Result<T, Error>, expected: Entity) {
    assert!(matches!(answer, Err(Error::Stale { entity }) if entity == expected), "{answer:?}");
}

/// What every entity with revisions does.
macro_rules! conditional {
    ($name:ident: $entity:ident, $handle:ident, $make:expr, $patch:expr) => {
        #[tokio::test]
        async fn $name() {
            let db = TestDb::new().await;
            let store = db.store();
            let make = $make;
            let made = make(store).await;
            let id = &made.id;
            assert_eq!(made.revision, 1);
            let other = vec![2, 7];
            stale(store.$handle().expecting(&other).update(id, $patch).await, Entity::$entity);
            stale(store.$handle().expecting(&vec![]).update(id, $patch).await, Entity::$entity);
            assert_eq!(store.$handle().get(id).await.unwrap(), made);
            assert_eq!(store.$handle().expecting(&vec![1]).update(id, $patch).await.unwrap().revision, 2);
            assert_eq!(store.$handle().expecting(&other).update(id, $patch).await.unwrap().revision, 3);
            assert_eq!(store.$handle().update(id, $patch).await.unwrap().revision, 4);
            stale(store.$handle().expecting(&vec![3]).delete(id).await, Entity::$entity);
            store.$handle().expecting(&vec![4]).delete(id).await.unwrap();
            // What is not there is not found, at whatever revision.
            for answer in [store.$handle().expecting(&vec![5]).delete(id).await, store.$handle().delete(id).await] {
                assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
            }
            assert!(matches!(store.$handle().expecting(&vec![5]).update(id, $patch).await, Err(Error::NotFound { .. })));
        }
    };
}

async fn some_comment(store: &LoopStore) -> loop_core::Comment {
    comment(store, &issue(store, "Talked about").await.id, "Said").await
}

conditional!(issues: Issue, issues, async |store| issue(store, "One").await, IssuePatch { title: Some(valid("Two")), ..IssuePatch::default() });
conditional!(labels: Label, labels, async |store| label(store, "one").await, LabelPatch { color: Some(valid("red")), ..LabelPatch::default() });
conditional!(goals: Goal, goals, async |store| goal(store, "One").await, GoalPatch { title: Some(valid("Two")), ..GoalPatch::default() });
conditional!(projects: Project, projects, async |store| project(store, "One").await, ProjectPatch { name: Some(valid("Two")), ..ProjectPatch::default() });
conditional!(comments: Comment, comments, some_comment, CommentPatch { body: Some(valid("Taken back")) });
conditional!(templates: PromptTemplate, templates, async |store| template(store, "one").await, TemplatePatch { name: Some(valid("Two")), ..TemplatePatch::default() });

#[tokio::test]
async fn labels_versions_and_promotions_count() {
    let db = TestDb::new().await;
    let store = db.store();
    let (issue, label) = (issue(store, "One").await.id, label(store, "slow").await.id);
    store.labels().attach(&issue, &label).await.unwrap();
    store.labels().attach(&issue, &label).await.unwrap();
    assert_eq!(store.issues().get(&issue).await.unwrap().revision, 2);
    store.labels().detach(&issue, &label).await.unwrap();
    store.labels().detach(&issue, &label).await.unwrap();
    assert_eq!(store.issues().get(&issue).await.unwrap().revision, 3);

    let template = template(store, "one").await.id;
    store.versions().create(&template, new_version("One")).await.unwrap();
    let second = store.versions().create(&template, new_version("Two")).await.unwrap();
    store.versions().promote(&template, &second.id).await.unwrap();
    assert_eq!(store.templates().get(&template).await.unwrap().revision, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn of_editors_at_once_one_is_first() {
    let db = TestDb::new().await;
    let store = LoopStore::builder(db.url()).pool_size(16).connect().await.unwrap();
    let id = issue(&store, "One").await.id;
    for round in 1..=10 {
        let tasks = (0..16).map(|editor| {
            let (store, id) = (store.clone(), id.clone());
            tokio::spawn(async move {
                let patch = IssuePatch { title: Some(valid(&format!("Editor {editor}"))), ..IssuePatch::default() };
                store.issues().expecting(&vec![round]).update(&id, patch).await
            })
        });
        let done: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
        let (first, rest): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
        assert_eq!((first.len(), rest.len()), (1, 15));
        for answer in rest {
            stale(answer, Entity::Issue);
        }
        assert_eq!(&store.issues().get(&id).await.unwrap(), first[0].as_ref().unwrap());
    }
}

/// Whoever attaches a label and whoever replaces all of them do not wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn labels_are_attached_and_replaced_at_once() {
    let db = TestDb::new().await;
    let store = LoopStore::builder(db.url()).pool_size(16).connect().await.unwrap();
    let (issue, label) = (issue(&store, "One").await.id, label(&store, "slow").await.id);
    let tasks = (0..16).map(|task| {
        let (store, issue, label) = (store.clone(), issue.clone(), label.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                match task % 4 {
                    0 => store.labels().attach(&issue, &label).await.unwrap(),
                    1 => store.labels().detach(&issue, &label).await.unwrap(),
                    kind => {
                        let labels = if kind == 2 { vec![label.clone()] } else { vec![] };
                        let patch = IssuePatch { label_ids: Some(labels), ..IssuePatch::default() };
                        store.issues().update(&issue, patch).await.map(drop).unwrap();
                    }
                }
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
}
