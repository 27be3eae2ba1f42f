//! A database per test on the embedded PostgreSQL: a data directory each, which is made to equal one that was prepared.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    task::spawn_blocking,
    time::timeout,
};

use super::{Failure, Made, Place, migrate, process_dir};
use crate::embedded::{Embedded, EmbeddedError};

/// How many run at once. Each takes some 200 MB, and more than there are processors would only make all of them slow.
const AT_ONCE: usize = 3;
static RUNNING: Semaphore = Semaphore::const_new(AT_ONCE);
/// After this long a test goes ahead without its turn: a test that holds several databases must not wait for itself.
const TURN: Duration = Duration::from_secs(20);

/// Data directories with an empty database and with a migrated one. The first test that needs one makes it.
static EMPTY: OnceCell<PathBuf> = OnceCell::const_new();
static MIGRATED: OnceCell<PathBuf> = OnceCell::const_new();

/// Directories of tests that have ended. File systems are slow to delete and create a thousand files for every test.
static FREE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A database. It is stopped when this value is dropped.
pub(super) struct Database {
    server: Option<Embedded>,
    dir: PathBuf,
    _turn: Option<SemaphorePermit<'static>>,
}

impl Database {
    pub(super) async fn start(migrated: bool) -> Result<Made, Failure> {
        let template = if migrated {
            MIGRATED.get_or_try_init(|| make_template(true)).await?
        } else {
            EMPTY.get_or_try_init(|| make_template(false)).await?
        };
        let turn = timeout(TURN, RUNNING.acquire()).await.ok().transpose()?;
        let (server, dir) = spawn_blocking(|| start_as(template)).await??;
        let url = server.connection_string().to_owned();
        let place = Place::InProcess { _database: Self { server: Some(server), dir, _turn: turn } };
        Ok(Made { direct_url: url.clone(), url, max_connections: 1, place })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.server.take());
        free().push(std::mem::take(&mut self.dir));
    }
}

fn free() -> MutexGuard<'static, Vec<PathBuf>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server on a directory that equals the template.
fn start_as(template: &Path) -> Result<(Embedded, PathBuf), Failure> {
    loop {
        let reused = free().pop();
        let dir = reused.map_or_else(new_dir, Ok)?;
        equalize(&template.join("cluster"), &dir.join("cluster"))?;
        match Embedded::start(&dir) {
            // A statement of a test that has ended still runs there: the directory is given up.
            Err(EmbeddedError::Locked { .. }) => {}
            started => return Ok((started?, dir)),
        }
    }
}

async fn make_template(migrated: bool) -> Result<PathBuf, Failure> {
    let (server, dir) = spawn_blocking(|| {
        let dir = new_dir()?;
        Ok::<_, Failure>((Embedded::start(&dir)?, dir))
    })
    .await??;
    if migrated {
        migrate(server.connection_string()).await?;
    }
    // Only what a stopped server leaves is whole.
    spawn_blocking(move || drop(server)).await?;
    Ok(dir)
}

/// A new directory within that of this process.
fn new_dir() -> Result<PathBuf, Failure> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| process_dir(None).map_err(|error| error.to_string())).clone()?;
    Ok(tempfile::Builder::new().prefix("").tempdir_in(root)?.keep())
}

/// Makes a directory equal to another one. A file with the same size and time is taken to be the same: whoever writes to a copy gives
/// it a new time.
fn equalize(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let path = entry?.path();
        let twin = path.file_name().map(|name| from.join(name));
        if twin.is_none_or(|twin| !twin.exists()) {
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            equalize(&entry.path(), &target)?;
            continue;
        }
        let same = |there: &fs::Metadata| there.len() == metadata.len() && there.modified().ok() == metadata.modified().ok();
        if !fs::metadata(&target).is_ok_and(|there| same(&there)) {
            fs::copy(entry.path(), &target)?;
            File::options().write(true).open(&target)?.set_modified(metadata.modified()?)?;
        }
    }
    Ok(())
}
