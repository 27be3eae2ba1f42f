//! The binary itself, as a process.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use loop_core::test_util::TestDb;

/// Longer than any start or stop takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn command(variables: &[(&str, &str)]) -> Command {
    configured(Command::new(env!("CARGO_BIN_EXE_loop-http")), variables)
}

/// Any command, with these variables and nothing else that could configure the server.
pub(crate) fn configured(mut command: Command, variables: &[(&str, &str)]) -> Command {
    for name in [
        "DATABASE_URL",
        "LOOP_DATA_DIR",
        "LOOP_POOL_SIZE",
        "LOOP_STATEMENT_MODE",
        "LOOP_SCHEMA",
        "LOOP_HOST",
        "PORT",
        "GITHUB_WEBHOOK_SECRET",
        "SENTRY_CLIENT_SECRET",
        "POSTHOG_WEBHOOK_SECRET",
        "LOOP_WEBHOOK_BODY_LIMIT",
        "LOOP_ADMIN_SECRET",
        "LOOP_CORS_ORIGINS",
        "LOOP_MAX_CONNECTIONS",
        "LOOP_HTTP2",
        "LOOP_METRICS",
        "LOOP_LOG",
        "LOOP_LOG_FORMAT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_SERVICE_NAME",
    ] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(variables).args(arguments).output().unwrap()
}

/// A database for the binary alone: the embedded one serves one connection at a time.
pub(crate) async fn database(migrated: bool) -> TestDb {
    released(if migrated { TestDb::new().await } else { TestDb::unmigrated().await }).await
}

/// The same of one that a test has prepared.
pub(crate) async fn released(db: TestDb) -> TestDb {
    db.store().close();
    // The connection's task sees that when it runs, which it does not while a test waits for a process.
    tokio::time::sleep(Duration::from_millis(100)).await;
    db
}

/// What leads the binary to a database.
pub(crate) fn variables(db: &TestDb) -> Vec<(&str, &str)> {
    vec![("DATABASE_URL", db.url()), ("LOOP_POOL_SIZE", if db.max_connections() == 1 { "1" } else { "4" })]
}

/// Standard output and standard error.
pub(crate) fn texts(output: &Output) -> (String, String) {
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// A server that runs.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

/// What a server said while it ran.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts `serve` on any free port, and waits until it listens. What is logged must include level `info`.
    pub(crate) fn serve(variables: &[(&str, &str)], dir: &Path) -> Self {
        Self::spawn(command(variables), dir)
    }

    /// The same, by a command that becomes the server.
    pub(crate) fn spawn(mut command: Command, dir: &Path) -> Self {
        let mut child = command.env("PORT", "0").current_dir(dir).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (found, address) = mpsc::channel();
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            for line in lines {
                let line = line.unwrap();
                if line.contains("listening")
                    && let Some((_, address)) = line.split_once("address=").or_else(|| line.split_once("\"address\":\""))
                {
                    let _ = found.send(address.split([' ', '"']).next().unwrap().to_owned());
                }
                text.push_str(&line);
                text.push('\n');
            }
            text
        });
        match address.recv_timeout(PATIENCE) {
            Ok(address) => Self { child, address, stdout: Some(stdout), stderr: Some(stderr) },
            Err(error) => {
                let _ = child.kill();
                panic!("the server does not listen ({error}): {}", stderr.join().unwrap());
            }
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks it to stop, as a supervisor does.
    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Ended {
        self.terminate();
        self.end()
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.end()
    }

    pub(crate) fn end(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "the server does not stop");
            thread::sleep(Duration::from_millis(10));
        };
        let (stdout, stderr) = (self.stdout.take().unwrap(), self.stderr.take().unwrap());
        Ended { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failed test leaves no server behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
