//! Keys that are believed for a moment: what that saves, and for how long a key still opens that no longer should.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use loop_core::{
    Error, IssuedKey, LoopStore, NewApiKey, PlaintextKey, ProjectId, Role,
    test_util::{Line, TestDb},
};

use crate::support::{project, valid};

/// How long a revoked key may open, at most.
const LIMIT: Duration = Duration::from_secs(1);
/// How often the database is asked about a key that is in use, at most.
const RENEWED: Duration = Duration::from_millis(300);

async fn key(store: &LoopStore, project_id: Option<ProjectId>) -> IssuedKey {
    let new = NewApiKey { name: valid("Key"), role: Role::Write, project_id, expires_at: None };
    store.api_keys().create(new).await.unwrap()
}

async fn opens(store: &LoopStore, plaintext: &PlaintextKey) -> bool {
    store.api_keys().authenticate_cached(plaintext).await.unwrap().is_some()
}

#[tokio::test]
async fn a_key_in_use_is_asked_about_now_and_then() {
    let db = TestDb::new().await;
    let IssuedKey { key, plaintext } = key(db.store(), None).await;
    // The first use is marked, which is another statement.
    assert!(opens(db.store(), &plaintext).await);
    db.store().close();
    let line = Line::to(db.direct_url()).await;
    let store = LoopStore::builder(line.url()).pool_size(1).connect().await.unwrap();
    line.round_trips();
    let begun = Instant::now();
    let mut uses = 0;
    while begun.elapsed() < 4 * RENEWED {
        assert_eq!(store.api_keys().authenticate_cached(&plaintext).await.unwrap().unwrap().id, key.id);
        uses += 1;
        tokio::task::yield_now().await;
    }
    let asked = line.round_trips();
    let most = usize::try_from(begun.elapsed().as_millis() / RENEWED.as_millis()).unwrap() + 1;
    assert!((2..=most).contains(&asked), "{asked} of {most}");
    assert!(uses > 100 * asked, "{uses}");
    // What opens nothing is asked about each time.
    let wrong = PlaintextKey::parse(&format!("loop_{}", "A".repeat(43))).unwrap();
    line.round_trips();
    for _ in 0..3 {
        assert!(!opens(&store, &wrong).await);
    }
    assert_eq!(line.round_trips(), 3);
}

/// Uses a key all the time, from several tasks, until told to stop.
struct Use {
    stop: Arc<AtomicBool>,
    /// Set once the key opens nothing any more.
    over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<usize>>,
}

impl Use {
    fn begin(store: &LoopStore, plaintext: &PlaintextKey) -> Self {
        let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let use_it = async |store: LoopStore, plaintext: PlaintextKey, stop: Arc<AtomicBool>, over: Arc<AtomicBool>| {
            let mut opened = 0;
            while !stop.load(Ordering::SeqCst) {
                let over = over.load(Ordering::SeqCst);
                let opens = opens(&store, &plaintext).await;
                assert!(!(over && opens), "it opens, after {opened}");
                opened += usize::from(opens);
                tokio::task::yield_now().await;
            }
            opened
        };
        let tasks = (0..8).map(|_| tokio::spawn(use_it(store.clone(), plaintext.clone(), Arc::clone(&stop), Arc::clone(&over)))).collect();
        Self { stop, over, tasks }
    }

    /// Says that the key opens nothing from now on, and sees to it.
    async fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.stop.store(true, Ordering::SeqCst);
        let mut opened = 0;
        for task in self.tasks {
            opened += task.await.unwrap();
        }
        assert!(opened > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_store_changes_holds_at_once() {
    let db = TestDb::new().await;
    let store = db.store();
    for round in 0..8 {
        let shop = project(store, "Shop").await.id;
        let IssuedKey { key, plaintext } = key(store, Some(shop.clone())).await;
        let using = Use::begin(&store.clone(), &plaintext);
        tokio::time::sleep(Duration::from_millis(50)).await;
        match round % 4 {
            0 => store.api_keys().revoke(&key.id).await.unwrap(),
            1 => drop(store.api_keys().rotate(&key.id, Duration::ZERO).await.unwrap()),
            2 => store.projects().delete(&shop).await.unwrap(),
            _ => store.transaction(async |tx| tx.api_keys().revoke(&key.id).await).await.unwrap(),
        }
        using.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn what_others_change_holds_within_a_second() {
    let db = TestDb::new().await;
    let others = LoopStore::builder(db.url()).pool_size(1).connect().await.unwrap();
    for revoked in [true, false] {
        let IssuedKey { key, plaintext } = key(db.store(), None).await;
        let using = Use::begin(db.store(), &plaintext);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if revoked {
            others.api_keys().revoke(&key.id).await.unwrap();
        } else {
            others.raw(&format!("UPDATE api_keys SET active = false WHERE id = '{}'", key.id)).await.unwrap();
        }
        tokio::time::sleep(LIMIT).await;
        using.end().await;
    }
}

#[tokio::test]
async fn a_store_that_is_bound_takes_its_own_keys_only() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, blog) = (project(store, "Shop").await.id, project(store, "Blog").await.id);
    let (of_shop, of_all) = (key(store, Some(shop.clone())).await, key(store, None).await);
    store.raw("UPDATE api_keys SET last_used_at = NULL").await.unwrap();
    assert!(!opens(&store.within(blog.clone()), &of_shop.plaintext).await);
    assert_eq!(store.api_keys().get(&of_shop.key.id).await.unwrap().last_used_at, None, "it was not used there");
    for _ in 0..2 {
        assert!(opens(store, &of_shop.plaintext).await && opens(store, &of_all.plaintext).await);
        let within = store.within(shop.clone());
        assert!(opens(&within, &of_shop.plaintext).await && !opens(&within, &of_all.plaintext).await);
        assert!(!opens(&store.within(blog.clone()), &of_shop.plaintext).await);
    }
    // A transaction asks for itself.
    let revoked = store.transaction(async |tx| -> Result<_, Error> {
        let IssuedKey { key, plaintext } =
            tx.api_keys().create(NewApiKey { name: valid("Key"), role: Role::Read, project_id: None, expires_at: None }).await?;
        let before = tx.api_keys().authenticate_cached(&plaintext).await?.is_some();
        tx.api_keys().revoke(&key.id).await?;
        Ok((before, tx.api_keys().authenticate_cached(&plaintext).await?.is_some()))
    });
    assert_eq!(revoked.await.unwrap(), (true, false));
}
