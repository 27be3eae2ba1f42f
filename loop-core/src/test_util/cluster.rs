//! Throwaway PostgreSQL servers, from the binaries that are installed: the one that the tests of a process share, and those of single tests.

use std::{
    fmt,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use super::{Failure, choice, process_dir};

/// How many connections a server takes. Every test has a few, and they run in parallel.
pub(super) const MAX_CONNECTIONS: usize = 200;

/// Nothing in it outlives the tests, so nothing waits for a disk; and no vacuum comes between them.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=64MB",
    "max_wal_size=256MB",
    "autovacuum=off",
    "timezone=UTC",
    "max_connections=200",
];

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// The user that runs the server where this process is root, because PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The server that all tests share. The first call starts it, and the watchdog stops it.
pub(super) fn shared(binaries: &Path) -> Result<&'static TestServer, Failure> {
    static SHARED: OnceLock<Result<TestServer, String>> = OnceLock::new();
    let launch = || {
        let mut server = TestServer::initialize(binaries)?;
        server.launch(&[])?;
        Ok(server)
    };
    SHARED.get_or_init(|| launch().map_err(|error: Failure| error.to_string())).as_ref().map_err(|error| error.as_str().into())
}

/// A PostgreSQL server of a test's own, to be configured, stopped, killed, and copied. It trusts everybody who reaches it, and ends with
/// this process at the latest.
pub struct TestServer {
    binaries: PathBuf,
    dir: PathBuf,
    owner: Option<Owner>,
    port: u16,
    process: Option<Child>,
}

impl TestServer {
    /// A server that is not started yet.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed here.
    pub fn new() -> Self {
        let made = choice::binaries().ok_or_else(|| Failure::from("PostgreSQL is not installed")).and_then(|dir| Self::initialize(&dir));
        made.unwrap_or_else(|error| panic!("no server for this test: {error}"))
    }

    fn initialize(binaries: &Path) -> Result<Self, Failure> {
        let server = Self::unfilled(binaries)?;
        let mut failure = String::new();
        // The second is for systems that do not know the first. With the C locale, lower() would know ASCII alone.
        for locale in ["C.UTF-8", "en_US.UTF-8"] {
            let output = server
                .command("initdb")
                .arg("-D")
                .arg(server.data_dir())
                .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions", "--locale", locale])
                .output()?;
            if output.status.success() {
                return Ok(server);
            }
            failure = String::from_utf8_lossy(&output.stderr).into_owned();
        }
        Err(format!("initdb failed: {failure}").into())
    }

    /// A server without a data directory.
    fn unfilled(binaries: &Path) -> Result<Self, Failure> {
        let owner = owner()?;
        let dir = process_dir(owner)?;
        // It may be taken by the time the server starts, which is then an error and no wrong result.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { binaries: binaries.to_owned(), dir, owner, port, process: None })
    }

    /// A standby of this server, which streams what is written here. It is not started yet.
    ///
    /// # Panics
    ///
    /// If the server cannot be copied.
    pub fn standby(&self) -> Self {
        let copy = || -> Result<Self, Failure> {
            let standby = Self::unfilled(&self.binaries)?;
            let source = format!("host=127.0.0.1 port={} user=postgres", self.port);
            let output = standby
                .command("pg_basebackup")
                .args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "-d", &source, "-D"])
                .arg(standby.data_dir())
                .output()?;
            if output.status.success() { Ok(standby) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
        };
        copy().unwrap_or_else(|error| panic!("no standby: {error}"))
    }

    /// Starts the server with these settings, on its port of 127.0.0.1, and waits until it serves.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(&mut self, settings: &[&str]) {
        let local = [&["listen_addresses=127.0.0.1"], settings].concat();
        self.launch(&local).unwrap_or_else(|error| panic!("the server does not start: {error}"));
    }

    fn launch(&mut self, settings: &[&str]) -> Result<(), Failure> {
        let log = self.dir.join("log");
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data_dir()).arg("-k").arg(&self.dir).arg("-p").arg(self.port.to_string());
        for setting in ["listen_addresses="].iter().chain(SETTINGS).chain(settings) {
            postgres.args(["-c", setting]);
        }
        let mut server = postgres.stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let ready = wait_until_ready(&mut server, &self.data_dir());
        self.process = Some(server);
        ready.map_err(|error| format!("{error}; the server's log: {}", fs::read_to_string(&log).unwrap_or_default()).into())
    }

    /// Ends the server at once, as a crash does: nothing is said to anybody, and nothing written any more.
    pub fn kill(&mut self) {
        // Not the postmaster alone: its children would hold its memory until they notice, and a new start would fail.
        self.end("-QUIT");
    }

    /// Kills every process of the server, as a machine does that has no more memory: not even its clients are told.
    ///
    /// # Panics
    ///
    /// If its processes cannot be found, as on systems other than Linux.
    pub fn kill_all(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let id = process.id().to_string();
        let kill = |signal: &str, ids: &[&str]| Command::new("kill").arg(signal).args(ids).stderr(Stdio::null()).status();
        // It starts no more children, and ends none of them itself.
        let _ = kill("-STOP", &[&id]);
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_else(|error| panic!("the processes of the server: {error}"));
        let children: Vec<&str> = children.split_whitespace().collect();
        let _ = kill("-KILL", &[&[id.as_str()], &children[..]].concat());
        let _ = process.wait();
        // Until the last has ended, the memory they share keeps the server from starting again.
        let started = Instant::now();
        while started.elapsed() < PATIENCE && children.iter().any(|child| lives(child)) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops the server as it is told to be stopped: whoever is connected is told so.
    pub fn stop(&mut self) {
        self.end("-INT");
    }

    fn end(&mut self, signal: &str) {
        let Some(mut process) = self.process.take() else { return };
        let _ = Command::new("kill").arg(signal).arg(process.id().to_string()).status();
        let _ = process.wait();
    }

    /// Makes a standby the primary, and waits until it is.
    ///
    /// # Panics
    ///
    /// If it does not become one.
    pub fn promote(&self) {
        let promoted = self.command("pg_ctl").args(["promote", "-w", "-D"]).arg(self.data_dir()).output();
        assert!(promoted.is_ok_and(|output| output.status.success()), "the standby was not promoted");
    }

    /// Writes a file into the data directory, for the server's eyes only.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.data_dir().join(file);
        let write = || -> Result<(), Failure> {
            fs::write(&path, text)?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::{PermissionsExt as _, chown};
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
                if let Some(Owner { uid, gid }) = self.owner {
                    chown(&path, Some(uid), Some(gid))?;
                }
            }
            Ok(())
        };
        write().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The connection string of the database `postgres`, over the socket.
    ///
    /// # Panics
    ///
    /// If the temporary directory is not named in UTF-8.
    pub fn url(&self) -> String {
        socket_url(&self.dir, self.port).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The directory that its socket is in.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory that its data is in.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Gives a directory to the user that runs the server.
    ///
    /// # Panics
    ///
    /// If it cannot be given.
    #[cfg(unix)]
    pub fn own(&self, dir: &Path) {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let give = || {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
            self.owner.map_or(Ok(()), |Owner { uid, gid }| chown(dir, Some(uid), Some(gid)))
        };
        give().unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    }

    fn command(&self, program: &str) -> Command {
        command(&self.binaries.join(program), &self.dir, self.owner)
    }
}

/// Whether a process has not ended yet. One that nobody has waited for has.
fn lives(id: &str) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

impl Default for TestServer {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("dir", &self.dir).field("port", &self.port).finish_non_exhaustive()
    }
}

/// The connection string of the database `postgres` behind a socket.
pub(super) fn socket_url(dir: &Path, port: u16) -> Result<String, Failure> {
    let dir = dir.to_str().ok_or("the temporary directory is not named in UTF-8")?;
    let host: String = form_urlencoded::byte_serialize(dir.as_bytes()).collect::<String>().replace('+', "%20");
    Ok(format!("postgresql:///postgres?host={host}&port={port}&user=postgres&sslmode=disable"))
}

/// The server writes its state into the eighth line of its pid file, which is what `pg_ctl` waits for.
fn wait_until_ready(server: &mut Child, data: &Path) -> Result<(), Failure> {
    let pid_file = data.join("postmaster.pid");
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let state = fs::read_to_string(&pid_file).ok().and_then(|text| text.lines().nth(7).map(|state| state.trim().to_owned()));
        if state.is_some_and(|state| ["ready", "standby"].contains(&state.as_str())) {
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
pub(super) fn command(program: &Path, dir: &Path, owner: Option<Owner>) -> Command {
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
pub(super) fn owner() -> Result<Option<Owner>, Failure> {
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
pub(super) fn owner() -> Result<Option<Owner>, Failure> {
    Ok(None)
}
