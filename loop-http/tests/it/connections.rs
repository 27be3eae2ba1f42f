//! What the server does with connections: slow ones, idle ones, too many of them, and all of them when it stops.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use loop_http::{RouterOptions, ServeOptions};
use tokio::sync::Semaphore;

use crate::{
    signatures::hex_mac,
    support::{SENTRY_SECRET, Server, TestApp, no_database, state},
    wire::{RawAnswer, Wire, head},
};

const SHORT: Duration = Duration::from_millis(400);
/// Well before the usual limits, and long after those of these tests.
const SOON: Duration = Duration::from_secs(5);

async fn server(options: ServeOptions) -> Server {
    Server::start(state(&no_database()), &RouterOptions::default(), options).await
}

async fn healthy(wire: &mut Wire) {
    wire.send(head("GET", "/health", None, &[])).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn slow_connections_are_closed() {
    let server = server(ServeOptions { header_timeout: SHORT, ..ServeOptions::default() }).await;
    for beginning in ["", "G", "GET /health HTTP/1.1\r\n", "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let started = Instant::now();
        let mut wire = Wire::connect(server.address).await;
        wire.send(beginning).await.unwrap();
        assert!(wire.is_closed_within(SOON).await, "{beginning:?}");
        assert!(started.elapsed() >= SHORT, "{beginning:?}");
    }
    // One that never says anything is closed where HTTP/2 is spoken, too.
    let both = self::server(ServeOptions { header_timeout: SHORT, http2: true, ..ServeOptions::default() }).await;
    assert!(Wire::connect(both.address).await.is_closed_within(SOON).await);
    // A byte now and then does not help.
    let mut wire = Wire::connect(server.address).await;
    let mut sent = 0;
    while sent < 50 && wire.send("G").await.is_ok() {
        tokio::time::sleep(SHORT / 4).await;
        sent += 1;
    }
    assert!(sent < 50);
    // An idle connection is kept as long, and no longer.
    let server = self::server(ServeOptions { header_timeout: SHORT * 5, ..ServeOptions::default() }).await;
    let mut wire = Wire::connect(server.address).await;
    healthy(&mut wire).await;
    tokio::time::sleep(SHORT / 4).await;
    healthy(&mut wire).await;
    assert!(wire.is_closed_within(SOON).await);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let options =
        ServeOptions { write_timeout: SHORT, header_timeout: Duration::from_mins(10), max_connections: 1, ..ServeOptions::default() };
    let server = server(options).await;
    let mut wire = Wire::connect(server.address).await;
    // So many requests that their answers fill every buffer between here and there.
    let request = head("GET", "/health", None, &[]);
    let sending = tokio::time::timeout(Duration::from_secs(30), async { while wire.send(&request).await.is_ok() {} });
    assert!(sending.await.is_ok(), "it takes requests although nobody reads the answers");
    // Its place is free.
    healthy(&mut Wire::connect(server.address).await).await;
}

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let server = server(ServeOptions::default()).await;
    let garbage = [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\x00\x00\x00\x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    ];
    for garbage in garbage {
        let mut wire = Wire::connect(server.address).await;
        wire.send(garbage).await.unwrap();
        if let Ok(answer) = wire.answer().await {
            assert_eq!(answer.status, 400);
        }
        assert!(wire.is_closed_within(SOON).await);
    }
    let mut wire = Wire::connect(server.address).await;
    let large = "x".repeat(300 << 10);
    let _ = wire.send(head("GET", "/health", None, &[("X-Large", &large)])).await;
    if let Ok(answer) = wire.answer().await {
        assert_eq!(answer.status, 431);
    }
    healthy(&mut Wire::connect(server.address).await).await;
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_a_row() {
    let server = server(ServeOptions::default()).await;
    let mut wire = Wire::connect(server.address).await;
    wire.send(head("GET", "/health", None, &[]) + &head("GET", "/nothing", None, &[]) + &head("GET", "/health", None, &[])).await.unwrap();
    for status in [200, 404, 200] {
        assert_eq!(wire.answer().await.unwrap().status, status);
    }
}

#[tokio::test]
async fn who_kept_the_server_waiting_longest_makes_room() {
    let server = server(ServeOptions { max_connections: 4, ..ServeOptions::default() }).await;
    let slow_body = head("POST", "/webhooks/sentry", None, &[("Content-Length", "10"), ("Expect", "100-continue")]);
    let mut silent = Wire::connect(server.address).await;
    let mut idle = Wire::connect(server.address).await;
    healthy(&mut idle).await;
    let mut slow_head = Wire::connect(server.address).await;
    slow_head.send("GET /health HTTP/1.1\r\n").await.unwrap();
    let mut busy = Wire::connect(server.address).await;
    healthy(&mut busy).await;
    // Whoever is in the middle of a body began to be slow with its head, and not when it was accepted.
    idle.send(&slow_body).await.unwrap();
    assert_eq!(idle.answer().await.unwrap().status, 100);
    for slow in [&mut silent, &mut slow_head, &mut busy, &mut idle] {
        let mut new = Wire::connect(server.address).await;
        healthy(&mut new).await;
        assert!(slow.is_closed_within(SOON).await);
        // Which has to be there, so that the next one needs room.
        std::mem::swap(slow, &mut new);
    }
}

/// What handlers do that are held up until a test says that they are done.
#[derive(Clone)]
struct Work {
    begun: Arc<Semaphore>,
    done: Arc<Semaphore>,
}

impl Default for Work {
    fn default() -> Self {
        Self { begun: Arc::new(Semaphore::new(0)), done: Arc::new(Semaphore::new(0)) }
    }
}

impl Work {
    async fn run(self) -> &'static str {
        self.begun.add_permits(1);
        self.done.acquire().await.unwrap().forget();
        "done"
    }
}

#[tokio::test]
async fn whom_the_server_is_at_work_for_keeps_its_place() {
    let work = Work::default();
    let Work { begun, done } = work.clone();
    let (get, post) = (work.clone(), work);
    let methods = axum::routing::get(async move || get.run().await).post(async move |_: String| post.run().await);
    let router = axum::Router::new().route("/work", methods);
    let server = Server::serve(router, ServeOptions { max_connections: 2, ..ServeOptions::default() }).await;
    let (mut one, mut two) = (Wire::connect(server.address).await, Wire::connect(server.address).await);
    one.send(head("GET", "/work", None, &[])).await.unwrap();
    two.send(head("POST", "/work", None, &[("Content-Length", "1")]) + "x").await.unwrap();
    begun.acquire_many(2).await.unwrap().forget();
    let mut three = Wire::connect(server.address).await;
    three.send(head("GET", "/work", None, &[])).await.unwrap();
    assert!(tokio::time::timeout(SHORT, begun.acquire()).await.is_err());
    // The first that is answered has kept the server waiting longest, from then on.
    done.add_permits(1);
    let (answered, other) = tokio::select! {
        answer = one.answer() => (answer, &mut two),
        answer = two.answer() => (answer, &mut one),
    };
    assert_eq!(answered.unwrap().status, 200);
    begun.acquire().await.unwrap().forget();
    done.add_permits(2);
    for waiting in [other, &mut three] {
        assert_eq!(waiting.answer().await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn who_sends_a_body_that_nobody_reads_keeps_its_place() {
    let work = Work::default();
    let Work { begun, done } = work.clone();
    // What reads no body, and what does something before it reads it.
    let (delete, post) = (work.clone(), work);
    let methods = axum::routing::delete(async move || delete.run().await).post(async move |request: axum::extract::Request| {
        let answer = post.run().await;
        assert_eq!(axum::body::to_bytes(request.into_body(), 10).await.unwrap(), "{}");
        answer
    });
    let router = axum::Router::new().route("/work", methods);
    let server = Server::serve(router, ServeOptions { max_connections: 1, ..ServeOptions::default() }).await;
    for method in ["DELETE", "POST"] {
        let mut busy = Wire::connect(server.address).await;
        busy.send(head(method, "/work", None, &[("Content-Length", "2")]) + "{}").await.unwrap();
        begun.acquire().await.unwrap().forget();
        let mut other = Wire::connect(server.address).await;
        other.send(head("GET", "/nothing", None, &[])).await.unwrap();
        tokio::time::sleep(2 * SHORT).await;
        done.add_permits(1);
        assert_eq!(busy.answer().await.unwrap().body, b"done", "{method}");
        assert_eq!(other.answer().await.unwrap().status, 404);
    }
}

#[tokio::test]
async fn who_sends_a_byte_now_and_then_does_not_stay() {
    let server = server(ServeOptions { max_connections: 2, ..ServeOptions::default() }).await;
    let mut slow = Wire::connect(server.address).await;
    slow.send(head("POST", "/webhooks/sentry", None, &[("Content-Length", "100"), ("Expect", "100-continue")])).await.unwrap();
    assert_eq!(slow.answer().await.unwrap().status, 100);
    let mut idle = Wire::connect(server.address).await;
    healthy(&mut idle).await;
    for _ in 0..3 {
        tokio::time::sleep(SHORT / 2).await;
        slow.send("x").await.unwrap();
    }
    healthy(&mut Wire::connect(server.address).await).await;
    assert!(slow.is_closed_within(SOON).await);
    healthy(&mut idle).await;
}

/// A client that asks again soon after each answer, until it is told that one is the last: it answers that one.
async fn busy(mut wire: Wire) -> RawAnswer {
    loop {
        wire.send(head("GET", "/health", None, &[])).await.unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.status, 200);
        if answer.head.to_ascii_lowercase().contains("connection: close\r\n") {
            assert!(wire.is_closed_within(SOON).await);
            return answer;
        }
        tokio::time::sleep(SHORT / 20).await;
    }
}

#[tokio::test]
async fn who_never_waits_for_long_makes_room_after_an_answer() {
    let server = server(ServeOptions { max_connections: 2, ..ServeOptions::default() }).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(server.address).await;
        healthy(&mut wire).await;
        clients.push(tokio::spawn(busy(wire)));
    }
    // Each newcomer needs one of them to go, and no more than that.
    let mut newcomers = Vec::new();
    for gone in 1..=2 {
        let mut new = Wire::connect(server.address).await;
        let answered = tokio::time::timeout(SOON, healthy(&mut new)).await;
        assert!(answered.is_ok());
        newcomers.push(tokio::spawn(busy(new)));
        tokio::time::sleep(SHORT).await;
        assert_eq!(clients.iter().chain(&newcomers).filter(|client| client.is_finished()).count(), gone);
    }
}

#[tokio::test]
async fn a_stop_answers_whom_it_has_no_room_for_yet() {
    let server = server(ServeOptions { max_connections: 1, ..ServeOptions::default() }).await;
    let mut wire = Wire::connect(server.address).await;
    healthy(&mut wire).await;
    let work = tokio::spawn(busy(wire));
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::connect(server.address).await;
        wire.send(head("GET", "/health", None, &[])).await.unwrap();
        waiting.push(wire);
    }
    let started = Instant::now();
    assert!(server.stop().await);
    assert!(started.elapsed() < SOON);
    for mut wire in waiting {
        assert_eq!(wire.answer().await.unwrap().status, 200);
    }
    work.await.unwrap();
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = server(ServeOptions::default()).await;
    let mut wire = Wire::connect(server.address).await;
    // Most of it is fine, and a little more is not.
    wire.send(head("GET", "/health", None, &[("X-Large", &"x".repeat(60 << 10))])).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().status, 200);
    wire.send(head("GET", "/health", None, &[("X-Large", &"x".repeat(66 << 10))])).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().status, 431);
    assert!(wire.is_closed_within(SOON).await);
    let mut wire = Wire::connect(server.address).await;
    let names: Vec<String> = (0..101).map(|number| format!("X-Header-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    wire.send(head("GET", "/health", None, &many)).await.unwrap();
    assert_eq!(wire.answer().await.unwrap().status, 431);
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_closes_the_rest() {
    let (app, admin) = TestApp::with_admin().await;
    let address = app.server.address;
    let mut idle = Wire::connect(address).await;
    healthy(&mut idle).await;
    let mut silent = Wire::connect(address).await;
    let mut busy = Wire::connect(address).await;
    let body = "{\"under\":\"way\"}";
    let signature = hex_mac(SENTRY_SECRET, body);
    let headers = [("Content-Length", "15"), ("Sentry-Hook-Signature", signature.as_str()), ("Expect", "100-continue")];
    busy.send(head("POST", "/webhooks/sentry", None, &headers)).await.unwrap();
    // The request is under way once its body is asked for.
    assert_eq!(busy.answer().await.unwrap().status, 100);

    let started = Instant::now();
    let TestApp { server, db } = app;
    let stopping = tokio::spawn(server.stop());
    assert!(idle.is_closed_within(SOON).await);
    assert!(silent.is_closed_within(SOON).await);
    assert!(!stopping.is_finished());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    busy.send(body).await.unwrap();
    let answer = busy.answer().await.unwrap();
    assert_eq!(answer.status, 201);
    assert!(busy.is_closed_within(SOON).await);
    assert!(stopping.await.unwrap());
    assert!(started.elapsed() < SOON);
    assert_eq!(db.store().raw("SELECT id FROM signals").await.unwrap().len(), 1);
    drop(admin);
}

#[tokio::test]
async fn a_stop_answers_whom_the_system_had_accepted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut wire = Wire::connect(address).await;
        wire.send(head("GET", "/health", None, &[])).await.unwrap();
        waiting.push(wire);
    }
    let router = loop_http::router(state(&no_database()), &RouterOptions::default());
    assert!(loop_http::serve(listener, router, &ServeOptions::default(), std::future::ready(())).await);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    for mut wire in waiting {
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.head.to_ascii_lowercase().contains("connection: close\r\n"), "{}", answer.head);
        assert!(wire.is_closed_within(SOON).await);
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let server = server(ServeOptions { drain_timeout: SHORT, ..ServeOptions::default() }).await;
    let mut busy = Wire::connect(server.address).await;
    busy.send(head("POST", "/webhooks/sentry", None, &[("Content-Length", "15"), ("Expect", "100-continue")])).await.unwrap();
    assert_eq!(busy.answer().await.unwrap().status, 100);
    let started = Instant::now();
    assert!(!server.stop().await);
    assert!(started.elapsed() >= SHORT && started.elapsed() < SOON);
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_wanted() {
    // The preface and the empty settings that a client begins with.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for http2 in [true, false] {
        let server = server(ServeOptions { http2, ..ServeOptions::default() }).await;
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        let answered = tokio::task::spawn_blocking(move || {
            use std::io::{Read as _, Write as _};
            stream.write_all(preface).unwrap();
            let mut frame = [0; 9];
            stream.read_exact(&mut frame).map(|()| frame)
        });
        // The server's first frame is its settings.
        let settings = answered.await.unwrap().is_ok_and(|frame| frame[3] == 4 && frame[0] == 0);
        assert_eq!(settings, http2);
        healthy(&mut Wire::connect(server.address).await).await;
    }
}
