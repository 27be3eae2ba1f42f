//! Loop's API as a Vercel function: the server of `loop-http` behind Vercel's own proxy, with nothing between start and listening.

use std::{future::pending, time::Duration};

use anyhow::Context as _;
use loop_http::Config;
use tokio::net::TcpListener;

/// An instance answers many requests at once, and there may be many instances to one database.
const POOL_SIZE: usize = 4;

/// The platform freezes an instance between requests, and does not say for how long.
const VERIFY_AFTER: Duration = Duration::from_millis(100);

/// Much longer than the proxy keeps a connection that is idle, so that the server is never the one that closes it: when a frozen instance
/// goes on, a closed connection and a request that is on its way there would meet, and the request would be lost.
const IDLE_TIMEOUT: Duration = Duration::from_hours(24);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut config = Config::from_env()?;
    config.init_logs();
    config.serve.header_timeout = IDLE_TIMEOUT;
    let url = config.database.url.as_deref().context("DATABASE_URL must be set: a function has no disk to keep a database on")?;
    let store = config.database.builder(url).default_pool_size(POOL_SIZE).verify_after(VERIFY_AFTER).build()?;
    let listener = TcpListener::bind((config.host, config.port)).await?;
    let router = loop_http::router(config.state(store), &config.router);
    // Nobody says when to stop: an instance is frozen, and later gone.
    loop_http::serve(listener, router, &config.serve, pending()).await;
    Ok(())
}
