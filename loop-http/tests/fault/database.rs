//! PostgreSQL, killed, started again, and gone read-only in the middle of writes.

use std::time::{Duration, Instant};

use crate::{
    account::Told,
    load::{Load, Write, Writer},
    postgres::{Postgres, until},
};

/// How long a database that is back may take until it is written to again.
const SOON: Duration = Duration::from_secs(10);

/// Lets the database end under load, `rounds` times, and be away for a while.
async fn ends_under_load(name: &'static str, rounds: usize, end: impl Fn(&mut Postgres)) {
    let mut postgres = Postgres::start();
    let server = postgres.serve(&[]);
    let mut load = Load::start(name, 24, Writer::new(&server.address, &postgres.key));
    let mut back = Vec::new();
    for _ in 0..rounds {
        load.acknowledges(200).await;
        end(&mut postgres);
        // Long enough for every client to be refused.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(load.writer.get("/health").await.0, 200);
        assert_eq!(load.writer.get("/ready").await.0, 503);
        postgres.start_again();
        back.push(Instant::now());
        load.acknowledges(100).await;
    }
    assert_eq!(load.writer.get("/ready").await.0, 200);
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    let recovered: Vec<Duration> = back.into_iter().map(|moment| account.first_after(moment)).collect();
    account.add_note(format!("{rounds} times; written to again {recovered:.2?} after it was back"));
    assert!(!account.refused.is_empty() && account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
    assert!(recovered.iter().all(|time| *time < SOON));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_kill_of_postgresql_loses_nothing_that_was_acknowledged() {
    ends_under_load("kill -9 of PostgreSQL", 4, |postgres| postgres.server.kill_all()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_restart_of_postgresql_loses_nothing_that_was_acknowledged() {
    ends_under_load("fast restart of PostgreSQL", 4, |postgres| postgres.server.stop()).await;
}

/// The database does not go away, but ends every session and recovers, when one of its processes is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_kill_of_one_process_of_postgresql_loses_nothing_that_was_acknowledged() {
    let postgres = Postgres::start();
    let server = postgres.serve(&[]);
    let mut load = Load::start("kill -9 of a PostgreSQL backend", 24, Writer::new(&server.address, &postgres.key));
    let mut killed = Vec::new();
    for _ in 0..4 {
        load.acknowledges(200).await;
        let backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'loop' LIMIT 1";
        let pid = postgres.query(backend).await.remove(0);
        assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        killed.push(Instant::now());
    }
    load.acknowledges(200).await;
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    let recovered: Vec<Duration> = killed.windows(2).map(|kill| kill[1] - kill[0]).collect();
    account.add_note(format!("4 kills; {recovered:.2?} from one to 200 writes later"));
    assert!(account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_database_that_turns_read_only_is_read() {
    let postgres = Postgres::start();
    let server = postgres.serve(&[]);
    let mut load = Load::start("a database that turns read-only", 16, Writer::new(&server.address, &postgres.key));
    load.acknowledges(100).await;
    let set = async |value: &str| {
        // Which is not writing, for PostgreSQL.
        postgres.query(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).await;
        postgres.query("SELECT pg_reload_conf()").await;
    };
    set("on").await;
    let refused = async || matches!(load.writer.write(Write::Issue(usize::MAX)).await, Told::Refused);
    until("writes are refused", SOON, refused).await;
    for path in ["/api/v1/issues", "/api/v1/signals?total=true", "/health"] {
        assert_eq!(load.writer.get(path).await.0, 200, "{path}");
    }
    set("off").await;
    let fixed = Instant::now();
    load.acknowledges(100).await;
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    let recovered = account.first_after(fixed);
    account.add_note(format!("written to again {recovered:.2?} after it was mended"));
    assert!(!account.refused.is_empty() && account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
    let log = server.stop().stderr;
    assert!(log.contains("in a read-only transaction"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_standby_is_read_until_it_is_promoted() {
    let primary = Postgres::start();
    let mut standby = primary.server.standby();
    standby.start(&["hot_standby=on"]);
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", standby.port());
    let server = primary.serve(&[("DATABASE_URL", &url)]);
    let writer = Writer::new(&server.address, &primary.key);
    assert_eq!(writer.get("/api/v1/issues").await.0, 200);
    for number in 0..4 {
        assert!(matches!(writer.write(Write::new(number)).await, Told::Refused));
    }
    standby.promote();
    let promoted = until("it is written to", SOON, async || matches!(writer.write(Write::Issue(4)).await, Told::Done(_))).await;
    println!("fault: a standby that is promoted: written to {promoted:.2?} after that");
    for number in 5..8 {
        assert!(matches!(writer.write(Write::new(number)).await, Told::Done(_)));
    }
}
