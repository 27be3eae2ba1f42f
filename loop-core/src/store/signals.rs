use std::collections::HashMap;

use postgres_types::Json;
use tokio_postgres::Row;

use super::{
    executor::Executor,
    issues::{self, issue_columns},
    observer::arrived,
    sql::{self, Columns, Composed, NEWEST, Statement, Within, params},
};
use crate::{
    Entity, Error, Ingested, Issue, IssueId, IssueStatus, IssueType, NewSignal, Page, PageRequest, ProjectId, Severity, Signal,
    SignalFilter, SignalId, SignalMetadata, Text, Timestamp,
};

macro_rules! signal_columns {
    () => {
        "s.id, s.source, s.source_id, s.type::text, s.severity::text, s.metadata, s.project_id, s.issue_id, s.created_at, s.updated_at, \
         s.deleted_at"
    };
}

const GET: Statement = signal(concat!(
    "-- signals.get\nSELECT ",
    signal_columns!(),
    " FROM signals AS s WHERE s.id = $2 AND s.deleted_at IS NULL AND ($1::text IS NULL OR s.project_id = $1)"
));

const LIST: Statement = signal(concat!("-- signals.list\nSELECT ", signal_columns!(), " FROM signals AS s WHERE s.deleted_at IS NULL"));

const COUNT: Statement = signal("-- signals.count\nSELECT count(*) FROM signals AS s WHERE s.deleted_at IS NULL");

/// Takes in signals: the issue, the signal and the record of the delivery of each, or of none if one names a project that is not there.
///
/// A delivery that was there before answers the signal of its first arrival, and nothing else is written for it. `DO UPDATE` waits for a
/// twin that is being taken in at this moment and then answers its row, which `DO NOTHING` would not. Rows are locked in the order of
/// their keys, so that two batches with deliveries in common wait for each other and not in a circle.
const INGEST: Statement = signal(
    "-- signals.ingest
WITH item AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[], $9::jsonb[], $10::text[],
                         $11::text[], $12::text[]) WITH ORDINALITY
        AS item (signal_id, issue_id, source, source_id, type, severity, metadata, payload, title, project_id, delivery, place)
), refused AS MATERIALIZED (
    SELECT item.signal_id FROM item
    WHERE NOT coalesce(item.project_id IS NULL AND $1::text IS NULL OR EXISTS (
        SELECT FROM projects AS p WHERE p.id = item.project_id AND p.deleted_at IS NULL AND ($1::text IS NULL OR p.id = $1)), false)
), delivered AS (
    INSERT INTO deliveries (source, project, key, signal_id)
    SELECT item.source, coalesce(item.project_id, ''), item.delivery, item.signal_id FROM item
    WHERE item.delivery IS NOT NULL AND NOT EXISTS (SELECT FROM refused)
    ORDER BY 1, 2, 3
    ON CONFLICT ON CONSTRAINT deliveries_pkey DO UPDATE SET attempts = deliveries.attempts + 1, last_attempt_at = now()
    RETURNING source, project, key, signal_id
), fresh AS MATERIALIZED (
    SELECT item.* FROM item
    WHERE NOT EXISTS (SELECT FROM refused)
      AND (item.delivery IS NULL OR EXISTS (SELECT FROM delivered WHERE delivered.signal_id = item.signal_id))
), issue AS (
    INSERT INTO issues (id, title, type, status, priority, project_id, signal_source, signal_payload)
    SELECT fresh.issue_id, fresh.title, 'signal', 'triage', fresh.severity::issue_priority, fresh.project_id, fresh.source, fresh.payload
    FROM fresh ORDER BY fresh.place
    RETURNING id, number, created_at
), written AS (
    INSERT INTO signals (id, source, source_id, type, severity, metadata, project_id, issue_id)
    SELECT fresh.signal_id, fresh.source, fresh.source_id, fresh.type, fresh.severity::signal_severity, fresh.metadata, fresh.project_id,
           fresh.issue_id
    FROM fresh
)
SELECT item.signal_id, EXISTS (SELECT FROM refused WHERE refused.signal_id = item.signal_id), issue.number, issue.created_at,
       delivered.signal_id
FROM item
LEFT JOIN issue ON issue.id = item.issue_id
LEFT JOIN delivered
    ON delivered.source = item.source AND delivered.project = coalesce(item.project_id, '') AND delivered.key = item.delivery",
);

/// The signals of first arrivals, and their issues, whatever became of them since.
const FIRST_ARRIVALS: Statement = signal(concat!(
    "-- signals.first_arrivals\nSELECT ",
    signal_columns!(),
    ", ",
    issue_columns!(),
    " FROM signals AS s JOIN issues AS t ON t.id = s.issue_id WHERE s.id = ANY ($2::text[])
      AND ($1::text IS NULL OR (s.project_id = $1 AND t.project_id = $1))"
));

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[GET, LIST, COUNT, INGEST, FIRST_ARRIVALS];

const WITHIN: Within = Within::Project("s.project_id = $1");

const ORDER: sql::Order =
    sql::Order { after: " AND (s.created_at, s.id) < (?, ?)", by: " ORDER BY s.created_at DESC, s.id DESC", ..NEWEST };

const fn signal(sql: &'static str) -> Statement {
    Statement::new(Entity::Signal, sql)
}

fn read(columns: &mut Columns<'_>) -> Result<Signal, Error> {
    Ok(Signal {
        id: columns.next()?,
        source: columns.next()?,
        source_id: columns.next()?,
        kind: columns.next()?,
        severity: columns.next()?,
        metadata: columns.next::<Json<SignalMetadata>>()?.0,
        project_id: columns.next()?,
        issue_id: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
    })
}

fn read_row(row: &Row) -> Result<Signal, Error> {
    read(&mut Columns::of(row, "signals"))
}

fn matching<'a>(mut list: Composed<'a>, filter: &'a SignalFilter) -> Composed<'a> {
    let SignalFilter { source, kind, severity, project_id, issue_id, metadata } = filter;
    list.condition_if("s.source = ?", source.as_ref());
    list.condition_if("s.type = ?", kind.as_ref());
    list.any_of("s.severity", "?::signal_severity", severity);
    list.condition_if("s.project_id = ?", project_id.as_ref());
    list.condition_if("s.issue_id = ?", issue_id.as_ref());
    list.condition_if("s.metadata @> ?", metadata.as_ref());
    list
}

/// The signals.
pub struct Signals<'a> {
    pub(crate) on: Executor<'a>,
}

impl Signals<'_> {
    /// The most signals one batch takes.
    pub const MAX_BATCH: usize = 1000;

    /// The signal with this id.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: &SignalId) -> Result<Signal, Error> {
        let row = self.on.opt(GET, params![id]).await?;
        read_row(&row.ok_or_else(|| Error::not_found(Entity::Signal, id))?)
    }

    /// The signals that match the filter, the newest first.
    pub async fn list(&self, filter: &SignalFilter, page: &PageRequest) -> Result<Page<Signal>, Error> {
        let begin = |statement| matching(Composed::list(statement, self.on.scope, WITHIN), filter);
        let key = |signal: &Signal| (signal.created_at.as_millis(), signal.id.clone());
        sql::list(self.on, begin(LIST), || begin(COUNT), page, ORDER, read_row, key).await
    }

    /// Takes in a signal: it and the issue it becomes are created together, in one statement, or not at all. A redelivery creates nothing
    /// and answers what its first arrival created.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidReference`] when the project is not there.
    pub async fn ingest(&self, new: NewSignal) -> Result<Ingested, Error> {
        let mut ingested = self.take_in(vec![new]).await.map_err(|error| match error {
            Error::InvalidReference { entity, .. } => Error::InvalidReference { entity, fields: vec!["projectId".to_owned()] },
            other => other,
        })?;
        ingested.pop().ok_or_else(|| Error::Database { source: "a signal was taken in without an answer".into() })
    }

    /// Takes in up to [`MAX_BATCH`](Self::MAX_BATCH) signals, all of them or none, in one statement. The answers are in the order of the
    /// signals. A delivery that stands in the batch twice is taken in once.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when a redelivery's first arrival was moved out of the store's project since; the other signals are taken in all
    /// the same. [`Error::Invalid`] when there are too many, [`Error::InvalidReference`] when a project is not there; its fields name the
    /// items, as in `signals[3].projectId`.
    pub async fn ingest_batch(&self, new: Vec<NewSignal>) -> Result<Vec<Ingested>, Error> {
        if new.len() > Self::MAX_BATCH {
            return Err(Error::invalid("signals", format!("Must be at most {} signals", Self::MAX_BATCH)));
        }
        self.take_in(new).await
    }

    async fn take_in(&self, new: Vec<NewSignal>) -> Result<Vec<Ingested>, Error> {
        let Batch { items, places } = Batch::new(new, self.on.scope);
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.insert(&items).await?;
        let mut wrong = Vec::new();
        for (place, item) in places.iter().enumerate() {
            if answers.get(&items[*item].signal_id).is_some_and(|answer| answer.refused) {
                wrong.push(format!("signals[{place}].projectId"));
            }
        }
        if !wrong.is_empty() {
            return Err(Error::InvalidReference { entity: Entity::Signal, fields: wrong });
        }
        let redelivered: Vec<&SignalId> =
            answers.values().filter(|answer| answer.created.is_none()).filter_map(|answer| answer.first.as_ref()).collect();
        let mut done = if redelivered.is_empty() { HashMap::new() } else { self.first_arrivals(&redelivered).await? };
        let gone = || Error::Database { source: "a signal was taken in without an answer".into() };
        // Which signal answers for each item: its own, or that of the first arrival.
        let mut answer_of = Vec::with_capacity(items.len());
        for item in items {
            let answer = answers.get(&item.signal_id).ok_or_else(gone)?;
            match answer.created {
                Some((number, created_at)) => {
                    answer_of.push(item.signal_id.clone());
                    done.insert(item.signal_id.clone(), item.ingested(number, created_at));
                }
                None => answer_of.push(answer.first.clone().ok_or_else(gone)?),
            }
        }
        let mut seen = vec![false; answer_of.len()];
        let mut ingested = Vec::with_capacity(places.len());
        for item in places {
            // A first arrival that was moved to another project since is not there for a store that is bound to this one. The last use of an
            // answer could move it, but most answers are used once, and repeats within a batch are rare.
            let mut answer = done.get(&answer_of[item]).cloned().ok_or_else(|| Error::not_found(Entity::Signal, &answer_of[item]))?;
            answer.redelivered |= std::mem::replace(&mut seen[item], true);
            ingested.push(answer);
        }
        arrived(self.on.observer, &ingested);
        Ok(ingested)
    }

    /// Runs the one statement. What it answers is by the id of the item's signal.
    async fn insert(&self, items: &[Item]) -> Result<HashMap<SignalId, Answer>, Error> {
        let signal_ids: Vec<_> = items.iter().map(|item| &item.signal_id).collect();
        let issue_ids: Vec<_> = items.iter().map(|item| &item.issue_id).collect();
        let sources: Vec<_> = items.iter().map(|item| &item.new.source).collect();
        let source_ids: Vec<_> = items.iter().map(|item| item.new.source_id.as_ref()).collect();
        let kinds: Vec<_> = items.iter().map(|item| &item.new.kind).collect();
        let severities: Vec<_> = items.iter().map(|item| item.new.severity).collect();
        let metadata: Vec<_> = items.iter().map(|item| Json(&item.metadata)).collect();
        let payloads: Vec<_> = items.iter().map(|item| &item.new.payload).collect();
        let titles: Vec<_> = items.iter().map(|item| &item.new.title).collect();
        let projects: Vec<_> = items.iter().map(|item| item.new.project_id.as_ref()).collect();
        let deliveries: Vec<_> = items.iter().map(|item| item.new.delivery.as_ref().map(crate::DeliveryKey::as_str)).collect();
        let parameters: &[_] =
            params![signal_ids, issue_ids, sources, source_ids, kinds, severities, metadata, payloads, titles, projects, deliveries];
        let rows = self.on.rows(INGEST, parameters).await?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row, "signals");
                let id = columns.next()?;
                let refused = columns.next()?;
                let created = columns.next::<Option<i64>>()?.zip(columns.next::<Option<Timestamp>>()?);
                Ok((id, Answer { refused, created, first: columns.next()? }))
            })
            .collect()
    }

    async fn first_arrivals(&self, ids: &Vec<&SignalId>) -> Result<HashMap<SignalId, Ingested>, Error> {
        let rows = self.on.rows(FIRST_ARRIVALS, params![ids]).await?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row, "signals");
                let signal = read(&mut columns)?;
                Ok((signal.id.clone(), Ingested { issue: issues::read(&mut columns)?, signal, redelivered: true }))
            })
            .collect()
    }
}

/// What the statement answers of an item.
struct Answer {
    /// The project is not there.
    refused: bool,
    /// The issue's number and the moment of creation, unless it was a redelivery.
    created: Option<(i64, Timestamp)>,
    /// The signal of the first arrival of its delivery, itself included.
    first: Option<SignalId>,
}

/// Signals to be taken in, each delivery once.
struct Batch {
    items: Vec<Item>,
    /// Which item each signal of the caller's is.
    places: Vec<usize>,
}

/// A signal to be taken in.
struct Item {
    signal_id: SignalId,
    issue_id: IssueId,
    metadata: SignalMetadata,
    new: NewSignal,
}

impl Batch {
    fn new(new: Vec<NewSignal>, scope: Option<&ProjectId>) -> Self {
        let mut batch = Self { items: Vec::with_capacity(new.len()), places: Vec::with_capacity(new.len()) };
        let mut known = HashMap::new();
        for mut new in new {
            if new.project_id.is_none() {
                new.project_id = scope.cloned();
            }
            let next = batch.items.len();
            let key = new.delivery.clone().map(|delivery| (new.source.clone(), new.project_id.clone(), delivery));
            let place = key.map_or(next, |key| *known.entry(key).or_insert(next));
            if place == next {
                batch.items.push(Item::new(new));
            }
            batch.places.push(place);
        }
        batch
    }
}

impl Item {
    fn new(new: NewSignal) -> Self {
        let metadata = SignalMetadata { source: Text::from(new.source.clone()), raw_payload: new.payload.clone(), tags: new.tags.clone() };
        Self { signal_id: SignalId::new(), issue_id: IssueId::new(), metadata, new }
    }

    /// What was created: what was sent, and what the database added.
    fn ingested(self, number: i64, created_at: Timestamp) -> Ingested {
        let Self { signal_id, issue_id, metadata, new } = self;
        let NewSignal { source, source_id, kind, severity, payload, tags: _, project_id, title, delivery: _ } = new;
        let issue = Issue {
            id: issue_id.clone(),
            number,
            title,
            description: None,
            kind: IssueType::Signal,
            status: IssueStatus::Triage,
            priority: Severity::into(severity),
            parent_id: None,
            project_id: project_id.clone(),
            signal_source: Some(source.clone().into()),
            signal_payload: Some(payload),
            hypothesis: None,
            agent_session_id: None,
            agent_summary: None,
            commits: None,
            pull_requests: None,
            completed_at: None,
            created_at,
            updated_at: created_at,
            deleted_at: None,
        };
        let signal = Signal {
            id: signal_id,
            source: source.into(),
            source_id,
            kind: kind.into(),
            severity,
            metadata,
            project_id,
            issue_id,
            created_at,
            updated_at: created_at,
            deleted_at: None,
        };
        Ingested { signal, issue, redelivered: false }
    }
}
