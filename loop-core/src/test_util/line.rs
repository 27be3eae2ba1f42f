//! What stands between a client and its database in a test: it can be cut, fall silent, take its time, and counts.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_postgres::config::Host;

/// A line to a database. It ends with the runtime of the test that made it.
pub struct Line {
    url: String,
    state: watch::Sender<State>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    cut: bool,
    /// How often all connections were ended.
    resets: usize,
}

#[derive(Default)]
struct Shared {
    silent: AtomicBool,
    delay: Mutex<Duration>,
    round_trips: AtomicUsize,
    connections: AtomicUsize,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

#[derive(Clone)]
enum Target {
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Target {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            #[cfg(unix)]
            Self::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
        })
    }
}

/// What the driver does not know of a connection string of the tests.
const ROW_SECURITY: &str = "&row_security=true";

impl Line {
    /// A line to the first host of this connection string.
    ///
    /// # Panics
    ///
    /// If the connection string cannot be read, or the test can listen nowhere.
    pub async fn to(url: &str) -> Self {
        Self::try_to(url).await.unwrap_or_else(|error| panic!("no line to the database: {error}"))
    }

    async fn try_to(url: &str) -> Result<Self, super::Failure> {
        let config: tokio_postgres::Config = url.replace(ROW_SECURITY, "").parse()?;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let target = match config.get_hosts().first().ok_or("no host")? {
            Host::Tcp(host) => Target::Tcp(host.clone(), port),
            #[cfg(unix)]
            Host::Unix(dir) => Target::Unix(dir.join(format!(".s.PGSQL.{port}"))),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut address = Self::url_at(&config, listener.local_addr()?)?;
        if url.contains(ROW_SECURITY) {
            address.push_str(" row_security=true");
        }
        let (state, watched) = watch::channel(State::default());
        let shared = Arc::new(Shared::default());
        let line = Self { url: address, state, shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(client, target.clone(), watched.clone(), Arc::clone(&shared)));
            }
        });
        Ok(line)
    }

    /// The same user and database at the line's own address.
    fn url_at(config: &tokio_postgres::Config, address: SocketAddr) -> Result<String, super::Failure> {
        let mut url = format!("host={} port={} sslmode=disable", address.ip(), address.port());
        let password = config.get_password().map(str::from_utf8).transpose()?;
        for (key, value) in [("user", config.get_user()), ("dbname", config.get_dbname()), ("password", password)] {
            if let Some(value) = value {
                url = format!("{url} {key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
            }
        }
        // Its port tells what is behind a line no more.
        Ok(if config.get_ports() == [6432] { format!("{url} pgbouncer=true") } else { url })
    }

    /// The connection string that leads through it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends all connections and lets none through, or does so again.
    pub fn cut(&self, cut: bool) {
        self.state.send_modify(|state| state.cut = cut);
    }

    /// Ends all connections there are, and lets new ones through.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Holds back all that is sent, as a network does that loses everything, or no longer: what it held back stays lost.
    pub fn silence(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    /// What everything takes in either direction.
    pub fn delay(&self, one_way: Duration) {
        *self.shared.delay.lock().unwrap_or_else(PoisonError::into_inner) = one_way;
    }

    /// How often a client spoke after the server had spoken, or first: since the last time this was asked.
    pub fn round_trips(&self) -> usize {
        self.shared.round_trips.swap(0, Ordering::SeqCst)
    }

    /// How many connections were made through it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

async fn carry(client: TcpStream, target: Target, mut state: watch::Receiver<State>, shared: Arc<Shared>) {
    let State { cut, resets } = *state.borrow();
    if cut || client.set_nodelay(true).is_err() {
        return;
    }
    let Ok(server) = target.connect().await else { return };
    let (client, server) = (split(client), split(server));
    // Who spoke last.
    let asked = AtomicBool::new(false);
    let up = pass(client.0, server.1, &shared, || {
        if !asked.swap(true, Ordering::SeqCst) {
            shared.round_trips.fetch_add(1, Ordering::SeqCst);
        }
    });
    let down = pass(server.0, client.1, &shared, || asked.store(false, Ordering::SeqCst));
    tokio::select! {
        _ = async { tokio::join!(up, down) } => {}
        _ = state.wait_for(|state| state.cut || state.resets > resets) => {}
    }
}

/// Passes on what comes, in the order it comes, until either side ends.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared, spoke: impl Fn()) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer).await
        && count > 0
    {
        spoke();
        let delay = *shared.delay.lock().unwrap_or_else(PoisonError::into_inner);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if shared.silent.load(Ordering::SeqCst) {
            // For good: what lost a part of what was said cannot go on.
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
