//! The gate: it lets one client at a time to PostgreSQL and keeps what clients do to their connections away from it.
//!
//! The engine's own listener ends for good when a client breaks the protocol or its connection, accepts a second client and never
//! answers it, and cannot be stopped while a client is connected. So it only ever sees connections that the gate opened, each of which
//! begins with a well-formed packet and ends with an orderly end of file.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use pglite_oxide::PgliteProxy;

use super::{
    socket::{Address, Listener, SocketDir, Sockets, Stream, serve_next},
    startup,
};

/// How long a client may take over its first packet. It holds no place meanwhile.
const FIRST_PACKET: Duration = Duration::from_secs(5);
/// How long a client waits for its place: a closed connection needs a moment to roll back and to write its checkpoint.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a stop waits for PostgreSQL. Only a statement that is still running can take longer; the lock is then kept until its end.
const STOP: Duration = Duration::from_secs(5);

/// The running threads. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Server {
    gate: Arc<Gate>,
    front: Address,
    acceptor: Option<JoinHandle<()>>,
    postgres: JoinHandle<()>,
    /// The sockets go with it, when nobody listens on them any more.
    _dir: SocketDir,
    /// Dropped last: whoever gets the lock next makes sockets of the same names.
    _lock: Arc<File>,
}

#[derive(Debug)]
struct Gate {
    backend: Address,
    stopping: AtomicBool,
    client: Mutex<Option<Stream>>,
    left: Condvar,
}

impl Server {
    /// `lock` is held until PostgreSQL has written its last byte.
    pub(super) fn start(cluster: PathBuf, sockets: Sockets, lock: File) -> io::Result<Self> {
        let Sockets { front: (front_listener, front), backend: (backend_listener, backend), dir } = sockets;
        let gate = Arc::new(Gate { backend, stopping: AtomicBool::new(false), client: Mutex::new(None), left: Condvar::new() });

        let (serving, lock) = (Arc::clone(&gate), Arc::new(lock));
        let held = Arc::clone(&lock);
        let postgres = thread::Builder::new().name("loop-postgres".into()).spawn(move || {
            serving.serve(&PgliteProxy::new(cluster), &backend_listener);
            drop(held);
        })?;
        let mut server = Self { gate: Arc::clone(&gate), front, acceptor: None, postgres, _dir: dir, _lock: lock };
        server.acceptor = Some(thread::Builder::new().name("loop-postgres-gate".into()).spawn(move || gate.accept(&front_listener))?);
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gate.stopping.store(true, Ordering::SeqCst);
        if let Some(client) = self.gate.client().as_ref() {
            let _ = client.shutdown(Shutdown::Both);
        }
        // Each connection wakes one listener, which then sees that it is to stop.
        let woken = self.front.connect().is_ok();
        let _ = self.gate.backend.connect();
        // Somebody may have removed the sockets, and then nothing wakes a listener any more.
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
        let deadline = Instant::now() + STOP;
        while !self.postgres.is_finished() {
            if Instant::now() > deadline {
                tracing::warn!(
                    "the embedded PostgreSQL does not stop yet: it is at work on a statement and stops when that ends, or its sockets were \
                     removed and it stops with the process"
                );
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Gate {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn client(&self) -> MutexGuard<'_, Option<Stream>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs PostgreSQL, one connection after the other.
    fn serve(&self, proxy: &PgliteProxy, listener: &Listener) {
        while !self.stopping() {
            match catch_unwind(AssertUnwindSafe(|| serve_next(proxy, listener))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error, "a connection to the embedded PostgreSQL ended badly");
                    // It may be that no connection can be accepted, for lack of descriptors: trying again at once would only burn time.
                    thread::sleep(Duration::from_millis(50));
                }
                Err(_) => tracing::error!("the embedded PostgreSQL panicked; the next connection starts it anew"),
            }
        }
    }

    fn accept(self: Arc<Self>, listener: &Listener) {
        for client in listener.incoming() {
            if self.stopping() {
                return;
            }
            let admitted = client.and_then(|client| {
                let gate = Arc::clone(&self);
                thread::Builder::new().name("loop-postgres-client".into()).spawn(move || {
                    if let Err(error) = gate.admit(client) {
                        tracing::debug!(%error, "a client of the embedded PostgreSQL was turned away");
                    }
                })
            });
            if let Err(error) = admitted {
                tracing::warn!(%error, "the embedded PostgreSQL cannot accept a client");
                // Out of descriptors or threads: trying again at once would only burn time.
                thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Sees one client from its first packet to its end.
    fn admit(&self, mut client: Stream) -> io::Result<()> {
        client.set_read_timeout(Some(FIRST_PACKET))?;
        let Some(first_packet) = startup::read(&mut client)? else { return Ok(()) };
        client.set_read_timeout(None)?;
        let Some(_place) = self.take_place(&client)? else {
            let (sqlstate, message) = if self.stopping() {
                ("57P03", "the embedded database is shutting down")
            } else {
                ("53300", "the embedded database serves one connection at a time")
            };
            return startup::refuse(&mut client, sqlstate, message);
        };

        let mut backend = self.backend.connect()?;
        backend.write_all(&first_packet)?;
        thread::scope(|scope| {
            thread::Builder::new().name("loop-postgres-client".into()).spawn_scoped(scope, || {
                // However the client ends, PostgreSQL sees an end of file and rolls back what was open.
                let _ = forward(&client, &backend);
                let _ = backend.shutdown(Shutdown::Write);
            })?;
            if forward(&backend, &client).is_err() {
                // The client is gone in the middle of an answer: the rest of it is still taken from PostgreSQL.
                let _ = client.shutdown(Shutdown::Both);
                let _ = io::copy(&mut &backend, &mut io::sink());
            }
            let _ = client.shutdown(Shutdown::Both);
            Ok(())
        })
    }

    fn take_place(&self, client: &Stream) -> io::Result<Option<Place<'_>>> {
        let (mut current, _) = self
            .left
            .wait_timeout_while(self.client(), PATIENCE, |current| current.is_some() && !self.stopping())
            .unwrap_or_else(PoisonError::into_inner);
        if current.is_some() || self.stopping() {
            return Ok(None);
        }
        *current = Some(client.try_clone()?);
        Ok(Some(Place(self)))
    }
}

/// The place of the one client. It is free again on drop.
struct Place<'a>(&'a Gate);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.client() = None;
        self.0.left.notify_one();
    }
}

/// Copies until the end of `from`, and fails if `to` takes no more.
fn forward(mut from: &Stream, mut to: &Stream) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A broken connection is an end like any other.
            Err(_) => return Ok(()),
        }
    }
}
