//! A throwaway PostgreSQL server, one per process, from the binaries that are installed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use super::{Failure, process_dir};

/// How many connections the server takes. Every test has a few, and they run in parallel.
pub(super) const MAX_CONNECTIONS: usize = 200;

/// Nothing in it outlives the tests, so nothing waits for a disk; and no vacuum comes between them.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=64MB",
    "max_wal_size=256MB",
    "autovacuum=off",
    "timezone=UTC",
    "max_connections=200",
];

/// The user that runs the server where this process is root, because PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The directory of the running server: its socket is in it. The first call starts the server, which the watchdog stops.
pub(super) fn socket_dir(binaries: &Path) -> Result<PathBuf, Failure> {
    static DIR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    DIR.get_or_init(|| launch(binaries).map_err(|error| error.to_string())).clone().map_err(Into::into)
}

fn launch(binaries: &Path) -> Result<PathBuf, Failure> {
    let owner = owner()?;
    let dir = process_dir(owner)?;
    initialize(binaries, &dir, owner)?;
    start(binaries, &dir, owner)?;
    Ok(dir)
}

fn initialize(binaries: &Path, dir: &Path, owner: Option<Owner>) -> Result<(), Failure> {
    let mut failure = String::new();
    // The second is for systems that do not know the first. With the C locale, lower() would know ASCII alone.
    for locale in ["C.UTF-8", "en_US.UTF-8"] {
        let output = command(&binaries.join("initdb"), dir, owner)
            .arg("-D")
            .arg(dir.join("data"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions", "--locale", locale])
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        failure = String::from_utf8_lossy(&output.stderr).into_owned();
    }
    Err(format!("initdb failed: {failure}").into())
}

fn start(binaries: &Path, dir: &Path, owner: Option<Owner>) -> Result<(), Failure> {
    let log = dir.join("log");
    let mut postgres = command(&binaries.join("postgres"), dir, owner);
    postgres.arg("-D").arg(dir.join("data")).arg("-k").arg(dir);
    for setting in SETTINGS {
        postgres.args(["-c", setting]);
    }
    let mut server = postgres.stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
    wait_until_ready(&mut server, dir)
        .map_err(|error| format!("{error}; the server's log: {}", fs::read_to_string(&log).unwrap_or_default()).into())
}

/// The server writes its state into the eighth line of its pid file, which is what `pg_ctl` waits for.
fn wait_until_ready(server: &mut Child, dir: &Path) -> Result<(), Failure> {
    let pid_file = dir.join("data/postmaster.pid");
    let started = Instant::now();
    while started.elapsed() < Duration::from_mins(1) {
        if fs::read_to_string(&pid_file).is_ok_and(|text| text.lines().nth(7).is_some_and(|state| state.trim() == "ready")) {
            return Ok(());
        }
        if let Some(status) = server.try_wait()? {
            return Err(format!("the server ended with {status}").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err("the server was not ready within a minute".into())
}

/// A command that runs as the owner, and out of reach of what is sent to the group of the tests.
fn command(program: &Path, dir: &Path, owner: Option<Owner>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).stdin(Stdio::null());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        command.process_group(0);
        if let Some(owner) = owner {
            command.uid(owner.uid).gid(owner.gid);
        }
    }
    #[cfg(not(unix))]
    let _ = owner;
    command
}

#[cfg(unix)]
fn owner() -> Result<Option<Owner>, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of a file that this process makes is the user that it runs as.
    if tempfile::tempfile()?.metadata()?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let find = |name| {
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| match fields[..] {
            [user, _, uid, gid, ..] if user == name => Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? }),
            _ => None,
        })
    };
    let owner = find("postgres").or_else(|| find("nobody"));
    owner.map(Some).ok_or_else(|| "PostgreSQL does not run as root, and there is no user `postgres` to run it as".into())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other systems can fail")]
fn owner() -> Result<Option<Owner>, Failure> {
    Ok(None)
}
