//! The server with the database in itself, killed over and over.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    load::{Load, Writer},
    postgres::{SECRET, prepare},
    process::Process,
};

async fn killed(rounds: u32) {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let variables = [("LOOP_DATA_DIR", data.to_str().unwrap()), ("GITHUB_WEBHOOK_SECRET", SECRET)];
    let key = prepare(&variables);
    let started = Instant::now();
    let (mut acknowledged, mut tried, mut opening) = (BTreeSet::new(), 0, Duration::ZERO);
    let mut server = Process::serve(&variables, dir.path());
    for round in 0..rounds {
        let mut load = Load::start_from(tried, "kill -9 of the embedded database", 4, Writer::new(&server.address, &key));
        load.acknowledges(20).await;
        assert_eq!(server.kill().status.code(), None);
        let killed = Instant::now();
        server = Process::serve(&variables, dir.path());
        opening += killed.elapsed();
        let writer = Writer::new(&server.address, &key);
        let account = load.stop().await;
        account.check_answers();
        tried += account.tried();
        acknowledged.extend(account.ids());
        // All of it now and then, and what is newest each time.
        let whole = round % 10 == 9 || round + 1 == rounds;
        let stored = stored(&writer, if whole { usize::MAX } else { 1 }).await;
        let mut missing = if whole { acknowledged.difference(&stored).cloned().collect() } else { Vec::new() };
        missing.extend(account.ids().filter(|id| !stored.contains(id)));
        assert!(missing.is_empty(), "lost in or before round {round}: {missing:?}");
    }
    println!(
        "fault: kill -9 of the embedded database: {rounds} kills in {:.1?}; {tried} writes tried, {} issues and signals acknowledged, 0 lost; \
         {:.2?} to open it again",
        started.elapsed(),
        acknowledged.len(),
        opening / rounds
    );
    assert_eq!(server.stop().status.code(), Some(0));
}

/// The ids of everything on the first pages, which are the newest. No signal is without its issue.
async fn stored(writer: &Writer, pages: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut issues_of_signals = Vec::new();
    for list in ["issues", "signals"] {
        let mut cursor = String::new();
        for _ in 0..pages {
            let (status, page) = writer.get(&format!("/api/v1/{list}?limit=200{cursor}")).await;
            assert_eq!(status, 200, "{page}");
            for row in page["data"].as_array().unwrap() {
                assert!(ids.insert(row["id"].as_str().unwrap().to_owned()));
                issues_of_signals.extend(row["issueId"].as_str().map(str::to_owned));
            }
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    if pages == usize::MAX {
        assert!(issues_of_signals.iter().all(|issue| ids.contains(issue)));
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_kills_lose_nothing_that_was_acknowledged() {
    killed(4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn fifty_kills_lose_nothing_that_was_acknowledged() {
    killed(50).await;
}
