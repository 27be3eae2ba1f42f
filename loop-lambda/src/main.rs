//! The function: the router of `loop-http`, on a store that is made once and used again while the function is warm.

use std::{process::ExitCode, time::Duration};

use loop_http::Config;

/// One function instance answers one request at a time; the second connection is for what overlaps.
const POOL_SIZE: usize = 2;

/// The platform freezes the process between any two requests, and does not say for how long.
const VERIFY_AFTER: Duration = Duration::from_millis(100);

/// How long connecting may take: whoever waits for a function does not wait for long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a request may take, so that it is answered before the platform cuts it off: `template.yaml` gives it 29 seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => return stop(&error.0),
    };
    config.init_logs();
    config.router.request_timeout = REQUEST_TIMEOUT;
    let Some(url) = &config.database.url else {
        return stop(&["DATABASE_URL: must be set: a function has no disk to keep a database on".to_owned()]);
    };
    let builder = config.database.builder(url).default_pool_size(POOL_SIZE).verify_after(VERIFY_AFTER).connect_timeout(CONNECT_TIMEOUT);
    let store = match builder.build() {
        Ok(store) => store,
        Err(error) => return stop(&[format!("DATABASE_URL: {error}")]),
    };
    // While a function begins, it has a whole processor, however small it is later. Whether the database answers is told by each request.
    if let Err(error) = store.warm_up().await {
        tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "the database does not answer yet");
    }
    match loop_lambda::run(loop_http::router(config.state(store), &config.router)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => stop(&[error.to_string()]),
    }
}

/// Ends the process with a line for each reason, which the platform shows.
fn stop(reasons: &[String]) -> ExitCode {
    for reason in reasons {
        eprintln!("loop-lambda: {reason}");
    }
    ExitCode::FAILURE
}
