//! Serving on hyper, with the limits a server on the open network needs.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_io_timeout::TimeoutStream;

/// The limits of the server.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// How long a client may take to send the head of a request. It bounds how long a connection may be idle between requests, too.
    pub header_timeout: Duration,
    /// How long a client may take nothing of an answer that is ready for it.
    pub write_timeout: Duration,
    /// How many connections are served at once. More wait to be accepted.
    pub max_connections: usize,
    /// How long requests under way have to finish once the server is told to stop.
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

/// Serves `router` until `stop` is ready: then no more connections are accepted, requests under way are finished, and idle connections
/// are closed. Answers whether all requests were finished in time.
pub async fn serve(listener: TcpListener, router: Router, options: &ServeOptions, stop: impl Future<Output = ()>) -> bool {
    let builder = Arc::new(builder(options));
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(options.max_connections));
    // Dropped when no more connections are to be served.
    let (serving, stopped) = watch::channel(());
    tokio::pin!(stop);
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            () = &mut stop => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most often there are no more file descriptors, which takes a moment to change.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "setting TCP_NODELAY");
        }
        let service = TowerToHyperService::new(router.clone().layer(Extension(ConnectInfo::<SocketAddr>(peer))));
        let (builder, watcher, first_byte) = (Arc::clone(&builder), graceful.watcher(), options.header_timeout);
        let write_timeout = options.write_timeout;
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            // Held as long as the connection.
            let _slot = slot;
            // There is nothing to wait for in a connection that has not said anything yet.
            let speaks = tokio::select! {
                speaks = speaks(&stream, first_byte) => speaks,
                _ = stopped.changed() => false,
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
        });
    }
    drop((listener, serving));
    tokio::select! {
        () = graceful.shutdown() => true,
        () = tokio::time::sleep(options.drain_timeout) => false,
    }
}

fn builder(options: &ServeOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(100)
        .max_header_list_size(32 << 10);
    if options.http2 { builder } else { builder.http1_only() }
}

/// Waits for the first byte of a connection: one that never says anything holds its slot no longer than a slow one.
async fn speaks(stream: &TcpStream, limit: Duration) -> bool {
    matches!(tokio::time::timeout(limit, stream.peek(&mut [0])).await, Ok(Ok(1)))
}
