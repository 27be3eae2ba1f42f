//! Callers at the same moment, with outcomes counted exactly. All of it needs several connections, and so a server.

use std::{future::Future, time::Duration};

use futures_util::future::join_all;
use loop_core::{
    DeliveryKey, Entity, Error, Ingested, Issue, IssueFilter, IssuePatch, LoopStore, NewIssue, NewSignal, PageRequest, VersionStatus,
    test_util::TestDb,
};

use crate::support::{
    Locked, Problem, everything, invalid, issue, new_issue, new_label, new_signal, new_template, new_version, one, problem, template,
    version,
};

/// A store with that many connections, all of them open.
async fn many(db: &TestDb, connections: usize) -> LoopStore {
    let store = LoopStore::builder(db.url()).pool_size(connections).connect().await.unwrap();
    join_all((0..connections).map(|_| store.raw("SELECT pg_sleep(0.05)"))).await;
    assert_eq!(store.pool_status().size, connections);
    store
}

/// Runs all of these at once, on all threads.
async fn at_once<T: Send + 'static>(calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    join_all(tasks).await.into_iter().map(|done| done.unwrap()).collect()
}

/// Whoever is told that all connections are taken, just before one comes back, still gets it: nothing is left for who never comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn every_caller_gets_a_connection_however_few_there_are() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    for connections in 1..=3 {
        let wait = Duration::from_secs(5);
        let store = LoopStore::builder(db.url()).pool_size(connections).wait_timeout(wait).connect().await.unwrap();
        let calls = (0..8).map(|caller| {
            let (store, id) = (store.clone(), id.clone());
            async move {
                for turn in 0..100 {
                    match (caller + turn) % 3 {
                        0 => store.ping().await.unwrap(),
                        1 => assert_eq!(store.issues().get(&id).await.unwrap().id, id),
                        _ => assert_eq!(store.issues().detail(&id).await.unwrap().issue.id, id),
                    }
                    // From time to time all are idle, or nobody is in line.
                    if turn % 10 == caller {
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        assert_eq!(at_once(calls).await.len(), 8);
        let status = store.pool_status();
        assert!(status.size <= connections && status.idle == status.size && status.waiting == 0, "{status:?}");
        store.close();
        assert_eq!((store.pool_status().size, store.pool_status().idle), (0, 0), "nothing is kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn versions_made_at_once_are_numbered_without_gaps() {
    let db = TestDb::new().await;
    let store = many(&db, 8).await;
    for round in 0..5 {
        let id = template(&store, &format!("round-{round}")).await.id;
        let made = at_once((0..8).map(|_| {
            let (store, id) = (store.clone(), id.clone());
            async move { store.versions().create(&id, new_version("Do it")).await.unwrap() }
        }));
        let mut made = made.await;
        made.sort_by_key(|version| version.version);
        assert_eq!(made.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
        let active: Vec<_> = made.iter().filter(|version| version.status == VersionStatus::Active).collect();
        assert_eq!((active.len(), active[0].version), (1, 1));
        let page = store.versions().list(&id, &everything()).await.unwrap();
        assert!(page.data.iter().rev().eq(&made), "what was answered is what is stored");
        assert_eq!(store.templates().get(&id).await.unwrap().active_version_id.as_ref(), Some(&active[0].id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn of_promotions_at_once_one_holds() {
    let db = TestDb::new().await;
    let store = many(&db, 8).await;
    let template = template(&store, "one").await;
    let mut versions = Vec::new();
    for _ in 0..8 {
        versions.push(version(&store, &template, "Do it").await.id);
    }
    for _ in 0..10 {
        let promoted = at_once(versions.clone().into_iter().map(|version| {
            let (store, template) = (store.clone(), template.id.clone());
            async move { (store.versions().promote(&template, &version).await.unwrap(), version) }
        }));
        for (promoted, asked) in promoted.await {
            assert_eq!((promoted.id, promoted.status), (asked, VersionStatus::Active), "each was active when it was promoted");
        }
        let detail = store.templates().detail(&template.id).await.unwrap();
        let page = store.versions().list(&template.id, &everything()).await.unwrap();
        let active: Vec<_> = page.data.into_iter().filter(|version| version.status == VersionStatus::Active).collect();
        assert_eq!(active.len(), 1);
        assert_eq!((detail.template.active_version_id, detail.active_version.as_ref()), (Some(active[0].id.clone()), active.first()));
    }
    assert_eq!(one(&store, "SELECT count(*) FROM prompt_versions WHERE status = 'draft'").await, "0");
}

async fn assert_one_level(store: &LoopStore) {
    let deep = "SELECT count(*) FROM issues AS c JOIN issues AS p ON p.id = c.parent_id WHERE p.parent_id IS NOT NULL";
    assert_eq!(one(store, deep).await, "0");
}

async fn put_under(store: LoopStore, child: Issue, parent: Issue) -> Result<Issue, Error> {
    store.issues().update(&child.id, IssuePatch { parent_id: parent.id.into(), ..IssuePatch::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn a_child_and_a_parent_for_an_issue_exclude_each_other() {
    let db = TestDb::new().await;
    let store = many(&db, 4).await;
    let mut won = [0, 0];
    for round in 0..60 {
        let (top, middle) = (issue(&store, "Top").await, issue(&store, "Middle").await);
        let put = tokio::spawn(put_under(store.clone(), middle.clone(), top));
        if round % 3 == 0 {
            tokio::task::yield_now().await;
        }
        let create = store.issues().create(NewIssue { parent_id: Some(middle.id.clone()), ..new_issue("Bottom") }).await;
        match (put.await.unwrap(), create) {
            (Ok(_), refused) => {
                assert_eq!(problem(refused), invalid("parentId"));
                won[0] += 1;
            }
            (refused, Ok(_)) => {
                assert_eq!(problem(refused), invalid("parentId"));
                won[1] += 1;
            }
            both => panic!("both were refused: {both:?}"),
        }
    }
    assert_eq!(won[0] + won[1], 60);
    assert_one_level(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn two_issues_do_not_become_each_other_s_parent() {
    let db = TestDb::new().await;
    let store = many(&db, 2).await;
    for _ in 0..12 {
        let (a, b) = (issue(&store, "A").await, issue(&store, "B").await);
        let calls = [put_under(store.clone(), a.clone(), b.clone()), put_under(store.clone(), b, a)];
        let (done, refused): (Vec<_>, Vec<_>) = at_once(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (1, 1));
        for refused in refused {
            let refused = problem(refused);
            assert!(refused == invalid("parentId") || refused == Problem::Conflict(Entity::Issue, "concurrent_change"), "{refused:?}");
        }
    }
    assert_one_level(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn a_child_is_made_before_its_parent_is_deleted_or_not_at_all() {
    let db = TestDb::new().await;
    let store = many(&db, 8).await;
    for _ in 0..15 {
        let top = issue(&store, "Top").await;
        let create = |parent: &Issue| {
            let (store, new) = (store.clone(), NewIssue { parent_id: Some(parent.id.clone()), ..new_issue("Child") });
            async move { store.issues().create(new).await }
        };
        let delete = tokio::spawn({
            let (store, id) = (store.clone(), top.id.clone());
            async move { store.issues().delete(&id).await }
        });
        let made = at_once((0..7).map(|_| create(&top))).await;
        delete.await.unwrap().unwrap();
        for refused in made.into_iter().filter(Result::is_err) {
            assert_eq!(problem(refused), Problem::Reference(Entity::Issue, vec!["parentId".to_owned()]));
        }
        // Whoever came after the deletion is refused, for good.
        assert_eq!(problem(create(&top).await), Problem::Reference(Entity::Issue, vec!["parentId".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn a_name_is_given_once() {
    let db = TestDb::new().await;
    let store = many(&db, 8).await;
    for round in 0..5 {
        let labels = at_once((0..8).map(|client| {
            let (store, name) = (store.clone(), format!("{}-{round}", if client % 2 == 0 { "Same" } else { "same" }));
            async move { store.labels().create(new_label(&name)).await }
        }));
        let templates = at_once((0..8).map(|_| {
            let (store, slug) = (store.clone(), format!("same-{round}"));
            async move { store.templates().create(new_template(&slug)).await }
        }));
        let (created, refused): (Vec<_>, Vec<_>) = labels.await.into_iter().partition(Result::is_ok);
        assert_eq!((created.len(), refused.len()), (1, 7));
        let taken = |refused| problem(refused) == Problem::Conflict(Entity::Label, "labels_name_key");
        assert!(refused.into_iter().all(taken));
        let (created, refused): (Vec<_>, Vec<_>) = templates.await.into_iter().partition(Result::is_ok);
        assert_eq!((created.len(), refused.len()), (1, 7));
        let taken = |refused| problem(refused) == Problem::Conflict(Entity::PromptTemplate, "prompt_templates_slug_key");
        assert!(refused.into_iter().all(taken));
    }
    assert_eq!(one(&store, "SELECT count(*) FROM labels").await, "5");
    assert_eq!(one(&store, "SELECT count(*) FROM prompt_templates").await, "5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn a_delivery_that_arrives_many_times_at_once_is_taken_in_once() {
    let db = TestDb::new().await;
    let store = many(&db, 16).await;
    for round in 0..5 {
        let arrivals = at_once((0..16).map(|_| {
            let delivery = Some(DeliveryKey::named(&round.to_string()));
            let (store, new) = (store.clone(), NewSignal { delivery, ..new_signal("github") });
            async move { store.signals().ingest(new).await.unwrap() }
        }));
        let (first, again): (Vec<_>, Vec<_>) = arrivals.await.into_iter().partition(|taken| !taken.redelivered);
        assert_eq!((first.len(), again.len()), (1, 15));
        let answer = Ingested { redelivered: true, ..first[0].clone() };
        assert!(again.iter().all(|again| *again == answer));
    }
    for table in ["signals", "issues", "deliveries"] {
        assert_eq!(one(&store, &format!("SELECT count(*) FROM {table}")).await, "5", "{table}");
    }
    assert_eq!(one(&store, "SELECT sum(attempts) FROM deliveries").await, "80");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn batches_with_deliveries_in_common_do_not_wait_in_a_circle() {
    let db = TestDb::new().await;
    let store = many(&db, 4).await;
    for round in 0..10 {
        let delivery =
            |number: usize| NewSignal { delivery: Some(DeliveryKey::named(&format!("{round}-{number}"))), ..new_signal("github") };
        let batches =
            [(0..60).collect::<Vec<_>>(), (20..80).rev().collect(), (0..80).rev().step_by(2).collect(), (0..80).step_by(3).collect()];
        let taken = at_once(batches.map(|numbers| {
            let (store, batch) = (store.clone(), numbers.iter().map(|number| delivery(*number)).collect());
            async move { (numbers, store.signals().ingest_batch(batch).await.unwrap()) }
        }));
        let mut first = vec![None; 80];
        for (number, taken) in taken.await.iter().flat_map(|(numbers, taken)| numbers.iter().zip(taken)) {
            let known = first[*number].get_or_insert_with(|| taken.signal.id.clone());
            assert_eq!(*known, taken.signal.id, "all answers for a delivery are the same");
        }
        assert!(first.iter().all(Option::is_some));
    }
    assert_eq!(one(&store, "SELECT count(*) FROM signals").await, "800");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn more_callers_than_connections_take_turns() {
    let db = TestDb::new().await;
    let store = many(&db, 3).await;
    let made = at_once((0..60).map(|number| {
        let store = store.clone();
        async move {
            let issue = issue(&store, &number.to_string()).await;
            let label = store.labels().create(new_label(&number.to_string())).await.unwrap();
            store.labels().attach(&issue.id, &label.id).await.unwrap();
            store.issues().detail(&issue.id).await.unwrap()
        }
    }));
    assert!(made.await.iter().all(|detail| detail.labels.len() == 1));
    let page = store.issues().list(&IssueFilter::default(), &PageRequest::first().with_total()).await.unwrap();
    assert_eq!((page.data.len(), page.total), (50, Some(60)));
    assert_eq!((store.pool_status().size, store.pool_status().waiting), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn changes_to_one_issue_at_once_are_all_made() {
    let db = TestDb::new().await;
    let store = many(&db, 8).await;
    let (target, labels) = (issue(&store, "Issue").await, {
        let mut labels = Vec::new();
        for number in 0..8 {
            labels.push(store.labels().create(new_label(&number.to_string())).await.unwrap());
        }
        labels
    });
    let changed = at_once(labels.iter().enumerate().map(|(number, label)| {
        let (store, id, label) = (store.clone(), target.id.clone(), label.id.clone());
        async move {
            let text = Some(number.to_string().parse().unwrap());
            let patch = if number % 2 == 0 {
                IssuePatch { title: text, ..IssuePatch::default() }
            } else {
                IssuePatch { description: number.to_string().parse::<loop_core::Text>().unwrap().into(), ..IssuePatch::default() }
            };
            store.issues().update(&id, patch).await.unwrap();
            store.labels().attach(&id, &label).await.unwrap();
        }
    }));
    assert_eq!(changed.await.len(), 8);
    let after = store.issues().detail(&target.id).await.unwrap();
    assert_eq!(after.labels.len(), 8);
    assert!(after.issue.title.as_str().len() == 1 && after.issue.description.is_some(), "no change undid another's");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_detail_of_an_issue_is_of_one_moment() {
    let db = TestDb::new().await;
    let label = db.store().labels().create(new_label("After")).await.unwrap().id;
    let id = issue(db.store(), "Before").await.id;
    let locked = Locked::new(&db, "issue_labels").await;
    let reader = tokio::spawn({
        let (store, id) = (db.store().clone(), id.clone());
        async move { store.issues().detail(&id).await }
    });
    // Whoever reads the labels waits; what else there is could be read before.
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'issue_labels'::regclass AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    while one(&locked.0, waits).await != "t" {
        assert!(!reader.is_finished(), "it does not wait");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let change = format!(
        "UPDATE issues SET title = 'After' WHERE id = '{id}'; INSERT INTO issue_labels (issue_id, label_id) VALUES ('{id}', '{label}')"
    );
    locked.0.raw(&change).await.unwrap();
    locked.let_go().await;
    let detail = reader.await.unwrap().unwrap();
    let labels: Vec<_> = detail.labels.iter().map(|label| label.name.as_str()).collect();
    assert_eq!((detail.issue.title.as_str(), &labels[..]), ("After", &["After"][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a PostgreSQL server"]
async fn labels_replaced_at_once_are_those_of_one_caller() {
    let db = TestDb::new().await;
    let store = many(&db, 4).await;
    let issue = issue(&store, "Issue").await.id;
    let mut labels = Vec::new();
    for name in ["a", "b", "c", "d"] {
        labels.push(store.labels().create(new_label(name)).await.unwrap().id);
    }
    for round in 0..50 {
        let done =
            at_once(
                labels.clone().into_iter().map(|label| {
                    let (store, issue) = (store.clone(), issue.clone());
                    async move {
                        store.issues().update(&issue, IssuePatch { label_ids: Some(vec![label]), ..IssuePatch::default() }).await.unwrap()
                    }
                }),
            );
        assert_eq!(done.await.len(), 4);
        assert_eq!(store.labels().of_issue(&issue).await.unwrap().len(), 1, "round {round}");
    }
}
