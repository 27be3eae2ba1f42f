//! What clients were told, held against what is stored.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use crate::{
    load::{BATCH, Write, Writer},
    postgres::query,
};

/// What a client was told of a write.
pub(crate) enum Told {
    /// That it is done, with the ids of the issues and signals.
    Done(Vec<String>),
    /// That the database is unavailable, and when to try again.
    Refused,
    /// Nothing: the connection broke off.
    Nothing,
    /// Nothing, because there was nobody to be asked.
    Away,
    /// What it must never be told.
    Wrong(String),
}

/// The outcomes of writes.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) name: &'static str,
    pub(crate) done: Vec<Done>,
    pub(crate) refused: Vec<Write>,
    pub(crate) unanswered: Vec<Write>,
    unsent: usize,
    wrong: Vec<String>,
    pub(crate) slowest: Duration,
    notes: String,
}

/// A write that was acknowledged.
pub(crate) struct Done {
    pub(crate) at: Instant,
    write: Write,
    ids: Vec<String>,
}

impl Account {
    pub(crate) fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    pub(crate) fn note(&mut self, write: Write, sent: Instant, told: Told) {
        self.slowest = self.slowest.max(sent.elapsed());
        match told {
            Told::Done(ids) => self.done.push(Done { at: Instant::now(), write, ids }),
            Told::Refused => self.refused.push(write),
            Told::Nothing => self.unanswered.push(write),
            Told::Away => self.unsent += 1,
            Told::Wrong(what) => self.wrong.push(what),
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.done.extend(other.done);
        self.refused.extend(other.refused);
        self.unanswered.extend(other.unanswered);
        self.unsent += other.unsent;
        self.wrong.extend(other.wrong);
        self.slowest = self.slowest.max(other.slowest);
    }

    /// How long after this moment the first write was acknowledged.
    pub(crate) fn first_after(&self, moment: Instant) -> Duration {
        self.done.iter().filter_map(|done| done.at.checked_duration_since(moment)).min().unwrap()
    }

    /// Says something about the fault beside the numbers.
    pub(crate) fn add_note(&mut self, note: impl fmt::Display) {
        self.notes = format!("{}; {note}", self.notes);
    }

    /// The ids of the issues and signals that were acknowledged.
    pub(crate) fn ids(&self) -> impl Iterator<Item = String> {
        self.done.iter().flat_map(|done| done.ids.iter().cloned())
    }

    pub(crate) fn tried(&self) -> usize {
        self.done.len() + self.refused.len() + self.unanswered.len() + self.unsent
    }

    /// That nobody was told what must never be told.
    pub(crate) fn check_answers(&self) {
        assert!(self.wrong.is_empty(), "{}: {} wrong answers, such as {}", self.name, self.wrong.len(), self.wrong[0]);
    }

    /// Holds it against the database: nothing acknowledged is missing, nothing is there twice or half-made, and nobody was told what is wrong.
    /// Then delivers every webhook of unknown outcome again, which must end in one issue each. Prints the sums.
    pub(crate) async fn settle(&self, url: &str, writer: &Writer) {
        self.check_answers();
        let stored: BTreeSet<String> = query(url, "SELECT id FROM issues UNION ALL SELECT id FROM signals").await.into_iter().collect();
        let lost: Vec<_> = self.done.iter().filter(|done| !done.ids.iter().all(|id| stored.contains(id))).map(|done| done.write).collect();
        let in_doubt: Vec<Write> = self.refused.iter().chain(&self.unanswered).copied().collect();
        let written = written(url).await;
        let came_through = in_doubt.iter().filter(|write| written.contains(write)).count();
        println!(
            "fault: {}: {} tried, {} acknowledged, {} lost; {} refused, {} unanswered, {came_through} of them stored; slowest {:.1?}{}",
            self.name,
            self.tried() - self.unsent,
            self.done.len(),
            lost.len(),
            self.refused.len(),
            self.unanswered.len(),
            self.slowest,
            self.notes,
        );
        assert!(lost.is_empty(), "{}: lost {lost:?}", self.name);
        // Nothing else is stored.
        assert_eq!(written.len(), self.done.len() + came_through, "{}", self.name);
        consistent(url).await;

        let again: Vec<Write> = in_doubt.into_iter().filter(|write| matches!(write, Write::Webhook(_))).collect();
        for write in &again {
            let (Told::Done(first), Told::Done(second)) = (writer.write(*write).await, writer.write(*write).await) else {
                panic!("{}: {write:?} is not taken in", self.name)
            };
            assert_eq!(first, second);
        }
        let whole = self::written(url).await;
        assert!(again.iter().all(|write| whole.contains(write)));
        consistent(url).await;
    }
}

/// The writes that left something behind. None did so twice, and no batch by half.
async fn written(url: &str) -> BTreeSet<Write> {
    let issues = query(url, "SELECT title FROM issues WHERE type <> 'signal'").await;
    let signals = query(url, "SELECT metadata->'rawPayload'->>'message' FROM signals WHERE source = 'load'").await;
    let webhooks = query(url, "SELECT metadata->'rawPayload'->'issue'->>'title' FROM signals WHERE source = 'github'").await;
    let mut written = BTreeSet::new();
    let mut batches = Vec::new();
    for name in issues.into_iter().chain(signals).chain(webhooks) {
        let (kind, number) = name.split_once(' ').unwrap();
        let write = match (kind, number.split('.').next().unwrap().parse().unwrap()) {
            ("issue", number) => Write::Issue(number),
            ("signal", number) => Write::Signal(number),
            ("webhook", number) => Write::Webhook(number),
            (_, number) => {
                batches.push(number);
                continue;
            }
        };
        assert!(written.insert(write), "{write:?} is there twice");
    }
    batches.sort_unstable();
    for batch in batches.chunk_by(|a, b| a == b) {
        assert_eq!(batch.len(), BATCH, "batch {}", batch[0]);
        written.insert(Write::Batch(batch[0]));
    }
    written
}

/// No signal without an issue, no issue of that type without a signal, and a delivery for each webhook's signal.
async fn consistent(url: &str) {
    for orphans in [
        "SELECT s.id FROM signals AS s LEFT JOIN issues AS i ON i.id = s.issue_id WHERE i.id IS NULL",
        "SELECT i.id FROM issues AS i LEFT JOIN signals AS s ON s.issue_id = i.id WHERE i.type = 'signal' AND s.id IS NULL",
        "SELECT d.key FROM deliveries AS d LEFT JOIN signals AS s ON s.id = d.signal_id WHERE s.id IS NULL",
        "SELECT s.id FROM signals AS s LEFT JOIN deliveries AS d ON d.signal_id = s.id WHERE s.source = 'github' AND d.key IS NULL",
        "SELECT signal_id FROM deliveries GROUP BY signal_id HAVING count(*) > 1",
    ] {
        assert_eq!(query(url, orphans).await, [""; 0], "{orphans}");
    }
}
