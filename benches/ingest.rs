//! Taking in a thousand signals of 1 KB, beside a raw `COPY` of the rows that come of it, into the same tables with the same indexes; and what each
//! GIN index costs. On a disk, and each commit waits for it.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use benches::{
    Bench, Database, Place, Server, Way, is_test, largest, median,
    twin::{SignalRow, copy_text},
};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::SinkExt as _;
use loop_core::{LoopStore, NewSignal, PageRequest, Severity, SignalFilter};
use serde_json::value::RawValue;
use tokio_postgres::Client;

/// The most that one call takes.
const BATCH: usize = 1000;

/// How the four kinds of rows are copied.
const COPIES: [&str; 4] = [
    "COPY issues (id, title, type, status, priority, signal_source, signal_payload, signal_count, signal_severity, last_signal_at) FROM STDIN",
    "COPY fingerprints (source, project, fingerprint, issue_id) FROM STDIN",
    "COPY signals (id, source, type, severity, metadata, issue_id, fingerprint) FROM STDIN",
    "COPY issue_events (issue_id, action, actor, changes) FROM STDIN",
];

/// A payload of about 1 KB whose words differ from signal to signal, as stack traces do.
fn payload() -> String {
    let frame = |n: usize| {
        format!(
            r#"{{"function": "handle_{}", "file": "src/module_{}.rs", "line": {}, "in_app": {}}}"#,
            fastrand::u32(..5000),
            fastrand::u32(..500),
            fastrand::u32(..2000),
            n.is_multiple_of(2)
        )
    };
    let frames: Vec<String> = (0..10).map(frame).collect();
    format!(
        r#"{{"message": "it broke", "request": "{:032x}", "user": {}, "release": "2.{}", "frames": [{}]}}"#,
        fastrand::u128(..),
        fastrand::u32(..100_000),
        fastrand::u32(..100),
        frames.join(", ")
    )
}

/// What a thousand signals are taken from.
struct Signals {
    payloads: Vec<String>,
    /// How many signals of a batch have one fingerprint; with 1, none has any.
    group: usize,
}

impl Signals {
    fn new(group: usize) -> Self {
        Self { payloads: (0..BATCH * 5).map(|_| payload()).collect(), group }
    }

    fn batch(&self) -> Vec<NewSignal> {
        let number = fastrand::u64(..);
        let new = |n: usize| {
            let payload = fastrand::choice(&self.payloads).unwrap().parse().unwrap();
            let new = NewSignal::new("monitor".parse().unwrap(), "error".parse().unwrap(), Severity::High, payload);
            let fingerprint = (self.group > 1).then(|| format!("{number} {}", n / self.group).parse().unwrap());
            NewSignal { fingerprint, ..new }
        };
        (0..BATCH).map(new).collect()
    }

    /// The text of `COPY`, made before it is measured.
    fn text(&self) -> [Bytes; 4] {
        let row = |_| SignalRow {
            source: "monitor",
            kind: "error",
            severity: Severity::High,
            payload: RawValue::from_string(fastrand::choice(&self.payloads).unwrap().clone()).unwrap(),
            title: "[monitor] error: it broke".to_owned(),
            fingerprint: None,
        };
        copy_text(&(0..BATCH).map(row).collect::<Vec<_>>(), self.group).map(Bytes::from)
    }
}

/// Copies some of the four texts, in one transaction.
async fn copy(client: &Client, texts: &[Bytes]) {
    client.batch_execute("BEGIN").await.unwrap();
    for (statement, text) in COPIES.iter().zip(texts).filter(|(_, text)| !text.is_empty()) {
        let mut sink = pin!(client.copy_in(*statement).await.unwrap());
        sink.send(text.clone()).await.unwrap();
        sink.finish().await.unwrap();
    }
    client.batch_execute("COMMIT").await.unwrap();
}

/// The store beside `COPY`.
fn beside_copy(bench: &mut Bench<'_>, database: &Database) {
    let (store, guarded, bare) = bench.runtime.block_on(async {
        let bare = database.client().await;
        // Neither triggers nor foreign keys: what the history would be made of is copied then, too.
        bare.batch_execute("SET session_replication_role = replica").await.unwrap();
        (database.store().await, database.client().await, bare)
    });
    for (name, group) in [("ungrouped", 1), ("grouped_by_10", 10)] {
        let signals = Signals::new(group);
        let ours = Way::new("store", || signals.batch(), async |batch| store.signals().ingest_batch(batch).await.unwrap());
        let guarded = Way::new("copy", || signals.text(), async |texts: [Bytes; 4]| copy(&guarded, &texts[..3]).await);
        let bare = Way::new("copy", || signals.text(), async |texts: [Bytes; 4]| copy(&bare, &texts).await);
        bench.pair(&format!("ingest/copy_with_triggers/{name}"), &ours, &guarded);
        bench.pair(&format!("ingest/copy_without_triggers/{name}"), &ours, &bare);
    }
}

/// What becomes of the two GIN indexes.
const GIN: [(&str, &str); 11] = [
    ("none", "DROP INDEX signals_metadata_idx, issues_text_idx"),
    ("as_migrated", ""),
    ("text_only", "DROP INDEX signals_metadata_idx"),
    ("metadata_only", "DROP INDEX issues_text_idx"),
    ("metadata_no_fastupdate", "ALTER INDEX signals_metadata_idx SET (fastupdate = off)"),
    ("metadata_pending_1MB", "ALTER INDEX signals_metadata_idx SET (gin_pending_list_limit = 1024)"),
    ("metadata_pending_16MB", "ALTER INDEX signals_metadata_idx SET (gin_pending_list_limit = 16384)"),
    ("metadata_pending_64MB", "ALTER INDEX signals_metadata_idx SET (gin_pending_list_limit = 65536)"),
    ("text_no_fastupdate", "ALTER INDEX issues_text_idx SET (fastupdate = off)"),
    ("metadata_jsonb_ops", "DROP INDEX signals_metadata_idx; CREATE INDEX signals_metadata_idx ON signals USING gin (metadata)"),
    (
        "metadata_jsonb_ops_no_fastupdate",
        "DROP INDEX signals_metadata_idx; CREATE INDEX signals_metadata_idx ON signals USING gin (metadata) WITH (fastupdate = off)",
    ),
];

/// Batches for each kind of index in turn, and what is left to do for it at the end.
async fn gin(server: &Server) {
    let rounds = if is_test() { 1 } else { 40 };
    let signals = Signals::new(1);
    let mut kinds: Vec<(&str, Database, LoopStore, Vec<Duration>)> = Vec::new();
    let original = server.filled("gin", largest().min(10_000)).await;
    for (name, change) in GIN {
        let database = server.copy(&format!("gin_{name}"), &original).await;
        database.client().await.batch_execute(change).await.unwrap();
        let store = database.store().await;
        kinds.push((name, database, store, Vec::new()));
    }
    for _ in 0..rounds {
        for (_, _, store, times) in &mut kinds {
            let batch = signals.batch();
            let begin = Instant::now();
            store.signals().ingest_batch(batch).await.unwrap();
            times.push(begin.elapsed());
        }
    }
    let mut none = f64::NAN;
    for (name, database, store, times) in kinds {
        let slowest = *times.iter().max().unwrap();
        let client = database.client().await;
        let found = SignalFilter::default().with_metadata(r#"{"rawPayload": {"user": 7}}"#.parse().unwrap());
        let begin = Instant::now();
        store.signals().list(&found, &PageRequest::first()).await.unwrap();
        let search = begin.elapsed();
        let indexes = "FROM unnest(ARRAY['signals_metadata_idx', 'issues_text_idx']) AS name";
        let begin = Instant::now();
        client.execute(&format!("SELECT gin_clean_pending_list(to_regclass(name)) {indexes}"), &[]).await.unwrap();
        let rest = begin.elapsed();
        let all = (times.iter().sum::<Duration>() + rest).as_secs_f64();
        if name == "none" {
            none = all;
        }
        let sizes = format!("SELECT string_agg(coalesce(pg_size_pretty(pg_relation_size(to_regclass(name))), 'none'), ', ') {indexes}");
        let sizes: String = client.query_one(&sizes, &[]).await.unwrap().get(0);
        let rate = f64::from(u32::try_from(BATCH * times.len()).unwrap()) / all;
        println!(
            "ingest/gin/{name}: {rate:.0} signals/s, {:.2} times as long as with none; batches {:.1?} at the median, {slowest:.1?} at most; \
             left for the end {rest:.1?}; a search before that {search:.1?}; sizes {sizes}",
            all / none,
            median(times)
        );
    }
}

fn ingest(c: &mut Criterion) {
    let bench = &mut Bench::new(c);
    let server = bench.runtime.block_on(Server::start(Place::Disk));
    let database = bench.runtime.block_on(server.filled("copy", largest().min(10_000)));
    beside_copy(bench, &database);
    if bench.asks_for("ingest/gin") {
        bench.runtime.block_on(gin(&server));
    }
}

criterion_group!(benches, ingest);
criterion_main!(benches);
