//! The binary over a database that it is given.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Process, database, run, texts, variables};

#[tokio::test]
async fn migrate_says_what_it_did() {
    let db = database(false).await;
    let output = run(&["migrate"], &variables(&db));
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[12]), (13, "applied V1__projects_and_goals", "the schema is at version 12"));
    assert_eq!(texts(&run(&["migrate"], &variables(&db))).0, "the schema is at version 12\n");
}

#[tokio::test]
async fn keys_are_created_listed_and_revoked() {
    let db = database(true).await;
    let variables = variables(&db);
    let created = run(&["keys", "create", "--name", "ci", "--role", "read", "--expires-at", "2999-01-01T00:00:00Z"], &variables);
    let (key, note) = texts(&created);
    let key = key.strip_suffix('\n').unwrap();
    assert!(key.starts_with("loop_") && key.len() == 48);
    let id = note.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(note, format!("created {id} with the role read; it is not shown again\n"));

    let (listed, _) = texts(&run(&["keys", "list"], &variables));
    assert_eq!(listed, format!("{id}  {}…  read   all projects  never used  ci\n", &key[..12]));

    assert_eq!(texts(&run(&["keys", "revoke", &id], &variables)).0, format!("revoked {id}\n"));
    let again = run(&["keys", "revoke", &id], &variables);
    assert_eq!((again.status.code(), texts(&again).1), (Some(1), format!("loop-http: there is no key {id}\n")));
    assert_eq!(texts(&run(&["keys", "list"], &variables)).0, "");

    let unknown = run(&["keys", "create", "--name", "ci", "--project", "abcdefghijklmnopqrstuvwx"], &variables);
    assert_eq!(texts(&unknown).1, "loop-http: API key refers to something unknown in projectId\n");
    for wrong in
        [&["keys", "create"][..], &["keys", "create", "--name", ""], &["keys", "create", "--name", "a", "--role", "owner"], &["fly"]]
    {
        assert_eq!(run(wrong, &variables).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn wrong_settings_stop_the_start_with_a_line_each() {
    let wrong = [("PORT", "http"), ("LOOP_POOL_SIZE", "many"), ("DATABASE_URL", "mysql://root:hunter2@localhost/loop")];
    for arguments in [&["serve"][..], &[], &["migrate"], &["keys", "list"]] {
        let output = run(arguments, &wrong);
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(2), ""));
        let mut lines: Vec<_> = stderr.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), 3, "{stderr}");
        assert!(lines[0].starts_with("loop-http: DATABASE_URL: ") && !lines[0].contains("hunter2"));
        assert_eq!(lines[1], "loop-http: LOOP_POOL_SIZE: must be a whole number from 1 to 1000");
        assert_eq!(lines[2], "loop-http: PORT: must be a port number from 0 to 65535");
    }
}

#[test]
fn what_needs_no_settings_needs_none() {
    let output = run(&["--version"], &[("PORT", "http")]);
    assert_eq!(texts(&output).0, format!("loop-http {}\n", env!("CARGO_PKG_VERSION")));
    let help = texts(&run(&["--help"], &[])).0;
    assert!(["serve", "migrate", "keys"].iter().all(|word| help.contains(word)), "{help}");
}

#[tokio::test]
async fn serves_until_it_is_told_to_stop_and_finishes_what_is_under_way() {
    let db = database(true).await;
    let key = texts(&run(&["keys", "create", "--name", "t"], &variables(&db))).0;
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&variables(&db), dir.path());
    let client = reqwest::Client::new();
    let created = client.post(server.url("/api/v1/issues")).bearer_auth(key.trim()).json(&json!({ "title": "t" })).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let id = created.json::<Value>().await.unwrap()["id"].clone();

    // Requests one after the other, while it is told to stop: each is answered, or not taken at all.
    let mut answered = 0;
    for turn in 0.. {
        if turn == 20 {
            server.terminate();
        }
        let path = server.url(&format!("/api/v1/issues/{}", id.as_str().unwrap()));
        match reqwest::Client::new().get(path).bearer_auth(key.trim()).send().await {
            Ok(answer) => {
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.json::<Value>().await.unwrap()["id"], id);
                answered += 1;
            }
            Err(error) => {
                assert!(error.is_connect() || error.is_request(), "{error:?}");
                break;
            }
        }
    }
    assert!(answered >= 20);
    let ended = server.end();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("told to stop") && ended.stderr.trim_end().ends_with("stopped"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn starts_before_its_database_does() {
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&[("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d?sslmode=disable")], dir.path());
    assert_eq!(reqwest::get(server.url("/health")).await.unwrap().status(), 200);
    assert_eq!(reqwest::get(server.url("/ready")).await.unwrap().status(), 503);
    let ended = server.stop();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.contains("the database does not answer yet") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

#[tokio::test]
async fn warns_of_a_database_that_is_not_migrated() {
    let db = database(false).await;
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&variables(&db), dir.path());
    assert_eq!(reqwest::get(server.url("/ready")).await.unwrap().status(), 503);
    let ended = server.stop();
    assert!(ended.stderr.contains("run `loop-http migrate`"), "{}", ended.stderr);
}

#[test]
fn a_port_that_is_taken_is_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let url = "postgres://u@127.0.0.1:1/d?sslmode=disable";
    let started = Instant::now();
    let output = run(&["serve"], &[("DATABASE_URL", url), ("PORT", &port.to_string()), ("LOOP_LOG", "error")]);
    assert!(started.elapsed() < Duration::from_secs(20));
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with(&format!("loop-http: listening on 127.0.0.1:{port}: ")) && stderr.lines().count() == 1, "{stderr}");
}
