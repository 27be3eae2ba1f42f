//! Disks that are full: small file systems in memory, which root alone can mount.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use loop_core::test_util::TestServer;

use crate::{
    load::{Load, Writer},
    postgres::{Postgres, query, until},
};

/// A file system of a limited size, until this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path, megabytes: usize) -> Self {
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "loop-fault"]).arg(dir).output().unwrap();
        assert!(mounted.status.success(), "only root can mount: {}", String::from_utf8_lossy(&mounted.stderr));
        Self(dir.to_owned())
    }

    fn grow(&self, megabytes: usize) {
        let grown = Command::new("mount").args(["-o", &format!("remount,size={megabytes}m")]).arg(&self.0).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// The tables are on a disk that fills up while they are written to.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server, and root"]
async fn a_full_disk_under_the_tables_refuses_writes_until_there_is_room() {
    let mut server = TestServer::new();
    let dir = tempfile::Builder::new().prefix("loop-fault-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let place = dir.path().join("small");
    std::fs::create_dir(&place).unwrap();
    let disk = SmallDisk::mount(&place, 24);
    server.own(&place);
    server.start(&[]);
    let admin = format!("postgres://postgres@127.0.0.1:{}/template1?sslmode=disable", server.port());
    query(&admin, &format!("CREATE TABLESPACE small LOCATION '{}'", place.display())).await;
    query(&admin, "ALTER DATABASE postgres SET TABLESPACE small").await;
    server.stop();
    let postgres = Postgres::on(server);

    let server = postgres.serve(&[]);
    let mut load = Load::start("a disk that is full under the tables", 16, Writer::new(&server.address, &postgres.key));
    load.acknowledges(100).await;
    // What is left of it goes at once, and then some more goes as the tables grow.
    let filler = place.join("filler");
    let output = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())).output().unwrap();
    assert!(!output.status.success());
    let since = Instant::now();
    until("writes are refused", Duration::from_secs(30), async || load.refused() >= 100).await;
    for path in ["/api/v1/issues", "/api/v1/signals", "/health", "/ready"] {
        assert_eq!(load.writer.get(path).await.0, 200, "{path}");
    }
    std::fs::remove_file(filler).unwrap();
    let mended = Instant::now();
    load.acknowledges(200).await;
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    account.add_note(format!(
        "100 refused within {:.2?}; written to again {:.2?} after there was room",
        mended.duration_since(since),
        account.first_after(mended)
    ));
    assert!(account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
    let log = server.stop().stderr;
    assert!(log.contains("No space left on device"), "{log}");
    drop(postgres);
    drop(disk);
}

/// The log that every write waits for is on a disk that fills up: then PostgreSQL ends itself, and does not start before there is room.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server, and root"]
async fn a_full_disk_under_the_log_loses_nothing_that_was_acknowledged() {
    let server = TestServer::new();
    let wal = server.data_dir().join("pg_wal");
    let kept = server.data_dir().join("pg_wal_before");
    std::fs::rename(&wal, &kept).unwrap();
    std::fs::create_dir(&wal).unwrap();
    // Two segments of 16 MB, and not three.
    let disk = SmallDisk::mount(&wal, 40);
    server.own(&wal);
    let copied = Command::new("cp").args(["-a"]).arg(format!("{}/.", kept.display())).arg(&wal).status().unwrap();
    assert!(copied.success());
    let mut postgres = Postgres::on(server);

    let server = postgres.serve(&[]);
    let mut load = Load::start("a disk that is full under PostgreSQL's log", 16, Writer::new(&server.address, &postgres.key));
    load.acknowledges(100).await;
    // What makes the log grow faster than any number of issues.
    let (client, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let ended = client.batch_execute("CREATE TABLE filler AS SELECT repeat(md5(n::text), 60) FROM generate_series(1, 40000) AS n").await;
    assert!(ended.is_err());
    drop(client);
    let _ = connection.await;
    until("writes are refused", Duration::from_secs(30), async || load.refused() >= 100).await;
    assert_eq!(load.writer.get("/health").await.0, 200);
    disk.grow(400);
    postgres.server.kill();
    postgres.start_again();
    let mended = Instant::now();
    load.acknowledges(200).await;
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    account.add_note(format!("written to again {:.2?} after there was room and it was started", account.first_after(mended)));
    assert!(account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
    drop(postgres);
    drop(disk);
}
