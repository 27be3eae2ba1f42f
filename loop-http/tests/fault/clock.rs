//! A clock that is set, forth and back, while the server runs: its own, and not PostgreSQL's.

use std::{fs, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use loop_core::Timestamp;
use serde_json::json;
use sha2::Sha256;
use tempfile::TempDir;

use crate::{
    load::{Load, Writer},
    postgres::{Postgres, until},
};

const KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What stands between a program and its clock.
fn libfaketime() -> PathBuf {
    let dirs = fs::read_dir("/usr/lib").unwrap().map(|dir| dir.unwrap().path().join("faketime")).chain(["/usr/lib/faketime".into()]);
    let found = dirs.map(|dir| dir.join("libfaketimeMT.so.1")).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("libfaketime is not installed"))
}

/// A delivery that is signed at this moment. The status it is answered with.
async fn signed_now(writer: &Writer, id: &str) -> u16 {
    let (now, body) = (Timestamp::now().as_millis() / 1000, json!({ "event": id }).to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(KEY).unwrap()).unwrap();
    mac.update(format!("{id}.{now}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let request = writer.request("POST", "/webhooks/posthog").header("content-type", "application/json");
    let request = request.header("webhook-id", id).header("webhook-timestamp", now.to_string()).header("webhook-signature", signature);
    request.body(body).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server, and libfaketime"]
async fn a_clock_that_jumps_harms_nothing_but_what_it_dates() {
    const HOUR: i64 = 3600;
    let (postgres, library, dir) = (Postgres::start(), libfaketime(), TempDir::new().unwrap());
    let clock = dir.path().join("clock");
    let set = |offset: i64| {
        // At once, for those who read it meanwhile.
        fs::write(dir.path().join("next"), format!("{offset:+}")).unwrap();
        fs::rename(dir.path().join("next"), &clock).unwrap();
    };
    set(0);
    let secret = format!("whsec_{KEY}");
    let server = postgres.serve(&[
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        // As where a clock is set: what counts the time since the machine was started goes on.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("POSTHOG_WEBHOOK_SECRET", &secret),
    ]);
    let mut load = Load::start("a clock that jumps", 16, Writer::new(&server.address, &postgres.key));
    let expires_at: Timestamp = Timestamp::from_millis(Timestamp::now().as_millis() + HOUR * 1000).unwrap();
    let new = json!({ "name": "short-lived", "expiresAt": expires_at });
    let created = load.writer.request("POST", "/api/v1/keys").json(&new).send().await.unwrap();
    let short_lived = created.json::<serde_json::Value>().await.unwrap()["key"].as_str().unwrap().to_owned();

    let jumps = [0, 2 * HOUR, -2 * HOUR, 90 * 24 * HOUR, -30 * 24 * HOUR, 60, 0];
    for (number, offset) in jumps.into_iter().enumerate() {
        set(offset);
        let is_set = async || {
            let (_, health) = load.writer.get("/health").await;
            let told: Timestamp = health["timestamp"].as_str().unwrap().parse().unwrap();
            ((told.as_millis() - Timestamp::now().as_millis()) / 1000 - offset).abs() <= 5
        };
        until("the clock is set", Duration::from_secs(10), is_set).await;
        load.acknowledges(100).await;
        // It is by this clock that a delivery is too old, and by the database's that a key is.
        let expected = if offset.abs() < 300 { 201 } else { 401 };
        assert_eq!(signed_now(&load.writer, &format!("msg_{number}")).await, expected, "at {offset:+} s");
        let writer = Writer::new(&server.address, &short_lived);
        assert_eq!(writer.get("/api/v1/issues").await.0, 200, "at {offset:+} s");
        // After a while in which nothing was asked, a connection's age is looked at.
        assert_eq!(load.writer.get("/ready").await.0, 200);
    }
    let writer = load.writer.clone();
    let mut account = load.stop().await;
    account.add_note(format!("{} jumps of up to 120 days", jumps.len() - 1));
    assert!(account.refused.is_empty() && account.unanswered.is_empty());
    account.settle(&postgres.url(), &writer).await;
}
