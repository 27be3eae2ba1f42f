//! Spans, as they reach a collector.

use std::{collections::BTreeMap, time::Duration};

use axum::{Router, body::Bytes, routing::post};
use http::StatusCode;
use loop_http::ServeOptions;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    process::{Process, database, run, texts, variables},
    support::Caller,
};

/// The trace of somebody who calls, and the span they call from.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector on a port of its own, and the bodies of what it is sent.
async fn collector(status: StatusCode) -> (String, mpsc::UnboundedReceiver<Bytes>) {
    let (sender, received) = mpsc::unbounded_channel();
    let take = move |headers: http::HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let _ = sender.send(body);
        status
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { loop_http::serve(listener, routes, &ServeOptions::default(), std::future::pending()).await });
    (address, received)
}

/// The fields of a protobuf message that are bytes, by number. Numbers of other kinds are skipped.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = message.split_first().unwrap();
            *message = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                varint(&mut message);
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)).unwrap(),
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (field, rest) = message.split_at(length);
        message = rest;
        if key & 7 == 2 {
            fields.push((key >> 3, field));
        }
    }
    fields
}

/// What fields of that number hold.
fn all(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).into_iter().filter_map(move |(known, field)| (known == number).then_some(field))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    attributes: BTreeMap<String, String>,
}

/// The spans of a body, an `ExportTraceServiceRequest`.
fn spans(body: &[u8]) -> Vec<Span> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let attribute = |pair: &[u8]| {
        let value = all(pair, 2).next().map(|value| all(value, 1).next().map(text).unwrap_or_default());
        (all(pair, 1).next().map(text).unwrap_or_default(), value.unwrap_or_default())
    };
    let span = |message: &[u8]| Span {
        trace: all(message, 1).next().map(faster_hex::hex_string).unwrap_or_default(),
        id: all(message, 2).next().map(faster_hex::hex_string).unwrap_or_default(),
        parent: all(message, 4).next().map(faster_hex::hex_string).unwrap_or_default(),
        name: all(message, 5).next().map(text).unwrap_or_default(),
        attributes: all(message, 9).map(attribute).collect(),
    };
    let mut spans = Vec::new();
    for resource_spans in all(body, 1) {
        let service = ("service.name".to_owned(), "loop-of-a-test".to_owned());
        let resource = all(resource_spans, 1).flat_map(|resource| all(resource, 1).map(attribute).collect::<Vec<_>>());
        assert!(resource.collect::<Vec<_>>().contains(&service));
        for scope_spans in all(resource_spans, 2) {
            spans.extend(all(scope_spans, 2).map(span));
        }
    }
    spans
}

#[tokio::test]
async fn spans_of_requests_and_statements_reach_the_collector() {
    let db = database(true).await;
    let (key, _) = texts(&run(&["keys", "create", "--name", "t"], &variables(&db)));
    let (address, mut received) = collector(StatusCode::OK).await;
    let mut variables = variables(&db);
    // Whatever the log leaves out is exported all the same.
    variables.extend([("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()), ("OTEL_SERVICE_NAME", "loop-of-a-test")]);
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&variables, dir.path());
    let caller = Caller::at(&server.address).with_key(key.trim());
    caller.get("/health").await.ok();
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let request = caller.request("GET", "/api/v1/issues?q=the-query-text").header("traceparent", &traceparent);
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(caller.get("/nothing/at/all").await.status, 404);
    // What has not been sent when the server is told to stop is sent before it ends.
    let ended = tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
    assert!(!ended.stderr.contains("statement"), "{}", ended.stderr);
    let mut sent = Vec::new();
    while let Ok(body) = received.try_recv() {
        let readable = String::from_utf8_lossy(&body);
        assert!(!readable.contains(key.trim()) && !readable.contains("the-query-text") && !readable.contains("SELECT"), "{readable}");
        sent.extend(spans(&body));
    }
    let named = |name: &str| sent.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {sent:#?}"));
    let request = named("GET /api/v1/issues");
    assert_eq!((request.trace.as_str(), request.parent.as_str()), (TRACE, PARENT));
    assert_eq!(request.attributes["http.route"], "/api/v1/issues");
    assert_eq!(request.attributes["http.request.method"], "GET");
    assert!(!request.attributes["request_id"].is_empty());
    for name in ["api_keys.authenticate", "issues.list"] {
        let statement = named(name);
        assert_eq!((&statement.trace, &statement.parent), (&request.trace, &request.id));
        assert_eq!(statement.attributes["db.system.name"], "postgresql");
    }
    let health = named("GET /health");
    assert!(health.parent.is_empty() && health.trace != TRACE);
    named("GET");
}

/// Nobody waits for a collector that is away, that says nothing, or that refuses what it is sent.
#[tokio::test]
async fn a_collector_that_takes_nothing_does_no_harm() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (format!("http://{}", silent.local_addr().unwrap()), silent);
    let (refusing, _received) = collector(StatusCode::BAD_REQUEST).await;
    for (address, said) in [("http://127.0.0.1:1", true), (&silent.0, false), (&refusing, true)] {
        let url = "postgres://nobody@127.0.0.1:1/nothing?sslmode=disable";
        let dir = TempDir::new().unwrap();
        let variables = [("DATABASE_URL", url), ("OTEL_EXPORTER_OTLP_ENDPOINT", address), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
        let server = Process::serve(&variables, dir.path());
        let caller = Caller::at(&server.address);
        let begun = std::time::Instant::now();
        // More than the queue holds.
        for _ in 0..3000 {
            caller.get("/health").await.ok();
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        let begun = std::time::Instant::now();
        let ended = tokio::task::spawn_blocking(|| server.stop()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(ended.status.code(), Some(0));
        let complaints = ended.stderr.matches("the collector takes no spans").count();
        assert!(complaints <= 1 && (complaints == 1 || !said), "{}", ended.stderr);
    }
}
