//! Rows by their keys that several ask for at the same moment: one statement for all of them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use loop_core::{
    Entity, Error, Issue, IssueId, LoopStore, NewRelation, Observer, RelationType, StatementEnd, StatementMode, StoreBuilder,
    test_util::{Line, TestDb},
};
use tokio::task::JoinHandle;

use crate::failures::nobody_is_waiting;
use crate::support::{Locked, Problem, issue, label, new_issue, not_found, one, problem, project, valid};

const SHORT: Duration = Duration::from_secs(1);
/// Well before the usual limits.
const SOON: Duration = Duration::from_secs(4);

/// Issues with something around some of them.
async fn issues(store: &LoopStore, count: usize) -> Vec<Issue> {
    let mut issues = Vec::new();
    for number in 0..count {
        issues.push(issue(store, &format!("Number {number}")).await);
    }
    for number in 0..4 {
        let (id, other) = (&issues[number].id, &issues[number + 1].id);
        let related = NewRelation { kind: RelationType::Related, related_issue_id: other.clone() };
        store.relations().create(id, related).await.unwrap();
        store.labels().attach(id, &label(store, &format!("Label {number}")).await.id).await.unwrap();
    }
    issues
}

#[tokio::test]
async fn each_of_those_who_ask_together_gets_its_own() {
    let db = TestDb::new().await;
    let shop = project(db.store(), "Shop").await.id;
    let (mut issues, mut details) = (issues(db.store(), 45).await, Vec::new());
    for issue in &mut issues {
        details.push(db.store().issues().detail(&issue.id).await.unwrap());
        // What was put around it changed it.
        *issue = db.store().issues().get(&issue.id).await.unwrap();
    }
    db.store().close();
    for mode in [StatementMode::Prepared, StatementMode::Unnamed] {
        let line = Line::to(db.direct_url()).await;
        line.delay(Duration::from_millis(20));
        let store = LoopStore::builder(line.url()).pool_size(1).statement_mode(mode).connect().await.unwrap();
        let within = store.within(shop.clone());
        let nowhere = IssueId::new();
        for _ in 0..3 {
            line.round_trips();
            let (all, again, missing, none, detailed) = tokio::join!(
                join_all(issues.iter().map(async |issue| store.issues().get(&issue.id).await)),
                join_all(issues.iter().map(async |issue| store.issues().get(&issue.id).await)),
                async { store.issues().get(&nowhere).await },
                join_all(issues.iter().map(async |issue| within.issues().get(&issue.id).await)),
                join_all(issues.iter().map(async |issue| store.issues().detail(&issue.id).await)),
            );
            // Two are sent at once, and the others by 32 of a kind: two for each of three kinds.
            let round_trips = line.round_trips();
            assert!(round_trips <= 8 && line.connections() == 1, "{round_trips}");
            let read = |answers: Vec<Result<Issue, Error>>| answers.into_iter().map(Result::unwrap).collect::<Vec<_>>();
            assert_eq!(read(all), issues);
            assert_eq!(read(again), issues);
            assert_eq!(problem(missing), not_found(Entity::Issue, &nowhere));
            for (answer, issue) in none.into_iter().zip(&issues) {
                assert_eq!(problem(answer), not_found(Entity::Issue, &issue.id), "the scope is of who asks");
            }
            assert_eq!(detailed.into_iter().map(Result::unwrap).collect::<Vec<_>>(), details);
        }
    }
}

/// Counts statements and their rows.
#[derive(Default)]
struct Told(Mutex<Vec<(&'static str, usize)>>);

impl Observer for Told {
    fn statement(&self, name: &'static str, _: Duration, end: StatementEnd<'_>) {
        let StatementEnd::Rows(rows) = end else { panic!("{end:?}") };
        self.0.lock().unwrap().push((name, rows));
    }
}

#[tokio::test]
async fn what_is_asked_together_is_told_of_once() {
    let db = TestDb::new().await;
    let issues = issues(db.store(), 10).await;
    let told = Arc::new(Told::default());
    let store = db.store().observed_by(Arc::clone(&told) as Arc<dyn Observer>);
    for answer in join_all(issues.iter().map(async |issue| store.issues().get(&issue.id).await)).await {
        answer.unwrap();
    }
    let mut told = told.0.lock().unwrap().clone();
    told.sort_unstable();
    assert_eq!(told, [("issues.get", 1), ("issues.get", 1), ("issues.get_many", 8)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_do_not_keep_a_writer_from_the_only_connection() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    db.store().close();
    let line = Line::to(db.direct_url()).await;
    line.delay(Duration::from_millis(5));
    let store = LoopStore::builder(line.url()).pool_size(1).wait_timeout(SHORT).connect().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    // Some are always there when another has done.
    let readers: Vec<_> = (0..5)
        .map(|place| {
            let (store, id, over) = (store.clone(), id.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5 * place)).await;
                let mut read = 0;
                while !over.load(Ordering::Relaxed) {
                    store.issues().get(&id).await.unwrap();
                    read += 1;
                }
                read
            })
        })
        .collect();
    for number in 0..10 {
        store.issues().create(new_issue(&format!("Written {number}"))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0, "a reader was left out");
    }
    assert_eq!(one(&store, "SELECT count(*) FROM issues").await, "11");
    assert_eq!((store.pool_status().size, store.pool_status().idle), (1, 1), "it came back");
}

fn small(url: &str) -> StoreBuilder {
    LoopStore::builder(url).pool_size(3).statement_timeout(SOON)
}

/// A reader in a task of its own.
fn spawned(store: &LoopStore, id: &IssueId) -> JoinHandle<Result<Issue, Error>> {
    let (store, id) = (store.clone(), id.clone());
    tokio::spawn(async move { store.issues().get(&id).await })
}

/// A reader that has begun, and waits on the server, or for a connection.
async fn reader(store: &LoopStore, id: &IssueId) -> JoinHandle<Result<Issue, Error>> {
    let reader = spawned(store, id);
    tokio::time::sleep(Duration::from_millis(30)).await;
    reader
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn what_does_not_come_back_keeps_nobody_waiting_where_there_is_another_connection() {
    let db = TestDb::new().await;
    let (id, shop) = (issue(db.store(), "Read").await.id, project(db.store(), "Shop").await.id);
    let store = small(db.direct_url()).connect().await.unwrap();
    let locked = Locked::new(&db, "issues").await;
    let mut readers = vec![reader(&store, &id).await, reader(&store, &id).await];
    // Neither of the two that are on their way comes back.
    for _ in 0..3 {
        store.projects().get(&shop).await.unwrap();
    }
    for answer in join_all((0..50).map(async |_| store.projects().get(&shop).await)).await {
        assert_eq!(answer.unwrap().id, shop);
    }
    // There is no other one for all of these.
    for _ in 0..20 {
        readers.push(reader(&store, &id).await);
    }
    locked.let_go().await;
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap().id, id);
    }
    assert_eq!((store.pool_status().size, store.pool_status().idle), (3, 3), "all came back");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn one_who_goes_away_takes_nothing_from_those_who_asked_with_it() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    let line = Line::to(db.direct_url()).await;
    let store = small(line.url()).pool_size(1).connect().await.unwrap();
    let locked = Locked::new(&db, "issues").await;
    let alone = [reader(&store, &id).await, reader(&store, &id).await];
    let mut together: Vec<_> = (0..4).map(|_| spawned(&store, &id)).collect();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(store.pool_status().waiting, 2, "one of those alone, and one for all others");
    // Whoever began it, and another one.
    for gone in [together.remove(2), together.remove(0)] {
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
    }
    locked.let_go().await;
    for reader in alone.into_iter().chain(together) {
        assert_eq!(reader.await.unwrap().unwrap().id, id);
    }
    assert_eq!(line.connections(), 1, "nothing was broken off");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn what_nobody_waits_for_any_more_is_broken_off() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    let store = small(db.direct_url()).connect().await.unwrap();
    let locked = Locked::new(&db, "issues").await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(reader(&store, &id).await);
    }
    assert_eq!((store.pool_status().size, store.pool_status().idle), (3, 0), "two alone, and one for the others");
    for reader in readers {
        reader.abort();
        assert!(reader.await.unwrap_err().is_cancelled());
    }
    nobody_is_waiting(&db, StatementMode::Prepared).await;

    // Nor does it stand in line.
    let store = small(db.direct_url()).pool_size(1).connect().await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(reader(&store, &id).await);
    }
    assert_eq!(store.pool_status().waiting, 2);
    for reader in readers.drain(2..) {
        reader.abort();
        assert!(reader.await.unwrap_err().is_cancelled());
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(store.pool_status().waiting, 1);
    let again = reader(&store, &id).await;
    assert_eq!(store.pool_status().waiting, 2, "on a batch of its own");
    locked.let_go().await;
    for reader in readers.into_iter().chain([again]) {
        assert_eq!(reader.await.unwrap().unwrap().id, id);
    }
}

/// Reads five of a kind at once by two stores, of which the one is bound to another project.
macro_rules! together {
    ($store:ident, $within:ident, $handle:ident, $ids:expr, $visible:expr) => {
        let ids = $ids;
        assert_eq!(ids.len(), 5);
        let (all, foreign) = tokio::join!(
            join_all(ids.iter().map(async |id| $store.$handle().get(id).await)),
            join_all(ids.iter().map(async |id| $within.$handle().get(id).await))
        );
        for ((answer, foreign), id) in all.into_iter().zip(foreign).zip(&ids) {
            let read = answer.unwrap();
            assert_eq!(read.id, *id);
            match foreign {
                Ok(seen) => assert!($visible && seen == read, "{id}"),
                Err(error) => assert!(!$visible && matches!(error, Error::NotFound { .. }), "{id}: {error}"),
            }
        }
    };
}

#[tokio::test]
async fn each_kind_is_read_together_within_the_scope() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, other) = (project(store, "Shop").await.id, project(store, "Other").await.id);
    let within = store.within(other);
    let rows = format!(
        "INSERT INTO issues (id, title, project_id) SELECT 'i' || n, 'Title', '{shop}' FROM generate_series(1, 5) AS n;
         INSERT INTO signals (id, source, type, severity, metadata, project_id, issue_id)
         SELECT 's' || n, 'source', 'error', 'low', '{{\"source\": \"x\", \"rawPayload\": {{}}, \"tags\": []}}', '{shop}', 'i' || n
         FROM generate_series(1, 5) AS n;
         INSERT INTO comments (id, body, issue_id, author_name, author_type, thread_id)
         SELECT 'c' || n, 'Said', 'i' || n, 'Ada', 'human', 'c' || n FROM generate_series(1, 5) AS n;
         INSERT INTO goals (id, title, metric, target_value, project_id) SELECT 'g' || n, 'Goal', 'count', 5, '{shop}' FROM generate_series(1, 5) AS n;
         INSERT INTO labels (id, name, name_key, color) SELECT 'l' || n, 'Label', n, '#d73a4a' FROM generate_series(1, 5) AS n;
         INSERT INTO projects (id, name) SELECT 'p' || n, 'Project' FROM generate_series(1, 5) AS n;
         INSERT INTO prompt_templates (id, slug, name, project_id) SELECT 't' || n, 'slug-' || n, 'Name', '{shop}' FROM generate_series(1, 5) AS n;
         INSERT INTO api_keys (id, name, prefix, key_hash, role, project_id)
         SELECT 'k' || n, 'Key', 'loop_', sha256(n::text::bytea), 'read', '{shop}' FROM generate_series(1, 5) AS n"
    );
    store.raw(&rows).await.unwrap();
    let ids = |letter: char| (1..=5).map(move |n| format!("{letter}{n}"));
    together!(store, within, issues, ids('i').map(|id| valid(&id)).collect::<Vec<_>>(), false);
    together!(store, within, signals, ids('s').map(|id| valid(&id)).collect::<Vec<_>>(), false);
    together!(store, within, comments, ids('c').map(|id| valid(&id)).collect::<Vec<_>>(), false);
    together!(store, within, goals, ids('g').map(|id| valid(&id)).collect::<Vec<_>>(), false);
    together!(store, within, labels, ids('l').map(|id| valid(&id)).collect::<Vec<_>>(), true);
    together!(store, within, projects, ids('p').map(|id| valid(&id)).collect::<Vec<_>>(), false);
    together!(store, within, templates, ids('t').map(|id| valid(&id)).collect::<Vec<_>>(), false);
    together!(store, within, api_keys, ids('k').map(|id| valid(&id)).collect::<Vec<_>>(), false);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn those_who_ask_together_are_given_up_in_time_like_all_others() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    let store = small(db.direct_url()).statement_timeout(SHORT).connect().await.unwrap();
    let locked = Locked::new(&db, "issues").await;
    let begin = std::time::Instant::now();
    for answer in join_all((0..40).map(async |_| store.issues().get(&id).await)).await {
        let error = answer.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(problem(Err::<(), _>(error)), Problem::Unavailable);
    }
    assert!((SHORT..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    nobody_is_waiting(&db, StatementMode::Prepared).await;
    locked.let_go().await;
    for answer in join_all((0..40).map(async |_| store.issues().get(&id).await)).await {
        assert_eq!(answer.unwrap().id, id);
    }
}

#[tokio::test]
async fn a_store_that_was_closed_asks_nothing_for_those_who_wait_together() {
    let db = TestDb::new().await;
    let id = issue(db.store(), "Read").await.id;
    db.store().close();
    let line = Line::to(db.direct_url()).await;
    let store = LoopStore::builder(line.url()).pool_size(1).connect().await.unwrap();
    let delay = SHORT / 2;
    line.delay(delay);
    let begin = std::time::Instant::now();
    let mut readers = [(); 5].map(|()| spawned(&store, &id)).into_iter();
    tokio::task::yield_now().await;
    store.close();
    assert_eq!(problem(store.issues().get(&id).await), Problem::Unavailable);
    let before = readers.next().unwrap();
    for reader in readers {
        assert_eq!(problem(reader.await.unwrap()), Problem::Unavailable);
    }
    assert!(begin.elapsed() < delay, "they were asked");
    assert_eq!(before.await.unwrap().unwrap().id, id, "who was on it comes to an end");
}

#[test]
fn who_asks_with_others_is_told_where_the_runtime_ends() {
    let setting = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (db, store, id) = setting.block_on(async {
        let db = TestDb::new().await;
        let id = issue(db.store(), "Read").await.id;
        db.store().close();
        let store = LoopStore::builder(db.direct_url()).pool_size(1).connect().await.unwrap();
        (db, store, id)
    });
    // Both turns are held by callers of a runtime that has ended, and so is what was to be sent.
    let (alone, together) = {
        let ending = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut readers: Vec<_> = (0..4).map(|_| Box::pin(async { store.issues().get(&id).await })).collect();
        ending.block_on(async {
            for reader in &mut readers {
                assert!(futures_util::poll!(reader).is_pending());
            }
        });
        let together = readers.split_off(2);
        (readers, together)
    };
    for answer in setting.block_on(join_all(together)) {
        assert_eq!(problem(answer), Problem::Unavailable);
    }
    drop(alone);
    let again = setting.block_on(join_all((0..4).map(async |_| store.issues().get(&id).await)));
    for answer in again {
        assert_eq!(answer.unwrap().id, id);
    }
    drop(db);
}
