//! The store beside its statements sent by hand on one prepared connection: what the library costs above its driver.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::cell::Cell;

use benches::{
    Bench, Database, Place, Server, Way, largest, nothing,
    twin::{self, DetailRows, IssueRow, KeyRow, SignalRow},
};
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::future::join_all;
use loop_core::{
    IssueFilter, IssueId, IssuePatch, IssueStatus, LoopStore, NewApiKey, NewIssue, NewSignal, PageRequest, PlaintextKey, Role, Severity,
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

const NONE: Option<&str> = None;
const TITLE: &str = "The login page is blank";

/// Connections to one database: the store's, one with the same settings, and one without any.
struct Sides {
    store: LoopStore,
    client: Client,
    bare: Client,
}

impl Sides {
    async fn of(database: &Database) -> Self {
        let (store, client) = (database.store().await, database.client().await);
        twin::settle(&client, &store).await;
        Self { store, client, bare: database.client().await }
    }

    /// The id of the issue that fill.sql counts so.
    async fn issue(&self, number: u32) -> IssueId {
        let id = self.store.raw(&format!("SELECT 'i' || left(md5('{number}'), 23)")).await.unwrap();
        id[0][0].as_ref().unwrap().parse().unwrap()
    }
}

fn reading(bench: &mut Bench<'_>, Sides { store, client, bare }: &Sides, id: &IssueId) {
    let (get, get_bare) = bench.runtime.block_on(async {
        store.issues().get(id).await.unwrap();
        (twin::prepare(client, store, "issues.get").await, twin::prepare(bare, store, "issues.get").await)
    });
    let twin = Way::new("twin", nothing, async |()| IssueRow::read(&client.query_one(&get, &[&NONE, id]).await.unwrap(), 0));
    bench.pair("store/get_issue", &Way::new("store", nothing, async |()| store.issues().get(id).await.unwrap()), &twin);
    // What the driver makes of callers at the same moment: all of them on one connection, for the store as by hand.
    bench.pair(
        "store/get_issue_16_at_once",
        &Way::new("store", nothing, async |()| join_all((0..16).map(async |_| store.issues().get(id).await.unwrap())).await),
        &Way::new("twin", nothing, async |()| {
            join_all((0..16).map(async |_| IssueRow::read(&client.query_one(&get, &[&NONE, id]).await.unwrap(), 0))).await
        }),
    );
    bench.pair(
        "store/session_settings",
        &twin,
        &Way::new("bare", nothing, async |()| IssueRow::read(&bare.query_one(&get_bare, &[&NONE, id]).await.unwrap(), 0)),
    );

    let detail = bench.runtime.block_on(async {
        store.issues().detail(id).await.unwrap();
        twin::prepare(client, store, "issues.detail").await
    });
    bench.pair(
        "store/issue_detail",
        &Way::new("store", nothing, async |()| store.issues().detail(id).await.unwrap()),
        &Way::new("twin", nothing, async |()| DetailRows::read(&client.query(&detail, &[&NONE, id]).await.unwrap())),
    );
}

fn listing(bench: &mut Bench<'_>, Sides { store, client, .. }: &Sides, id: &str) {
    let (filter, page) = (IssueFilter::default(), PageRequest::first());
    let list = bench.runtime.block_on(async {
        assert_eq!(store.issues().list(&filter, &page).await.unwrap().data.len(), 50);
        twin::prepare(client, store, "issues.list").await
    });
    bench.pair(
        id,
        &Way::new("store", nothing, async |()| store.issues().list(&filter, &page).await.unwrap()),
        &Way::new("twin", nothing, async |()| {
            let rows = client.query(&list, &[&NONE]).await.unwrap();
            rows.iter().take(50).map(|row| IssueRow::read(row, 0)).collect::<Vec<_>>()
        }),
    );
}

fn writing(bench: &mut Bench<'_>, Sides { store, client, .. }: &Sides, id: &IssueId, other: &IssueId) {
    let new = || NewIssue::titled(TITLE.parse().unwrap());
    let create = bench.runtime.block_on(async {
        store.issues().create(new()).await.unwrap();
        twin::prepare(client, store, "issues.create").await
    });
    bench.pair(
        "store/create_issue",
        &Way::new("store", new, async |new| store.issues().create(new).await.unwrap()),
        &Way::new(
            "twin",
            || TITLE.to_owned(),
            async |title: String| {
                let labels: Vec<String> = Vec::new();
                let none = &NONE;
                let row = client
                    .query_one(
                        &create,
                        &[
                            none,
                            &twin::id(),
                            &title,
                            none,
                            &"task",
                            &"open",
                            &"medium",
                            &false,
                            none,
                            none,
                            none,
                            &None::<serde_json::Value>,
                            &None::<serde_json::Value>,
                            none,
                            none,
                            &None::<serde_json::Value>,
                            &None::<serde_json::Value>,
                            &labels,
                            &"app",
                        ],
                    )
                    .await
                    .unwrap();
                assert!(row.get(0) && row.get(1) && row.get(2));
                IssueRow::read(&row, 3)
            },
        ),
    );

    // Each changes an issue of its own, to and fro.
    let [mine, its] = [const { Cell::new(false) }; 2];
    let turn = |turn: &Cell<bool>| {
        turn.set(!turn.get());
        if turn.get() { IssueStatus::InProgress } else { IssueStatus::Open }
    };
    let patch = |status| IssuePatch { status: Some(status), ..IssuePatch::default() };
    let update = bench.runtime.block_on(async {
        store.issues().update(id, patch(IssueStatus::Open)).await.unwrap();
        twin::prepare(client, store, "issues.update").await
    });
    bench.pair(
        "store/update_status",
        &Way::new("store", || turn(&mine), async |status| store.issues().update(id, patch(status)).await.unwrap()),
        &Way::new(
            "twin",
            || turn(&its),
            async |status| {
                let row = client.query_one(&update, &[&NONE, other, &status, &false, &"app"]).await.unwrap();
                assert!(row.get::<_, bool>(0));
                IssueRow::read(&row, 1)
            },
        ),
    );
}

fn taking_in(bench: &mut Bench<'_>, Sides { store, client, .. }: &Sides) {
    const PAYLOAD: &str = r#"{"message": "it broke", "count": 7, "host": "web-7", "trace": ["main", "serve", "handle"]}"#;
    let signal = NewSignal::new("monitor".parse().unwrap(), "error".parse().unwrap(), Severity::High, PAYLOAD.parse().unwrap());
    let row = SignalRow {
        source: "monitor",
        kind: "error",
        severity: Severity::High,
        payload: RawValue::from_string(PAYLOAD.to_owned()).unwrap(),
        title: signal.title.to_string(),
        fingerprint: None,
    };
    let ingest = bench.runtime.block_on(async {
        store.signals().ingest(signal.clone()).await.unwrap();
        twin::prepare(client, store, "signals.ingest").await
    });
    bench.pair(
        "store/ingest_signal",
        &Way::new("store", || signal.clone(), async |signal| store.signals().ingest(signal).await.unwrap()),
        &Way::new("twin", || vec![row.clone()], async |rows| twin::ingest(client, &ingest, rows).await),
    );
    for size in [10, 100, 1000] {
        bench.pair(
            &format!("store/ingest_batch_{size}"),
            &Way::new("store", || vec![signal.clone(); size], async |signals| store.signals().ingest_batch(signals).await.unwrap()),
            &Way::new("twin", || vec![row.clone(); size], async |rows| twin::ingest(client, &ingest, rows).await),
        );
    }
}

fn authenticating(bench: &mut Bench<'_>, Sides { store, client, .. }: &Sides) {
    let new = NewApiKey { name: "bench".parse().unwrap(), role: Role::Write, project_id: None, expires_at: None };
    let key = bench.runtime.block_on(store.api_keys().create(new)).unwrap().plaintext.reveal().to_owned();
    let parsed = || PlaintextKey::parse(&key).unwrap();
    let authenticate = bench.runtime.block_on(async {
        store.api_keys().authenticate(&parsed()).await.unwrap().unwrap();
        twin::prepare(client, store, "api_keys.authenticate").await
    });
    bench.pair(
        "store/authenticate_key",
        &Way::new("store", parsed, async |key| store.api_keys().authenticate(&key).await.unwrap().unwrap()),
        &Way::new(
            "twin",
            || key.clone(),
            async |key| {
                let hash = Sha256::digest(key);
                let key = KeyRow::read(&client.query_one(&authenticate, &[&NONE, &hash.as_slice()]).await.unwrap(), 0);
                assert_eq!(key.hash, hash.as_slice());
                key
            },
        ),
    );
    bench.pair(
        "store/authenticate_key_again",
        &Way::new("cached", parsed, async |key| store.api_keys().authenticate_cached(&key).await.unwrap().unwrap()),
        &Way::new("asked", parsed, async |key| store.api_keys().authenticate(&key).await.unwrap().unwrap()),
    );
}

fn store(c: &mut Criterion) {
    let bench = &mut Bench::new(c);
    bench.pair("store/new_id", &Way::new("store", nothing, async |()| IssueId::new()), &Way::new("twin", nothing, async |()| twin::id()));
    let server = bench.runtime.block_on(Server::start(Place::Memory));
    let (sides, id, other) = bench.runtime.block_on(async {
        let sides = Sides::of(&server.filled("10k", largest().min(10_000)).await).await;
        let (id, other) = (sides.issue(1).await, sides.issue(11).await);
        (sides, id, other)
    });
    reading(bench, &sides, &id);
    authenticating(bench, &sides);
    listing(bench, &sides, "store/list_50_of_10k");
    writing(bench, &sides, &id, &other);
    taking_in(bench, &sides);
    if largest() > 10_000 {
        // They would take some gigabytes of memory.
        let server = bench.runtime.block_on(Server::start(Place::Disk));
        let sides = bench.runtime.block_on(async { Sides::of(&server.filled("1m", largest()).await).await });
        listing(bench, &sides, "store/list_50_of_1M");
    }
}

criterion_group!(benches, store);
criterion_main!(benches);
