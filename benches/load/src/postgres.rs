//! A PostgreSQL of the harness's own, on a disk and waiting for it, as one in production does.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// What is not PostgreSQL's default. Who waits for the disk is: `fsync`, `synchronous_commit` and `full_page_writes` are on.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "max_connections=400",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "timezone=UTC",
    "logging_collector=on",
    "log_destination=jsonlog",
    "log_directory=log",
    "log_filename=statements",
];

/// The settings that the report shows.
const SHOWN: &[&str] = &[
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "max_connections",
    "jit",
    "autovacuum",
    "plan_cache_mode",
];

/// Stops the server and removes its directory when the pipe ends, however this process does.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
cat
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
[ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
rm -rf "$1"
"#;

/// A running server. It ends with this process.
pub(crate) struct Postgres {
    binaries: PathBuf,
    dir: PathBuf,
    port: u16,
    postmaster: Child,
    watchdog: Option<(Child, ChildStdin)>,
}

impl Postgres {
    /// Starts one, in a directory under `parent`.
    pub(crate) fn start(parent: &Path) -> Result<Self> {
        let binaries = binaries().context("PostgreSQL's programs are not in the PATH, nor where Debian puts them")?;
        fs::create_dir_all(parent)?;
        let dir = TempDir::with_prefix_in("postgres-", parent)?.keep();
        let mut watchdog =
            Command::new("/bin/sh").args(["-c", WATCHDOG, "load-watchdog"]).arg(&dir).stdin(Stdio::piped()).process_group(0).spawn()?;
        let pipe = watchdog.stdin.take().context("the watchdog has no pipe")?;
        let watchdog = Some((watchdog, pipe));

        let owner = owner(&dir)?;
        let command = |program: &str| {
            let mut command = Command::new(binaries.join(program));
            command.current_dir(&dir).stdin(Stdio::null()).process_group(0);
            if let Some((uid, gid)) = owner {
                command.uid(uid).gid(gid);
            }
            command
        };
        let data = dir.join("data");
        let made = command("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-instructions"])
            .output()
            .context("initdb; PostgreSQL's user must be able to enter the directory")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let port = free_port()?;
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(&dir).arg("-p").arg(port.to_string());
        for setting in SETTINGS {
            postgres.args(["-c", setting]);
        }
        let postmaster = postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { binaries, dir, port, postmaster, watchdog };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            let state = fs::read_to_string(self.dir.join("data/postmaster.pid"));
            if state.is_ok_and(|text| text.lines().nth(7).is_some_and(|state| state.trim() == "ready")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("PostgreSQL did not start within 30 seconds")
    }

    /// The connection string, over TCP as a server beside its database has it.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.postmaster.id()
    }

    /// One of its programs, set to connect to it.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p"]).arg(self.port.to_string());
        command
    }

    /// A connection.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Its version, and the settings that matter to what is measured.
    pub(crate) async fn settings(&self, client: &Client) -> Result<Vec<(String, String)>> {
        let mut settings = Vec::new();
        for name in ["server_version"].iter().chain(SHOWN) {
            let row = client.query_one("SELECT current_setting($1)", &[name]).await?;
            settings.push(((*name).to_owned(), row.get(0)));
        }
        Ok(settings)
    }

    /// The log of statements, where it was switched on.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("data/log/statements.json"))?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some((mut watchdog, mut pipe)) = self.watchdog.take() else { return };
        let _ = pipe.flush();
        drop(pipe);
        let _ = self.postmaster.wait();
        let _ = watchdog.wait();
    }
}

/// The directory with `postgres` and `pgbench`: the newest of Debian's, else that of the PATH.
fn binaries() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| (0, dir)).collect::<Vec<_>>();
    let mut places: Vec<_> =
        debian.chain(in_path).filter(|(_, dir)| ["initdb", "postgres", "pgbench"].iter().all(|name| dir.join(name).is_file())).collect();
    places.sort_by_key(|(version, _)| *version);
    places.pop().map(|(_, dir)| dir)
}

/// Gives the directory to the user `postgres` where this process is root, as whom PostgreSQL does not run.
fn owner(dir: &Path) -> Result<Option<(u32, u32)>> {
    if fs::metadata(dir)?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let fields: Vec<&str> = line.context("PostgreSQL does not run as root, and there is no user `postgres`")?.split(':').collect();
    let [_, uid, gid, ..] = fields[..] else { bail!("/etc/passwd cannot be read") };
    let owner = (uid.parse()?, gid.parse()?);
    chown(dir, Some(owner.0), Some(owner.1))?;
    Ok(Some(owner))
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
