//! A real PostgreSQL inside the process, for first steps, development and tests without a server.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use loop_core::embedded::Embedded;
//!
//! let database = tokio::task::spawn_blocking(|| Embedded::start(".loop")).await??;
//! let url = database.connection_string();
//! # let _ = url;
//! # Ok(())
//! # }
//! ```
//!
//! It is PostgreSQL 17 compiled to WebAssembly, and its limits follow from that:
//!
//! - It serves **one connection at a time**: give a pool the size 1. A second client is refused with SQLSTATE `53300`.
//! - Statements cannot be cancelled, and `statement_timeout` has no effect. What the client gave up runs on to its end.
//! - There is no autovacuum, and no checkpoint while a connection is open: [`LoopStore::maintain`] does both.
//! - What was committed survives the death of the process at any moment, but nothing waits for the disk: after a power failure the
//!   database may be lost. Keep what must not be lost on a server.

mod cluster;
mod gate;
#[cfg(not(unix))]
#[path = "embedded/loopback_socket.rs"]
mod socket;
#[cfg(unix)]
#[path = "embedded/unix_socket.rs"]
mod socket;
mod startup;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
};

use pglite_oxide::Pglite;

use self::{gate::Server, socket::Sockets};
use crate::{Entity, Error, LoopStore};

/// A running PostgreSQL whose data lives in one directory.
///
/// It stops when it is dropped, also while a client is connected. Keep it for as long as the database is used. A statement that is
/// still running delays the drop by up to five seconds; after that it goes on to its end in the background, and keeps the lock.
#[derive(Debug)]
pub struct Embedded {
    url: String,
    _server: Server,
}

/// Why the embedded PostgreSQL did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another server, in this process or another one, holds the data directory.
    #[error("the data directory {} is in use by another server: stop that one first, or choose another directory", .dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// A file or a directory could not be used.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was being done, as in "cannot create".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The engine itself could not be made ready, for example because its cache in the user's home cannot be written.
    #[error("cannot start the embedded PostgreSQL")]
    Start {
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EmbeddedError {
    /// For `map_err`: the operation and the path are what the operating system leaves out.
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl Embedded {
    /// Starts PostgreSQL on the data directory `dir`, which is created at the first start.
    ///
    /// One server at a time uses a directory; the operating system holds the lock, so that a process that was killed leaves none. This
    /// blocks: for about half a second at the very first start on a machine, which unpacks the engine into the user's cache directory,
    /// and for less than a tenth later. In async code call it through `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Locked`] if another server uses the directory, [`EmbeddedError::Io`] if it cannot be created or written, and
    /// [`EmbeddedError::Start`] if the engine cannot be made ready.
    pub fn start(dir: impl AsRef<Path>) -> Result<Self, EmbeddedError> {
        let dir = dir.as_ref();
        create_private_dir(dir).map_err(EmbeddedError::io("create", dir))?;
        let dir = dir.canonicalize().map_err(EmbeddedError::io("open", dir))?;
        let lock = lock(&dir)?;

        // The engine is loaded beside the unpacking of the cluster, on a thread of its own also because it must not find itself within
        // the caller's async runtime.
        let (cluster, engine) = thread::scope(|scope| {
            let engine = scope.spawn(Pglite::preload);
            (cluster::prepare(&dir), engine.join())
        });
        let cluster = cluster?;
        match engine {
            Ok(loaded) => loaded.map_err(|error| EmbeddedError::Start { source: error.into() })?,
            Err(_) => return Err(EmbeddedError::Start { source: "the engine panicked while it was loaded".into() }),
        }

        let sockets = Sockets::open(&dir).map_err(EmbeddedError::io("listen in", &dir))?;
        let url = sockets.url();
        let server = Server::start(cluster, sockets, lock).map_err(EmbeddedError::io("start threads for", &dir))?;
        Ok(Self { url, _server: server })
    }

    /// Where to connect, for tokio-postgres and for [`LoopStore`] with a pool of **one** connection.
    ///
    /// On Unix it names a socket that only this user can open; elsewhere it is a port on the loopback interface.
    pub fn connection_string(&self) -> &str {
        &self.url
    }
}

fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn lock(dir: &Path) -> Result<File, EmbeddedError> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(EmbeddedError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EmbeddedError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(EmbeddedError::Io { doing: "lock", path, source }),
    }
}

impl LoopStore {
    /// Does what a PostgreSQL server does by itself, and the embedded one does not: vacuums and analyzes the tables, and writes a
    /// checkpoint. Without it the write-ahead log grows until the connection closes, and the planner knows nothing of the tables. Call it
    /// every few minutes; nothing else runs meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the connection does not come free in time, or breaks.
    pub async fn maintain(&self) -> Result<(), Error> {
        let mut connection = self.take_connection().await?;
        connection.unfinished.set(true);
        // One at a time: several in one message would be a transaction, in which neither may run.
        for statement in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
            let done = connection.client_mut()?.batch_execute(statement).await;
            done.map_err(|error| Error::from_driver(Entity::Migration, error))?;
        }
        connection.unfinished.set(false);
        Ok(())
    }
}
