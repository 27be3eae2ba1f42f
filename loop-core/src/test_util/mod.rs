//! Databases for tests: every [`TestDb`] is a database of its own, on whatever PostgreSQL there is.
//!
//! `LOOP_TEST_DATABASE` chooses: `postgres` is a real server, `pgbouncer` a throwaway one behind a PgBouncer in transaction mode, `embedded`
//! the one inside the process. Unset, it is the server at `LOOP_TEST_DATABASE_URL`, else a throwaway server of the PostgreSQL that is
//! installed, else the embedded one. A choice that cannot be had panics: a test never passes because there was nothing to test on.

pub mod arbitrary;
mod choice;
mod cluster;
#[cfg(feature = "embedded")]
mod in_process;
mod line;
#[cfg(unix)]
mod pgbouncer;
mod server;
mod watchdog;

use std::{
    error::Error as StdError,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use self::choice::Choice;
#[cfg(unix)]
pub use self::pgbouncer::PgBouncer;
pub use self::{cluster::TestServer, line::Line};
use crate::{LoopStore, error::Chain};

pub use self::choice::row_security;

/// A database of one test. It is removed on drop.
///
/// It belongs to the runtime of the test that made it, as its connections do.
pub struct TestDb {
    // Dropped first, so that its connections are closed when the database goes.
    store: LoopStore,
    made: Made,
}

/// A database, and how to reach it.
struct Made {
    url: String,
    /// Past a pooler, if there is one.
    direct_url: String,
    max_connections: usize,
    #[expect(dead_code, reason = "it is there to be dropped")]
    place: Place,
}

/// What ends a database.
enum Place {
    Server {
        _database: server::Database,
    },
    #[cfg(feature = "embedded")]
    InProcess {
        _database: in_process::Database,
    },
}

/// Anything that keeps a test from its database.
type Failure = Box<dyn StdError + Send + Sync>;

impl TestDb {
    /// A migrated database without rows.
    ///
    /// # Panics
    ///
    /// If there is no PostgreSQL to be had, or not the one that `LOOP_TEST_DATABASE` asks for.
    pub async fn new() -> Self {
        Self::create(true).await
    }

    /// A database without any table.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub async fn unmigrated() -> Self {
        Self::create(false).await
    }

    async fn create(migrated: bool) -> Self {
        match Self::try_create(migrated).await {
            Ok(db) => db,
            Err(error) => panic!("no database for this test: {}", Chain(&*error)),
        }
    }

    async fn try_create(migrated: bool) -> Result<Self, Failure> {
        let made = match choice::choice()? {
            Choice::Url(url) => server::Database::at_url(url, migrated).await?,
            Choice::Cluster(binaries) => server::Database::on_cluster(binaries, migrated, false).await?,
            Choice::Pooled(binaries) => server::Database::on_cluster(binaries, migrated, true).await?,
            #[cfg(feature = "embedded")]
            Choice::Embedded => in_process::Database::start(migrated).await?,
        };
        let store = LoopStore::builder(&made.url).pool_size(made.max_connections.min(4)).connect().await?;
        Ok(Self { store, made })
    }

    /// A store on it: with four connections, or with one where there can be no more.
    pub fn store(&self) -> &LoopStore {
        &self.store
    }

    /// Its connection string, for a store or a connection of the test's own.
    pub fn url(&self) -> &str {
        &self.made.url
    }

    /// Its connection string past the pooler that the tests run through, if they do: for what needs a session of its own.
    pub fn direct_url(&self) -> &str {
        &self.made.direct_url
    }

    /// How many connections it takes at once. On the embedded PostgreSQL it is one, and [`store`](Self::store) has it.
    pub fn max_connections(&self) -> usize {
        self.made.max_connections
    }
}

impl fmt::Debug for TestDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDb").field("url", &self.made.url).finish_non_exhaustive()
    }
}

/// Brings a database to the newest schema, and leaves no connection to it.
async fn migrate(url: &str) -> Result<(), Failure> {
    let store = LoopStore::builder(url).pool_size(1).connect().await?;
    store.migrate().await?;
    store.close();
    Ok(())
}

/// A directory for this process, which something removes when the process has ended, however it ends.
fn process_dir(owner: Option<cluster::Owner>) -> Result<PathBuf, Failure> {
    let temp = std::env::temp_dir();
    let parent = if has_room(Path::new("/dev/shm")) {
        Path::new("/dev/shm")
    } else if cfg!(unix) && (owner.is_some() || temp.as_os_str().len() > 60) {
        // Another user has to reach it, and a socket has to fit into a path of about a hundred bytes.
        Path::new("/tmp")
    } else {
        &temp
    };
    let dir = tempfile::Builder::new().prefix("loop-test-").tempdir_in(parent)?.keep();
    watchdog::remove_after_this_process(&dir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        // The server asks nobody for a password.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        if let Some(owner) = owner {
            chown(&dir, Some(owner.uid), Some(owner.gid))?;
        }
    }
    Ok(dir)
}

/// Whether this is a file system in memory with some room. A database is hundreds of files, and disks (ext4 above all) become several
/// times slower while many are created and deleted.
fn has_room(dir: &Path) -> bool {
    const GIGABYTE_IN_KILOBYTES: u64 = 1024 * 1024;
    let Ok(output) = Command::new("df").arg("-Pk").arg(dir).output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<&str> = text.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    matches!(fields[..], ["tmpfs", _, _, free, ..] if free.parse().is_ok_and(|free: u64| free > GIGABYTE_IN_KILOBYTES))
}
