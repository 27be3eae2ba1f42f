//! The binary with the database in itself.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::{Process, run, texts},
    support::id,
};

fn serve(dir: &Path) -> Process {
    Process::serve(&[("GITHUB_WEBHOOK_SECRET", "it's a secret, the old one")], dir)
}

/// The line of an output that begins with these words, and what is indented beneath it.
fn shown<'a>(stdout: &'a str, heading: &str) -> &'a str {
    let (_, after) = stdout.split_once(heading).unwrap();
    after.trim_start_matches('\n').split("\n\n").next().unwrap()
}

/// Runs a command as it would be pasted, and reads what it answers.
fn paste(command: &str) -> Value {
    let output = Command::new("sh").args(["-c", &command.replacen("curl ", "curl --silent --show-error ", 1)]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test]
async fn a_first_start_shows_a_key_and_requests_that_work() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path());
    assert!(dir.path().join(".loop").is_dir());
    // Its output is read to the end, so the commands are run against a second start on the same port.
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let first = server.stop();
    assert_eq!(first.status.code(), Some(0), "{}", first.stderr);
    let key = shown(&first.stdout, "This is your admin key. It is shown this one time:").trim().to_owned();
    assert!(key.starts_with("loop_") && key.len() == 48, "{}", first.stdout);
    let list = shown(&first.stdout, "See the issues:");
    let deliver = shown(&first.stdout, "Send a signed GitHub delivery:");
    assert!(list.contains(&port) && deliver.contains(&port));

    let server = serve(dir.path());
    let there = |command: &str| command.replace(&format!("127.0.0.1:{port}"), &server.address);
    let delivered = paste(&there(deliver));
    assert_eq!(delivered["issue"]["title"], "GitHub: issues on acme/shop by octocat");
    assert_eq!(delivered["signal"]["sourceId"], "issues.opened");
    assert_eq!(paste(&there(deliver)), delivered);
    let listed = paste(&there(list));
    assert_eq!(listed["data"][0]["id"], delivered["issue"]["id"]);
    let second = server.stop();
    assert!(!second.stdout.contains("loop_"), "{}", second.stdout);
    assert!(second.stdout.contains("Send a signed GitHub delivery"));
}

#[tokio::test]
async fn one_server_at_a_time_has_the_data() {
    let dir = TempDir::new().unwrap();
    let server = serve(dir.path());
    let data = dir.path().join(".loop").canonicalize().unwrap();
    let line = format!(
        "loop-http: the data directory {} is in use by another server: stop that one first, or choose another directory\n",
        data.display()
    );
    let variables = [("LOOP_DATA_DIR", data.to_str().unwrap()), ("PORT", "0")];
    for arguments in [&["serve"][..], &["migrate"], &["keys", "list"]] {
        let output = run(arguments, &variables);
        assert_eq!((output.status.code(), texts(&output)), (Some(1), (String::new(), line.clone())));
    }
    server.stop();
    // The keys are managed while it does not run.
    let (listed, _) = texts(&run(&["keys", "list"], &variables));
    assert!(listed.contains("first admin"), "{listed}");
    assert!(run(&["migrate"], &variables).status.success());
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let (key, _) = texts(&run(&["keys", "create", "--name", "t", "--role", "admin"], &[("LOOP_DATA_DIR", data.to_str().unwrap())]));
    let variables = [("LOOP_DATA_DIR", data.to_str().unwrap())];
    let mut acknowledged = Vec::new();
    for round in 0..2 {
        let server = Process::serve(&variables, dir.path());
        let client = reqwest::Client::new();
        let path = server.url("/api/v1/issues");
        let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (client, path, key, sent) = (client.clone(), path.clone(), key.trim().to_owned(), sent.clone());
                tokio::spawn(async move {
                    loop {
                        let request = client.post(&path).bearer_auth(&key).json(&json!({ "title": "kept" }));
                        let Ok(answer) = request.send().await else { return };
                        assert_eq!(answer.status(), 201);
                        let Ok(issue) = answer.json::<Value>().await else { return };
                        sent.send(id(&issue)).unwrap();
                    }
                })
            })
            .collect();
        let target = acknowledged.len() + 100;
        while acknowledged.len() < target {
            acknowledged.push(received.recv().await.unwrap());
        }
        let killed = server.kill();
        assert_eq!(killed.status.code(), None);
        for writer in writers {
            writer.await.unwrap();
        }
        while let Ok(id) = received.try_recv() {
            acknowledged.push(id);
        }

        let server = Process::serve(&variables, dir.path());
        for id in &acknowledged {
            let answer = client.get(server.url(&format!("/api/v1/issues/{id}"))).bearer_auth(key.trim()).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{id} in round {round}");
        }
        assert_eq!(server.stop().status.code(), Some(0));
    }
}
