//! A database per test on the embedded PostgreSQL: a data directory each, copied from one that was migrated.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    task::spawn_blocking,
    time::timeout,
};

use super::{Failure, Place, migrate, process_dir};
use crate::embedded::Embedded;

/// How many run at once. Each takes some 200 MB, and more than there are processors would only make all of them slow.
const AT_ONCE: usize = 3;
static RUNNING: Semaphore = Semaphore::const_new(AT_ONCE);
/// After this long a test goes ahead without its turn: a test that holds several databases must not wait for itself.
const TURN: Duration = Duration::from_secs(20);

/// The data directory that was migrated. The first test that needs it makes it.
static TEMPLATE: OnceCell<PathBuf> = OnceCell::const_new();

/// A database. It is stopped, and its directory removed, when this value is dropped.
pub(super) struct Database {
    // In the order in which they end.
    _server: Embedded,
    _dir: TempDir,
    _turn: Option<SemaphorePermit<'static>>,
}

impl Database {
    pub(super) async fn start(migrated: bool) -> Result<(String, usize, Place), Failure> {
        let template = if migrated { Some(TEMPLATE.get_or_try_init(make_template).await?) } else { None };
        let turn = timeout(TURN, RUNNING.acquire()).await.ok().transpose()?;
        let (server, dir) = spawn_blocking(move || {
            let dir = TempDir::new_in(root()?)?;
            if let Some(template) = template {
                copy(&template.join("cluster"), &dir.path().join("cluster"))?;
            }
            Ok::<_, Failure>((Embedded::start(dir.path())?, dir))
        })
        .await??;
        let url = server.connection_string().to_owned();
        Ok((url, 1, Place::InProcess { _database: Self { _server: server, _dir: dir, _turn: turn } }))
    }
}

/// The directory of this process, which holds those of its tests.
fn root() -> Result<PathBuf, Failure> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    ROOT.get_or_init(|| process_dir(None).map_err(|error| error.to_string())).clone().map_err(Into::into)
}

async fn make_template() -> Result<PathBuf, Failure> {
    let (server, dir) = spawn_blocking(|| {
        let dir = TempDir::new_in(root()?)?;
        Ok::<_, Failure>((Embedded::start(dir.path())?, dir))
    })
    .await??;
    migrate(server.connection_string()).await?;
    // Only what a stopped server leaves is whole.
    spawn_blocking(move || drop(server)).await?;
    Ok(dir.keep())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
