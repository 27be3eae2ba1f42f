//! A PostgreSQL that keeps what it acknowledged, and servers over it.

use std::time::{Duration, Instant};

use loop_core::test_util::TestServer;
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::process::{Process, run, texts};

/// Unlike that of other tests, it waits for the disk.
const DURABLE: [&str; 3] = ["fsync=on", "synchronous_commit=on", "full_page_writes=on"];

pub(crate) const SECRET: &str = "secret of GitHub's webhooks";

/// A server of PostgreSQL of a test's own, migrated, with a key of the API.
pub(crate) struct Postgres {
    pub(crate) server: TestServer,
    pub(crate) key: String,
    dir: TempDir,
}

impl Postgres {
    pub(crate) fn start() -> Self {
        Self::on(TestServer::new())
    }

    /// On a server that was prepared, and is not started yet.
    pub(crate) fn on(mut server: TestServer) -> Self {
        server.start(&DURABLE);
        let mut postgres = Self { server, key: String::new(), dir: TempDir::new().unwrap() };
        let url = postgres.url();
        postgres.key = prepare(&[("DATABASE_URL", &url)]);
        postgres
    }

    pub(crate) fn start_again(&mut self) {
        self.server.start(&DURABLE);
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.server.port())
    }

    /// A server of Loop over it, with these settings besides.
    pub(crate) fn serve(&self, settings: &[(&str, &str)]) -> Process {
        let url = self.url();
        let usual = [("DATABASE_URL", url.as_str()), ("GITHUB_WEBHOOK_SECRET", SECRET)];
        Process::serve(&[&usual, settings].concat(), self.dir.path())
    }

    /// The first column of what a query answers, on a connection of its own.
    pub(crate) async fn query(&self, sql: &str) -> Vec<String> {
        query(&self.url(), sql).await
    }
}

/// Migrates a database, and makes a key.
pub(crate) fn prepare(variables: &[(&str, &str)]) -> String {
    let migrated = run(&["migrate"], variables);
    assert!(migrated.status.success(), "{}", texts(&migrated).1);
    texts(&run(&["keys", "create", "--name", "faults", "--role", "admin"], variables)).0.trim().to_owned()
}

pub(crate) async fn query(url: &str, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let rows = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    drop(client);
    connection.await.unwrap().unwrap();
    let first = |message| if let SimpleQueryMessage::Row(row) = message { Some(row.get(0)?.to_owned()) } else { None };
    rows.into_iter().filter_map(first).collect()
}

/// Asks until something is so, and answers how long that took.
pub(crate) async fn until(what: &str, limit: Duration, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < limit, "after {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// A table that nobody else may use.
pub(crate) struct Locked {
    client: tokio_postgres::Client,
    connection: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Postgres {
    /// Keeps everybody from the issues.
    pub(crate) async fn lock(&self) -> Locked {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute("BEGIN; LOCK TABLE issues").await.unwrap();
        Locked { client, connection }
    }

    /// How many sessions wait for a lock.
    pub(crate) async fn waiting(&self) -> usize {
        self.query("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").await[0].parse().unwrap()
    }
}

impl Locked {
    pub(crate) async fn free(self) {
        self.client.batch_execute("ROLLBACK").await.unwrap();
        drop(self.client);
        self.connection.await.unwrap().unwrap();
    }
}
