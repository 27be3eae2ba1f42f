//! Loop's API as an AWS Lambda function: the router of `loop-http`, on a store that is made once and used again while the function is warm.

use anyhow::Context as _;
use loop_http::Config;

/// One function instance answers one request at a time; the second connection is for what overlaps.
const POOL_SIZE: usize = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let mut config = Config::from_env()?;
    config.init_logs();
    config.database.pool_size.get_or_insert(POOL_SIZE);
    let url = config.database.url.as_deref().context("DATABASE_URL must be set: a function has no disk to keep a database on")?;
    let store = config.database.store(url)?;
    lambda_http::run(loop_http::router(config.state(store), &config.router)).await
}
