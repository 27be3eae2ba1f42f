//! A custom axum app with routes of its own beside Loop's, on one port and one pool.
//!
//! `cargo run -p examples --example mount_router`, then `curl http://127.0.0.1:3000/hello` and `curl http://127.0.0.1:3000/loop/health`.

use axum::{Router, routing::get};
use loop_core::{IssueFilter, LoopStore, NewIssue, PageRequest, embedded::Embedded};
use loop_http::{AppState, RouterOptions, ServeOptions, Webhooks};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let embedded = Embedded::start(directory.path())?;
    let store = LoopStore::builder(embedded.connection_string()).pool_size(1).connect().await?;
    store.migrate().await?;
    store.issues().create(NewIssue::titled("Say hello".parse()?)).await?;

    let own = Router::new().route(
        "/hello",
        get({
            let store = store.clone();
            async move || match store.issues().list(&IssueFilter::default(), &PageRequest::first()).await {
                Ok(page) => format!("hello, there are {} issue(s)\n", page.data.len()),
                Err(error) => format!("hello, but {error}\n"),
            }
        }),
    );
    let state = AppState::new(store.clone(), Webhooks::default(), None);
    let app = own.nest_service("/loop", loop_http::router(state, &RouterOptions::default()));

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    loop_http::serve(listener, app, &ServeOptions::default(), stop).await;
    store.close();
    Ok(())
}
