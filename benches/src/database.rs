//! The PostgreSQL that benches run on, and what is in it.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    process::Command,
};

use loop_core::{LoopStore, test_util::TestServer};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};
use url::Url;

use crate::{is_test, pair::variable};

/// As a server has them that keeps what it acknowledged; the memory is that of a small one.
const SETTINGS: [&str; 8] = [
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "autovacuum=on",
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "checkpoint_timeout=30min",
    "max_connections=100",
];

/// What is printed of a server.
const SHOWN: [&str; 12] = [
    "server_version",
    "shared_buffers",
    "work_mem",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "max_wal_size",
    "autovacuum",
    "jit",
    "max_connections",
    "data_directory",
];

/// Where the data of a server of a bench's own is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory, where the system has a file system there: nothing waits for a disk, so what the client costs shows most.
    Memory,
    /// On a disk, for what is about writing.
    Disk,
}

/// The most issues that are asked for, if that is said: `LOOP_BENCH_ROWS`.
pub fn asked_rows() -> Option<u32> {
    variable("LOOP_BENCH_ROWS").map(|rows| rows.parse().unwrap())
}

/// The most issues of a bench, a million unless something else is asked for; a thousand where everything is only tried.
pub fn largest() -> u32 {
    asked_rows().unwrap_or(if is_test() { 1000 } else { 1_000_000 })
}

/// The server that `LOOP_BENCH_DATABASE_URL` names, as a superuser, or one of its own that ends with it.
pub struct Server {
    url: Url,
    // In this order: the server ends before its directory goes.
    own: Option<(TestServer, Option<TempDir>)>,
    /// How much of its log was read.
    read: u64,
}

/// A database of a bench: migrated and filled. It stays until the next of its name.
pub struct Database {
    name: String,
    url: String,
}

impl Server {
    /// Finds or starts it, and prints its settings.
    pub async fn start(place: Place) -> Self {
        if let Some(url) = variable("LOOP_BENCH_DATABASE_URL") {
            return Self::at(url.parse().unwrap(), None).await;
        }
        pin_to_core();
        Self::own(place, &[]).await
    }

    /// A server of its own, with these settings besides.
    pub async fn own(place: Place, settings: &[&str]) -> Self {
        let mut server = TestServer::new();
        let dir = (place == Place::Disk).then(|| move_to_disk(&server));
        server.start(&[&SETTINGS, settings].concat());
        Self::at(server.url().parse().unwrap(), Some((server, dir))).await
    }

    async fn at(url: Url, own: Option<(TestServer, Option<TempDir>)>) -> Self {
        let settings = SHOWN.map(|name| format!("'{name}'")).join(", ");
        let shown =
            format!("SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY name) FROM unnest(ARRAY[{settings}]) AS name");
        let settings: String = connect(url.as_str()).await.query_one(&shown, &[]).await.unwrap().get(0);
        println!("PostgreSQL: {settings}");
        Self { url, own, read: 0 }
    }

    /// What the server wrote since this was asked last, if it is one of its own.
    pub fn log(&mut self) -> String {
        let (server, _) = self.own.as_ref().unwrap();
        let mut log = File::open(server.data_dir().with_file_name("log")).unwrap();
        log.seek(SeekFrom::Start(self.read)).unwrap();
        let mut text = String::new();
        self.read += u64::try_from(log.read_to_string(&mut text).unwrap()).unwrap();
        text
    }

    /// A database with that many issues, and as many signals.
    pub async fn filled(&self, name: &str, issues: u32) -> Database {
        let database = self.create(name, "template0").await;
        let store = database.store().await;
        store.migrate().await.unwrap();
        store.close();
        let client = database.client().await;
        client.batch_execute(&include_str!("fill.sql").replace(":issues", &issues.to_string())).await.unwrap();
        // Not in one message, which would be a transaction.
        client.batch_execute("VACUUM ANALYZE").await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        database
    }

    /// A copy of a database that nobody is connected to.
    pub async fn copy(&self, name: &str, original: &Database) -> Database {
        self.create(name, &original.name).await
    }

    async fn create(&self, name: &str, template: &str) -> Database {
        let name = format!("loop_bench_{}", name.to_lowercase());
        let admin = connect(self.url.as_str()).await;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
        let mut url = self.url.clone();
        url.set_path(&name);
        Database { url: url.into(), name }
    }
}

impl Database {
    /// A store with one connection.
    pub async fn store(&self) -> LoopStore {
        LoopStore::builder(&self.url).pool_size(1).connect().await.unwrap()
    }

    /// A connection of the driver's.
    pub async fn client(&self) -> Client {
        connect(&self.url).await
    }
}

/// Keeps this thread, and a server that it starts, on one core. Else a ratio would say most of which core the process of each connection happens
/// to be on, and how long another core takes to wake.
pub fn pin_to_core() {
    let core = core_affinity::get_core_ids().and_then(|cores| cores.last().copied());
    if !core.is_some_and(core_affinity::set_for_current) {
        println!("This thread cannot be kept on a core, so ratios vary from run to run.");
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Moves the data of a server that is not started yet to a disk, in place of the memory that tests like to have.
fn move_to_disk(server: &TestServer) -> TempDir {
    // It is removed with what drops it, or by what watches over the server's directory, which follows the link.
    // What is here outlives a start of the system, so it is no file system in memory.
    let dir = tempfile::Builder::new().prefix("loop-bench-").tempdir_in("/var/tmp").unwrap();
    server.own(dir.path());
    let copied = Command::new("cp").arg("-a").arg(server.data_dir().join(".")).arg(dir.path()).status().unwrap();
    assert!(copied.success(), "the data was not copied");
    fs::remove_dir_all(server.data_dir()).unwrap();
    std::os::unix::fs::symlink(dir.path(), server.data_dir()).unwrap();
    dir
}
