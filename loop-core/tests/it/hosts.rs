//! Several hosts: the primary is found, also after another one has become it, and a replica is asked only where it is asked for.

use std::time::{Duration, Instant};

use loop_core::{
    Error, IssueFilter, IssueId, LoopStore, NewSignal, Severity, StatementMode,
    test_util::{Line, TestServer},
};
use tokio::net::TcpListener;

use crate::support::{everything, issue, new_issue, one, valid};

/// A primary with these settings, and its standby.
fn replicated(settings: &[&str]) -> (TestServer, TestServer) {
    let mut primary = TestServer::new();
    primary.start(settings);
    let mut standby = primary.standby();
    standby.start(&[]);
    (primary, standby)
}

/// What is acknowledged is what the standby has seen.
const SYNCHRONOUS: &[&str] = &["synchronous_commit=remote_apply", "synchronous_standby_names=*"];

fn url(servers: [&TestServer; 2], settings: &str) -> String {
    let [first, second] = servers.map(TestServer::port);
    format!("postgres://postgres@127.0.0.1:{first},127.0.0.1:{second}/postgres?sslmode=disable&{settings}")
}

async fn is_standby(store: &LoopStore) -> bool {
    one(store, "SELECT pg_is_in_recovery()").await == "t"
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn the_store_finds_the_primary_also_after_a_failover() {
    let (mut primary, standby) = replicated(SYNCHRONOUS);
    for attrs in ["read-write", "primary"] {
        for servers in [[&primary, &standby], [&standby, &primary]] {
            let store = LoopStore::connect(&url(servers, &format!("target_session_attrs={attrs}"))).await.unwrap();
            assert!(!is_standby(&store).await, "{attrs}");
        }
    }
    let store = LoopStore::builder(&url([&primary, &standby], "target_session_attrs=read-write")).pool_size(4).build().unwrap();
    store.migrate().await.unwrap();

    // Signals arrive all the while, each until it is taken in.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let arriving = tokio::spawn({
        let store = store.clone();
        async move {
            let mut taken = Vec::<IssueId>::new();
            let mut refusals = 0;
            while !*stopped.borrow() {
                let signal = NewSignal::new(valid("monitor"), valid("tick"), Severity::Low, valid("{}"));
                match store.signals().ingest(signal).await {
                    Ok(ingested) => taken.push(ingested.issue.id),
                    Err(error) => {
                        assert!(error.is_retryable(), "{error:?}");
                        refusals += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            (taken, refusals)
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::task::block_in_place(|| {
        primary.kill();
        standby.promote();
    });
    let promoted = Instant::now();
    while let Err(error) = store.issues().create(new_issue("After")).await {
        assert!(error.is_retryable() && promoted.elapsed() < Duration::from_secs(5), "{error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(true).unwrap();
    let (taken, refusals) = arriving.await.unwrap();
    assert!(refusals > 0 && taken.len() > 10, "{refusals} refusals, {} taken in", taken.len());
    // What was acknowledged is there.
    for id in &taken {
        store.issues().get(id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_primary_that_becomes_a_standby_is_left() {
    let (mut primary, mut standby) = replicated(SYNCHRONOUS);
    let store = LoopStore::builder(&url([&primary, &standby], "target_session_attrs=read-write")).pool_size(1).build().unwrap();
    store.migrate().await.unwrap();
    // As a cluster manager does it that turns the two around while nobody is asking.
    primary.stop();
    standby.promote();
    let mut demoted = standby.standby();
    demoted.start(&[]);
    issue(&store, "On the new primary").await;
    standby.stop();
    // And where only a standby is left, there is nothing to write to.
    let error = store.issues().create(new_issue("Nowhere")).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    let causes = format!("{:?}", std::error::Error::source(&error).unwrap());
    assert!(causes.contains(&standby.port().to_string()), "each host is named: {causes}");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_replica_is_asked_only_where_it_is_asked_for() {
    let (primary, standby) = replicated(&[]);
    let urls = (url([&primary, &standby], "target_session_attrs=primary"), url([&primary, &standby], "target_session_attrs=standby"));
    assert!(LoopStore::builder(&urls.0).build().unwrap().replica().is_none());
    for mode in [StatementMode::Prepared, StatementMode::Unnamed] {
        let store = LoopStore::builder(&urls.0).replica(&urls.1).statement_mode(mode).build().unwrap();
        store.migrate().await.unwrap();
        let replica = store.replica().unwrap();
        assert!(is_standby(&replica).await && !is_standby(&store).await);
        let project = crate::support::project(&store, "Shop").await.id;
        let shop = store.within(project.clone());
        assert_eq!(shop.replica().unwrap().scope(), Some(&project));

        // It lags as far as it likes, and nobody who did not ask for it sees that.
        let control = LoopStore::connect(&standby.url()).await.unwrap();
        arrives(async || replica.projects().get(&project).await.map(drop)).await;
        control.raw("SELECT pg_wal_replay_pause()").await.unwrap();
        while one(&control, "SELECT pg_get_wal_replay_pause_state()").await != "paused" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let id = issue(&store, "Ahead").await.id;
        assert_eq!(store.issues().get(&id).await.unwrap().id, id);
        assert!(matches!(replica.issues().get(&id).await, Err(Error::NotFound { .. })));
        control.raw("SELECT pg_wal_replay_resume()").await.unwrap();
        arrives(async || replica.issues().get(&id).await.map(drop)).await;
        assert_eq!(replica.issues().list(&IssueFilter::default(), &everything()).await.unwrap().data[0].id, id);

        for written in [
            replica.issues().create(new_issue("Lost")).await.map(drop),
            replica.issues().delete(&id).await,
            replica.transaction(async |tx| tx.issues().create(new_issue("Lost")).await.map(drop)).await,
        ] {
            let error = written.unwrap_err();
            assert!(matches!(error, Error::ReadOnly { .. }) && !error.is_retryable(), "{mode:?}: {error:?}");
        }
    }
}

/// That the standby comes to see something.
async fn arrives(see: impl AsyncFn() -> Result<(), Error>) {
    let begin = Instant::now();
    while let Err(error) = see().await {
        assert!(begin.elapsed() < Duration::from_secs(10), "{error:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Also where the replica is the primary itself, as in a test or before there is one.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn nothing_is_written_through_a_replica_that_could() {
    let db = loop_core::test_util::TestDb::new().await;
    for mode in [StatementMode::Prepared, StatementMode::Unnamed] {
        let url = db.direct_url();
        let store = LoopStore::builder(url).replica(url).statement_mode(mode).connect().await.unwrap();
        let id = issue(&store, "There").await.id;
        let replica = store.replica().unwrap();
        assert_eq!(replica.issues().get(&id).await.unwrap().id, id);
        assert!(matches!(replica.issues().delete(&id).await, Err(Error::ReadOnly { .. })), "{mode:?}");
        assert!(matches!(replica.migrate().await, Err(Error::ReadOnly { .. })), "{mode:?}");
        store.issues().get(&id).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_host_that_says_nothing_does_not_take_the_time_of_the_next() {
    let db = loop_core::test_util::TestDb::new().await;
    let line = Line::to(db.url()).await;
    // It lets everybody in and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url =
        line.url().replace("host=127.0.0.1 port=", &format!("host=127.0.0.1,127.0.0.1 port={},", silent.local_addr().unwrap().port()));
    let begin = Instant::now();
    let store = LoopStore::builder(&url).connect_timeout(Duration::from_millis(300)).connect().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    drop(store);
    // The one that served last is asked first, where only one can.
    let url = format!("{url} target_session_attrs=read-write");
    let store = LoopStore::builder(&url).connect_timeout(Duration::from_secs(1)).pool_size(2).connect().await.unwrap();
    let begin = Instant::now();
    futures_util::try_join!(store.ping(), store.ping()).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(line.connections(), 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_replica_that_is_promoted_meanwhile_is_not_written_to() {
    let (mut primary, standby) = replicated(SYNCHRONOUS);
    let urls = (url([&primary, &standby], "target_session_attrs=primary"), url([&primary, &standby], "target_session_attrs=standby"));
    let store = LoopStore::builder(&urls.0).replica(&urls.1).pool_size(1).build().unwrap();
    store.migrate().await.unwrap();
    let id = issue(&store, "There").await.id;
    let replica = store.replica().unwrap();
    arrives(async || replica.issues().get(&id).await.map(drop)).await;
    tokio::task::block_in_place(|| {
        primary.kill();
        standby.promote();
    });
    // On the very session that it had before.
    assert!(!is_standby(&replica).await);
    assert!(matches!(replica.issues().delete(&id).await, Err(Error::ReadOnly { .. })));
    store.issues().get(&id).await.unwrap();
}

#[test]
fn a_replica_is_no_primary() {
    let url = "postgres://u@h/d";
    let builder = LoopStore::builder(url).replica("postgres://u@h/d?target_session_attrs=read-write");
    assert!(matches!(builder.check(), Err(Error::Configuration { setting: "target_session_attrs", .. })));
    assert!(matches!(builder.build(), Err(Error::Configuration { setting: "target_session_attrs", .. })));
}
