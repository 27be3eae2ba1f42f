//! Serving on hyper, with the limits a server on the open network needs.

use std::{
    future::{Pending, pending},
    io, iter,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{HeaderValue, Request, Version, header};
use hyper::{
    body::Incoming,
    rt::{Sleep, Timer},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use loop_core::time_limit::{Limited, limited};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_io_timeout::TimeoutStream;

use crate::connections::{Connection, Connections};

/// How long requests are still begun once the server is told to stop, since they may be on their way: each answer says that it is the last
/// one of its connection. After that, what is idle is closed.
const LAST_WORD: Duration = Duration::from_millis(500);

/// How many connections are still taken that the system had accepted when the server was told to stop: as many as it keeps by default.
const BACKLOG: usize = 4096;

/// The limits of the server.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How long a client may take to send the head of a request. It bounds how long a connection may be idle between requests, too.
    pub header_timeout: Duration,
    /// How long a client may take nothing of an answer that is ready for it.
    pub write_timeout: Duration,
    /// How many connections are served at once, at least one. Where one more comes, the one makes room that has kept the server waiting
    /// longest, and for half a second at least: for a request, for the rest of one, or for its answer to be read. Where there is none, one
    /// makes room that is answered next, and until then more wait to be accepted.
    pub max_connections: usize,
    /// How long requests under way have to finish once the server is told to stop. Those that take longer are cut off, although each may
    /// take as long as [`RouterOptions::request_timeout`](crate::RouterOptions::request_timeout): what they were about to write is not
    /// written, or written whole.
    pub drain_timeout: Duration,
    /// Whether HTTP/2 without TLS (h2c, with prior knowledge) is understood beside HTTP/1.1. It is off by default because its
    /// connections cannot be held to the header timeout: <https://github.com/hyperium/hyper/issues/3756>.
    pub http2: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            max_connections: 4096,
            // Shorter than the half minute that most supervisors wait before they kill.
            drain_timeout: Duration::from_secs(25),
            http2: false,
        }
    }
}

/// Serves `router` until `stop` is ready: then no more connections are accepted, requests under way or on their way are finished, and idle
/// connections are closed. Answers whether all requests were finished in time.
pub async fn serve(listener: TcpListener, router: Router, options: &ServeOptions, stop: impl Future<Output = ()>) -> bool {
    let connections = Connections::new(options.max_connections);
    let graceful = GracefulShutdown::new();
    // Dropped when no more connections are to be served.
    let (serving, stopped) = watch::channel(());
    let server = Server { router, builder: Arc::new(builder(options)), options: options.clone(), stopped };
    let mut accepted = None;
    let accepting = async {
        loop {
            accepted = Some(accept(&listener).await);
            let place = connections.place().await;
            if let Some((stream, peer)) = accepted.take() {
                server.spawn(stream, peer, place, graceful.watcher());
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = accepting => {}
    }
    let finishing = async {
        // From here on each answer is the last of its connection, which makes room for those that were accepted.
        drop(serving);
        for (stream, peer) in accepted.into_iter().chain(backlog(listener)) {
            server.spawn(stream, peer, connections.place().await, graceful.watcher());
        }
        drop(server);
        if graceful.count() > 0 {
            tokio::time::sleep(LAST_WORD).await;
        }
        graceful.shutdown().await;
    };
    tokio::time::timeout(options.drain_timeout, finishing).await.is_ok()
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // Most often there are no more file descriptors, which takes a moment to change.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The connections that the system has accepted for a listener that goes now: for their clients they are as good as all others.
fn backlog(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || loop {
        match listener.accept() {
            // This one went while it waited, and is not the last.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            accepted => return accepted,
        }
    };
    let served = |(stream, peer): (std::net::TcpStream, _)| {
        stream.set_nonblocking(true)?;
        io::Result::Ok((TcpStream::from_std(stream)?, peer))
    };
    // It listens until they are out, so that none is in it then; who keeps coming does not keep the server from stopping.
    iter::from_fn(|| accept().ok()).take(BACKLOG).filter_map(|accepted| served(accepted).ok()).collect()
}

/// What all connections share.
struct Server {
    router: Router,
    builder: Arc<auto::Builder<TokioExecutor>>,
    options: ServeOptions,
    stopped: watch::Receiver<()>,
}

impl Server {
    fn spawn(&self, stream: TcpStream, peer: SocketAddr, connection: Connection, watcher: Watcher) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "setting TCP_NODELAY");
        }
        let (builder, first_byte, write_timeout) = (Arc::clone(&self.builder), self.options.header_timeout, self.options.write_timeout);
        let (router, mut stopped, connection) = (self.router.clone(), self.stopped.clone(), Arc::new(connection));
        let (place, is_last) = (Arc::clone(&connection), self.stopped.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            // HTTP/2 has another way to say it, which hyper knows.
            let one_by_one = request.version() < Version::HTTP_2;
            let (connection, router, is_last) = (Arc::clone(&connection), router.clone(), is_last.clone());
            async move {
                let mut answer = Arc::clone(&connection).serve(router, request).await?;
                if one_by_one && (is_last.has_changed().is_err() || connection.is_to_make_room()) {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, io::Error>(answer)
            }
        });
        let served = async move {
            // There is nothing to wait for in a connection that has not said anything yet.
            let speaks = tokio::select! {
                speaks = speaks(&stream, first_byte) => speaks,
                _ = stopped.changed() => speaks(&stream, LAST_WORD).await,
            };
            if !speaks {
                return;
            }
            // hyper's own timer does not run while it waits for the client to read.
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(write_timeout));
            let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                tracing::debug!(%error, "a connection broke off");
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = place.has_to_go() => {}
                () = served => {}
            }
        });
    }
}

fn builder(options: &ServeOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(LimitTimer).header_read_timeout(options.header_timeout).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(100)
        .max_header_list_size(32 << 10);
    if options.http2 { builder } else { builder.http1_only() }
}

/// hyper's timer for the head of each HTTP/1 request, which is set and taken back every time; so it is not one of the runtime's.
struct LimitTimer;

impl Timer for LimitTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(limited(duration, pending())))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

struct Sleeping(Limited<Pending<()>>);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(|_| ())
    }
}

impl Sleep for Sleeping {}

/// Waits for the first byte of a connection: one that never says anything holds its slot no longer than a slow one.
async fn speaks(stream: &TcpStream, limit: Duration) -> bool {
    matches!(limited(limit, stream.peek(&mut [0])).await, Some(Ok(1)))
}
