//! The server that is measured: the release build of `loop-http`, as a process.

use std::{
    env,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::postgres::free_port;

/// The secret that Sentry's deliveries are signed with.
const SENTRY_SECRET: &str = "load";

/// What the server is told of the environment. All else would measure settings of whoever runs this, or listen where nobody asks.
const PASSED_ON: &[&str] = &["LOOP_LOG", "LOOP_LOG_FORMAT"];

/// How long the server may take to start, and to answer.
const PATIENCE: Duration = Duration::from_mins(1);
const PATIENCE_WITH_AN_ANSWER: Duration = Duration::from_secs(10);

/// Reads the id of the server's process, and kills it when the pipe ends, however this process does.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
read -r pid || exit
cat
kill -KILL "$pid" 2>/dev/null
"#;

/// How the server is built: as this program is. With optimisation, that is without the PostgreSQL inside the process, which would not be used; and
/// otherwise as the tests have it, since nothing is measured then.
const BUILD: (&str, &[&str]) =
    if cfg!(debug_assertions) { ("debug", &[]) } else { ("release", &["--release", "--no-default-features", "--features", "docs"]) };

/// Builds it, if it is not built, and answers where it is.
pub(crate) fn build(target: &Path) -> Result<PathBuf> {
    let (profile, arguments) = BUILD;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "-p", "loop-http", "--bin", "loop-http", "--target-dir"]).arg(target).args(arguments);
    let status = cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).status()?;
    ensure!(status.success(), "the server could not be built");
    Ok(target.join(profile).join("loop-http"))
}

/// The server's program with the settings that all of its runs share.
pub(crate) fn program(binary: &Path, database_url: &str) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().envs(PASSED_ON.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command.env("DATABASE_URL", database_url).env("SENTRY_CLIENT_SECRET", SENTRY_SECRET).stdin(Stdio::null());
    command
}

/// What one run of the program prints.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A running server. It is killed on drop, and ends with this process.
pub(crate) struct Server {
    process: Child,
    watchdog: Child,
    pub(crate) address: SocketAddr,
    /// From the start of its process to its first answer.
    pub(crate) started_in: Duration,
}

impl Server {
    /// Starts it, and waits until it has answered this request: the first line of one, without its version.
    pub(crate) fn start(binary: &Path, database_url: &str, request: &str, key: &str) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut watchdog =
            Command::new("/bin/sh").args(["-c", WATCHDOG, "load-watchdog"]).stdin(Stdio::piped()).process_group(0).spawn()?;
        let begun = Instant::now();
        let process = program(binary, database_url)
            .env("PORT", address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| binary.display().to_string())?;
        let pipe = watchdog.stdin.as_mut().context("the watchdog has no pipe")?;
        writeln!(pipe, "{}", process.id())?;
        let mut server = Self { process, watchdog, address, started_in: Duration::ZERO };
        let request = format!("{request} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n");
        while begun.elapsed() < PATIENCE {
            if let Some(answer) = answer(address, &request) {
                server.started_in = begun.elapsed();
                ensure!(answer.starts_with("HTTP/1.1 200"), "the first answer was {answer}");
                return Ok(server);
            }
            if let Some(status) = server.process.try_wait()? {
                bail!("the server ended with {status}");
            }
            thread::sleep(Duration::from_micros(200));
        }
        bail!("the server did not answer within {} seconds", PATIENCE.as_secs())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        // The watchdog first: the id of a process is nobody else's until it was waited for.
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        let _ = self.process.wait();
    }
}

fn answer(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE_WITH_AN_ANSWER)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
