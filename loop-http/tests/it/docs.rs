//! The documentation for browsers: a page that loads nothing from anywhere else.

use std::future::pending;

use loop_http::{AppState, RouterOptions, ServeOptions, Webhooks};
use tokio::net::TcpListener;

use crate::support::{Caller, Server, no_database};

#[tokio::test]
async fn the_page_and_all_its_parts_are_here() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    let page = nobody.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';") && !policy.contains("http"), "{policy}");
    // Its parts are named from where it is, and none is anywhere else or within it.
    assert!(
        !page.text.contains("//")
            && !page.text.contains("=\"/")
            && page.text.matches("<script").count() == page.text.matches("<script src=").count()
    );
    let parts: Vec<&str> = page.text.split(['"']).filter(|text| text.starts_with("docs/")).collect();
    assert_eq!(parts, ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/start.js"]);
    for part in parts {
        let answer = nobody.get(format!("/{part}")).await;
        assert_eq!((answer.status, answer.header("x-content-type-options")), (200, Some("nosniff")), "{part}");
        let media = if part.ends_with("css") { "text/css" } else { "text/javascript" };
        assert_eq!(answer.header("content-type"), Some(media));
        let compressed = !part.ends_with("start.js");
        assert_eq!(answer.header("content-encoding"), compressed.then_some("gzip"), "{part}");
    }
    assert!(nobody.get("/docs/start.js").await.text.contains("url: \"openapi.json\""));
    nobody.get("/docs/other.js").await.not_found("Not found");
    nobody.get("/docs/").await.not_found("Not found");
}

#[tokio::test]
async fn it_works_below_another_path() {
    let state = AppState::new(no_database(), Webhooks::default(), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = Caller::at(&listener.local_addr().unwrap().to_string());
    let outer = axum::Router::new().nest_service("/{tenant}/loop", loop_http::router(state, &RouterOptions::default()));
    let serving = tokio::spawn(async move { loop_http::serve(listener, outer, &ServeOptions::default(), pending()).await });
    // Where a browser finds what the page names: beside it.
    for path in ["docs", "docs/start.js", "docs/swagger-ui.css", "openapi.json"] {
        assert_eq!(nobody.get(format!("/acme/loop/{path}")).await.status, 200, "{path}");
    }
    serving.abort();
}
