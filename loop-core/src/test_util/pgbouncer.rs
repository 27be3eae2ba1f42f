//! Throwaway poolers in transaction mode: the one that all tests of a process share, where they run through one, and those of single tests.

use std::{
    fmt,
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use super::{
    Failure,
    cluster::{self, TestServer},
    process_dir, server,
};

/// The usual port of a PgBouncer, which is what it is recognised by. It is a part of its socket's name here, and taken from nobody.
const PORT: u16 = 6432;

/// How many connections to a database are shared by whoever is connected.
pub(super) const POOL_SIZE: usize = 20;

/// The pooler in front of the server that all tests share. The first call starts it, and the watchdog stops it.
pub(super) fn shared(server: &TestServer) -> Result<&'static PgBouncer, Failure> {
    static SHARED: OnceLock<Result<PgBouncer, String>> = OnceLock::new();
    let launch = || PgBouncer::launch(server, server::user(), &[]).map_err(|error| error.to_string());
    SHARED.get_or_init(launch).as_ref().map_err(|error| error.as_str().into())
}

/// A PgBouncer of a test's own, in front of a server. It lets everybody in, and ends with this process at the latest.
pub struct PgBouncer {
    dir: PathBuf,
    process: Child,
}

impl PgBouncer {
    /// Starts one in front of this server, with these settings beside the usual ones.
    ///
    /// # Panics
    ///
    /// If it is not installed here, or does not start.
    pub fn start(server: &TestServer, settings: &[&str]) -> Self {
        Self::launch(server, "postgres", settings).unwrap_or_else(|error| panic!("no PgBouncer: {error}"))
    }

    fn launch(server: &TestServer, user: &str, settings: &[&str]) -> Result<Self, Failure> {
        let owner = cluster::owner()?;
        let dir = process_dir(owner)?;
        // A client gets another connection each time, so that what was left on one shows.
        let file = format!(
            "[databases]\n* = host={server} port={port} user={user}\n\
             [pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\nunix_socket_dir = {dir}\npidfile = {dir}/pooler.pid\nauth_type = any\n\
             pool_mode = transaction\nmax_client_conn = 1000\ndefault_pool_size = {POOL_SIZE}\nserver_round_robin = 1\n{settings}\n",
            server = server.dir().display(),
            port = server.port(),
            dir = dir.display(),
            settings = settings.join("\n"),
        );
        let ini = dir.join("pgbouncer.ini");
        fs::write(&ini, file)?;
        let log = dir.join("log");
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];
        let program = program.iter().map(Path::new).find(|path| path.is_file()).ok_or("PgBouncer is not installed")?;
        let mut process = cluster::command(program, &dir, owner).arg(&ini).stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let begin = Instant::now();
        while UnixStream::connect(dir.join(format!(".s.PGSQL.{PORT}"))).is_err() {
            if process.try_wait()?.is_some() || begin.elapsed() > Duration::from_secs(20) {
                return Err(format!("it does not start; its log: {}", fs::read_to_string(&log).unwrap_or_default()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { dir, process })
    }

    /// The connection string of the database `postgres` through it.
    ///
    /// # Panics
    ///
    /// If the temporary directory is not named in UTF-8.
    pub fn url(&self) -> String {
        cluster::socket_url(&self.dir, PORT).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl fmt::Debug for PgBouncer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgBouncer").field("dir", &self.dir).finish_non_exhaustive()
    }
}
