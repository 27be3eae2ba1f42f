//! More connections than there is room for, most of them slow.

use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{TcpSocket, TcpStream},
    sync::Mutex,
};

use crate::{
    postgres::{Postgres, until},
    process::{Process, configured},
    wire::{Wire, head},
};

/// Far more than a good client ever waits here, and less than the 15 seconds after which slow ones go by themselves.
const RESPONSIVE: Duration = Duration::from_secs(10);

/// Held by every one of these tests: each takes all the processors there are, and two of them would measure each other.
static ALONE: Mutex<()> = Mutex::const_new(());

fn address(server: &Process) -> SocketAddr {
    // Both ends of thousands of connections: the server raises its own limit.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    server.address.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn a_thousand_connections_at_once_are_answered() {
    const CONNECTIONS: usize = 1000;
    const ROUNDS: usize = 3;
    let _alone = ALONE.lock().await;
    let postgres = Postgres::start();
    let server = postgres.serve(&[]);
    let address = address(&server);
    let started = Instant::now();
    let mut wires = join_all((0..CONNECTIONS).map(|_| Wire::connect(address))).await;
    let (mut created, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let ask = async |wire: &mut Wire| {
            let body = json!({ "title": "one of a thousand" }).to_string();
            let headers = [("Content-Type", "application/json"), ("Content-Length", &body.len().to_string())];
            wire.send(head("POST", "/api/v1/issues", Some(&postgres.key), &headers) + &body).await.unwrap();
            wire.answer().await.unwrap().status
        };
        for status in join_all(wires.iter_mut().map(ask)).await {
            match status {
                201 => created += 1,
                503 => refused += 1,
                other => panic!("{other}"),
            }
        }
    }
    let stored: usize = postgres.query("SELECT count(*) FROM issues").await[0].parse().unwrap();
    println!(
        "fault: {CONNECTIONS} connections at once, {ROUNDS} times: {created} created, {refused} refused, {stored} stored, in {:.1?}",
        started.elapsed()
    );
    assert_eq!(created + refused, CONNECTIONS * ROUNDS);
    assert!((created..=created + refused).contains(&stored));
}

/// In which way a connection keeps the server waiting.
#[derive(Clone, Copy)]
enum Slow {
    Silent,
    Head,
    Body,
    Idle,
    /// It does not read the answers that it asks for.
    Deaf,
}

#[derive(Default)]
struct Crowd {
    open: AtomicUsize,
    most: AtomicUsize,
    made: AtomicUsize,
}

impl Slow {
    /// Every way in turn. Those that do not read are few, and do not come again: they begin with a lot of requests, which is another kind
    /// of attack.
    fn new(number: usize) -> Self {
        match number % 4 {
            _ if number.is_multiple_of(2500) => Self::Deaf,
            0 => Self::Silent,
            1 => Self::Head,
            2 => Self::Body,
            _ => Self::Idle,
        }
    }

    /// Connects, and is slow until the server ends it; then does so again.
    async fn attack(self, address: SocketAddr, crowd: Arc<Crowd>) {
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            if let Self::Deaf = self {
                socket.set_recv_buffer_size(4096).unwrap();
            }
            if let Ok(mut stream) = socket.connect(address).await {
                let open = crowd.open.fetch_add(1, Ordering::SeqCst) + 1;
                crowd.most.fetch_max(open, Ordering::SeqCst);
                crowd.made.fetch_add(1, Ordering::SeqCst);
                let _ = self.dawdle(&mut stream).await;
                crowd.open.fetch_sub(1, Ordering::SeqCst);
            }
            if let Self::Deaf = self {
                return;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }

    async fn dawdle(self, stream: &mut TcpStream) -> std::io::Result<()> {
        let first = match self {
            Self::Silent => String::new(),
            Self::Head => "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".to_owned(),
            Self::Body => head("POST", "/webhooks/github", None, &[("Content-Length", "1000000")]),
            Self::Idle => head("GET", "/health", None, &[]),
            Self::Deaf => head("GET", "/health", None, &[]).repeat(400),
        };
        stream.write_all(first.as_bytes()).await?;
        if let Self::Deaf = self {
            return stream.ready(Interest::ERROR).await.map(drop);
        }
        let (mut reader, mut writer) = stream.split();
        let reading = async {
            let mut buffer = [0; 1024];
            while reader.read(&mut buffer).await? > 0 {}
            Ok(())
        };
        let dribbling = async {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                if let Self::Head | Self::Body = self {
                    writer.write_all(b"x").await?;
                }
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = dribbling => ended,
        }
    }
}

/// What a good client met.
#[derive(Default)]
struct Met {
    done: usize,
    slowest: Duration,
    /// How often the connection that it keeps was closed while it was idle, which any client has to be prepared for.
    closed: usize,
}

/// A good client writes, each time on a new connection, and on one that it keeps. It has a thread of its own, as it would have a machine of
/// its own: among the tasks of a crowd, it would be slow itself.
fn good_client(address: SocketAddr, key: String, rounds: usize) -> thread::JoinHandle<Met> {
    let write = async move |wire: &mut Wire| {
        let body = json!({ "title": "in a crowd" }).to_string();
        let headers = [("Content-Type", "application/json"), ("Content-Length", &body.len().to_string())];
        wire.send(head("POST", "/api/v1/issues", Some(&key), &headers) + &body).await?;
        wire.answer().await.map(|answer| assert_eq!(answer.status, 201))
    };
    let client = async move {
        let (mut met, mut kept) = (Met::default(), None);
        for _ in 0..rounds {
            let asked = Instant::now();
            write(&mut Wire::connect(address).await).await.unwrap();
            met.slowest = met.slowest.max(asked.elapsed());
            met.done += 1;
            let mut wire = match kept.take() {
                Some(wire) => wire,
                None => Wire::connect(address).await,
            };
            if write(&mut wire).await.is_ok() {
                met.done += 1;
                kept = Some(wire);
            } else {
                met.closed += 1;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        met
    };
    thread::spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(client))
}

async fn crowded(room: usize) {
    const SLOW: usize = 10_000;
    const ROUNDS: usize = 80;
    let _alone = ALONE.lock().await;
    let postgres = Postgres::start();
    let server = postgres.serve(&[("LOOP_MAX_CONNECTIONS", &room.to_string()), ("LOOP_LOG", "warn,loop_http::commands=info")]);
    let (address, crowd) = (address(&server), Arc::new(Crowd::default()));
    let attackers: Vec<_> = (0..SLOW).map(|number| tokio::spawn(Slow::new(number).attack(address, Arc::clone(&crowd)))).collect();
    let began = Instant::now();
    until("the crowd is there", Duration::from_mins(1), async || crowd.made.load(Ordering::SeqCst) >= SLOW).await;
    let gathered = began.elapsed();
    let client = good_client(address, postgres.key.clone(), ROUNDS);
    until("the good client is done", Duration::from_mins(2), async || client.is_finished()).await;
    let Met { done, slowest, closed } = client.join().unwrap();
    for attacker in attackers {
        attacker.abort();
    }
    println!(
        "fault: {SLOW} slow connections where there is room for {room}: at most {} open, {} made, gathered in {gathered:.1?}; \
         {done} writes of a good client meanwhile, on a new connection within {slowest:.2?}; its other one was closed {closed} times",
        crowd.most.load(Ordering::SeqCst),
        crowd.made.load(Ordering::SeqCst),
    );
    assert!(slowest < RESPONSIVE);
    // What it was not told of was not done.
    assert_eq!(postgres.query("SELECT count(*) FROM issues").await, [done.to_string()]);
    assert_eq!(server.stop().status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn more_slow_connections_than_there_is_room_for_keep_nobody_out() {
    crowded(4096).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server"]
async fn ten_thousand_slow_connections_that_have_room_slow_nobody_down() {
    crowded(12_000).await;
}

/// Where fewer files can be open than connections are allowed, those that cannot be accepted make no room either: so fewer are allowed.
#[tokio::test(flavor = "multi_thread")]
async fn slow_connections_that_take_all_files_keep_nobody_out() {
    let _alone = ALONE.lock().await;
    let dir = TempDir::new().unwrap();
    let variables = [("DATABASE_URL", "postgres://u@127.0.0.1:1/d?sslmode=disable"), ("LOOP_LOG", "info,loop_http::layers=warn")];
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 400 && exec \"$0\"", env!("CARGO_BIN_EXE_loop-http")]);
    let server = Process::spawn(configured(shell, &variables), dir.path());
    let (address, crowd) = (address(&server), Arc::new(Crowd::default()));
    let attackers: Vec<_> = (1..=1000).map(|number| tokio::spawn(Slow::new(number).attack(address, Arc::clone(&crowd)))).collect();
    until("the crowd is there", Duration::from_mins(1), async || crowd.made.load(Ordering::SeqCst) >= 1000).await;
    for _ in 0..20 {
        let mut wire = Wire::connect(address).await;
        wire.send(head("GET", "/health", None, &[])).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().status, 200);
    }
    for attacker in attackers {
        attacker.abort();
    }
    let log = server.stop().stderr;
    assert!(log.contains("fewer connections than configured") && !log.contains("accepting a connection"), "{log}");
}
