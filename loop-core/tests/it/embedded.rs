//! The embedded PostgreSQL: one server per directory, data that stays, and clients that misbehave.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use loop_core::{
    LoopStore, NewIssue,
    embedded::{Embedded, EmbeddedError},
};
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_postgres::{Client, Config, NoTls, config::Host, error::SqlState};

/// A connection of the test's own, and the task that ends with it.
async fn connect(database: &Embedded) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(database.connection_string(), NoTls).await?;
    Ok((client, tokio::spawn(async move { drop(connection.await) })))
}

async fn start(dir: &TempDir) -> Embedded {
    let path = dir.path().join("data");
    spawn_blocking(|| Embedded::start(path)).await.unwrap().unwrap()
}

async fn count(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0)
}

/// A client that speaks no known protocol, on whatever socket the server has.
fn raw(database: &Embedded) -> impl std::io::Read + std::io::Write + use<> {
    let config: Config = database.connection_string().parse().unwrap();
    match &config.get_hosts()[0] {
        #[cfg(unix)]
        Host::Unix(dir) => {
            let stream = std::os::unix::net::UnixStream::connect(dir.join(".s.PGSQL.5432")).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        }
        #[cfg(not(unix))]
        Host::Tcp(host) => {
            let stream = std::net::TcpStream::connect((host.as_str(), config.get_ports()[0])).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        }
        #[cfg(unix)]
        host @ Host::Tcp(_) => panic!("{host:?}"),
    }
}

/// The first packet of an ordinary client, and then one query.
fn startup_and_query(query: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    packet.extend(u32::try_from(8 + parameters.len()).unwrap().to_be_bytes());
    packet.extend(196_608_u32.to_be_bytes());
    packet.extend(parameters);
    packet.push(b'Q');
    packet.extend(u32::try_from(5 + query.len()).unwrap().to_be_bytes());
    packet.extend(query.as_bytes());
    packet.push(0);
    packet
}

#[tokio::test]
async fn one_server_at_a_time_uses_a_directory_and_what_was_committed_stays() {
    let dir = TempDir::new().unwrap();
    let first = start(&dir).await;
    let (client, connection) = connect(&first).await.unwrap();
    client.batch_execute("CREATE TABLE kept (id int); INSERT INTO kept SELECT generate_series(1, 1000)").await.unwrap();

    let second = Embedded::start(dir.path().join("data")).unwrap_err();
    assert!(matches!(second, EmbeddedError::Locked { .. }), "{second:?}");
    assert!(second.to_string().contains("in use by another server"), "{second}");

    // It stops with a client in the middle of a transaction.
    client.batch_execute("BEGIN; INSERT INTO kept VALUES (0)").await.unwrap();
    let started = Instant::now();
    drop(first);
    assert!(started.elapsed() < Duration::from_secs(20), "stopped after {:?}", started.elapsed());
    connection.await.unwrap();
    assert!(client.is_closed());

    let again = start(&dir).await;
    let (client, _) = connect(&again).await.unwrap();
    assert_eq!(count(&client).await, 1000);
}

#[tokio::test]
async fn it_serves_one_client_at_a_time_and_none_can_break_it() {
    let dir = TempDir::new().unwrap();
    let database = start(&dir).await;
    // A client that says nothing keeps nobody out.
    let _silent = raw(&database);
    let (first, connection) = connect(&database).await.unwrap();
    first.batch_execute("CREATE TABLE kept (id int)").await.unwrap();

    let started = Instant::now();
    let refused = connect(&database).await.err().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::TOO_MANY_CONNECTIONS), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(20), "refused after {:?}", started.elapsed());
    first.batch_execute("SELECT 1").await.unwrap();
    drop(first);
    connection.await.unwrap();
    let (second, connection) = connect(&database).await.unwrap();
    second.batch_execute("SELECT 1").await.unwrap();
    drop(second);
    connection.await.unwrap();

    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
        b"\0\0\0\x08",
        &[0xff; 200],
        // A message without a query after a good beginning, and one that claims to be enormous.
        &[startup_and_query("").as_slice(), b"Q\0\0\0\x01"].concat(),
        &[startup_and_query("").as_slice(), b"Q\x7f\xff\xff\xff"].concat(),
    ];
    for bytes in garbage {
        let mut client = raw(&database);
        client.write_all(bytes).unwrap();
    }
    // One that goes away in the middle of a transaction and of a large answer that it did not read. Those before may still hold its place.
    let query = startup_and_query("BEGIN; INSERT INTO kept VALUES (1); SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut client = raw(&database);
        if client.write_all(&query).is_ok() && client.read_exact(&mut [0; 5000]).is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "never served");
    }

    let client = loop {
        match connect(&database).await {
            Ok((client, _)) => break client,
            Err(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) && Instant::now() < deadline => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(count(&client).await, 0);
}

#[cfg(unix)]
#[tokio::test]
async fn only_this_user_reaches_it_however_long_the_path_is() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = TempDir::new().unwrap();
    let mut deep = dir.path().join("with space & ümlaut");
    while deep.as_os_str().len() < 200 {
        deep.push("deeper");
    }
    // The same data directory, moved: a path that is too long for a socket must do as well.
    for path in [dir.path().join("data"), deep] {
        if path.ends_with("deeper") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::rename(dir.path().join("data"), &path).unwrap();
        }
        let database = spawn_blocking(move || Embedded::start(path)).await.unwrap().unwrap();
        let (client, _) = connect(&database).await.unwrap();
        client.batch_execute("CREATE TABLE IF NOT EXISTS kept (id int)").await.unwrap();
        let config: Config = database.connection_string().parse().unwrap();
        let Host::Unix(sockets) = &config.get_hosts()[0] else { panic!("{config:?}") };
        assert_eq!(sockets.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(database);
        assert!(!sockets.exists());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn it_stops_also_when_its_sockets_were_removed() {
    let dir = TempDir::new().unwrap();
    let database = start(&dir).await;
    std::fs::remove_dir_all(dir.path().join("data/run")).unwrap();
    let stopped = spawn_blocking(move || drop(database));
    tokio::time::timeout(Duration::from_secs(30), stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn looking_after_it_keeps_what_is_there_and_lets_go_of_the_connection() {
    let dir = TempDir::new().unwrap();
    let database = start(&dir).await;
    let store = LoopStore::builder(database.connection_string()).pool_size(1).connect().await.unwrap();
    store.migrate().await.unwrap();
    let issue = store.issues().create(NewIssue::titled("Stay".parse().unwrap())).await.unwrap();
    store.maintain().await.unwrap();
    assert_eq!(store.issues().get(&issue.id).await.unwrap(), issue);
    let analyzed = store.raw("SELECT reltuples FROM pg_class WHERE relname = 'issues'").await.unwrap();
    assert_eq!(analyzed, [[Some("1".to_owned())]]);
}
