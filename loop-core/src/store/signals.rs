use std::collections::HashMap;

use postgres_types::Json;
use tokio_postgres::Row;

use super::{
    executor::Executor,
    issues::{self, issue_columns},
    observer::arrived,
    sql::{self, Columns, Composed, Keyed, NEWEST, Statement, Within, by_id, params},
};
use crate::{
    Entity, Error, Ingested, Issue, IssueId, IssuePriority, IssueStatus, IssueType, NewSignal, Page, PageRequest, ProjectId, RelationId,
    Severity, Signal, SignalFilter, SignalId, SignalMetadata, Text, Timestamp,
};

macro_rules! signal_columns {
    () => {
        "s.id, s.source, s.source_id, s.type::text, s.severity::text, s.metadata, s.project_id, s.issue_id, s.created_at, s.updated_at, \
         s.deleted_at, s.fingerprint"
    };
}

/// The living signal with this id within the scope.
macro_rules! signal_row {
    ($id:literal) => {
        concat!("s.id = ", $id, " AND s.deleted_at IS NULL AND ($1::text IS NULL OR s.project_id = $1)")
    };
}

const GET: Keyed = by_id!(Entity::Signal, "signals.get", signal_columns!(), "signals AS s", signal_row);

const LIST: Statement = signal(concat!("-- signals.list\nSELECT ", signal_columns!(), " FROM signals AS s WHERE s.deleted_at IS NULL"));

const COUNT: Statement = signal("-- signals.count\nSELECT count(*) FROM signals AS s WHERE s.deleted_at IS NULL");

/// Takes in signals: the record of the delivery, the signal, and the issue of each, or nothing at all if one names a project that is not there.
///
/// A delivery that was there before answers the signal of its first arrival, and nothing else is written for it. `DO UPDATE` waits for a
/// twin that is being taken in at this moment and then answers its row, which `DO NOTHING` would not. Rows are locked in the order of
/// their keys, so that two batches with deliveries in common wait for each other and not in a circle.
///
/// Signals with a fingerprint are put into groups first, unless their source is not to be grouped; `signals_attach` finds the issue that takes them, if there is one.
/// Where there is none, the first of them opens it. What is answered of an issue that was there stands with the first of its signals.
const INGEST: Statement = signal(concat!(
    "-- signals.ingest
WITH item AS MATERIALIZED (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[]::signal_severity[], $9::jsonb[],
                         $10::jsonb[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bool[]) WITH ORDINALITY
        AS item (signal_id, issue_id, relation_id, source, source_id, type, severity, metadata, payload, title, project_id, delivery,
                 fingerprint, is_grouped, place)
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
), grouped AS MATERIALIZED (
    SELECT fresh.source, coalesce(fresh.project_id, '') AS project, fresh.fingerprint, max(fresh.severity) AS severity,
           count(*)::integer AS signals, min(fresh.place) AS first, (array_agg(fresh.issue_id ORDER BY fresh.place))[1] AS issue_id
    FROM fresh WHERE fresh.is_grouped GROUP BY 1, 2, 3
), attached AS MATERIALIZED (
    SELECT went.*
    FROM (SELECT array_agg(source) AS sources, array_agg(project) AS projects, array_agg(fingerprint) AS fingerprints,
                 array_agg(issue_id) AS issue_ids, array_agg(severity) AS severities, array_agg(signals) AS counts FROM grouped) AS g
    CROSS JOIN LATERAL signals_attach($16, g.sources, g.projects, g.fingerprints, g.issue_ids, g.severities, g.counts) AS went
    WHERE g.sources IS NOT NULL
), placed AS MATERIALIZED (
    SELECT fresh.*, coalesce(attached.id, grouped.issue_id, fresh.issue_id) AS goes_to,
           CASE WHEN attached.id IS NULL THEN fresh.project_id ELSE attached.project_id END AS goes_to_project,
           attached.id IS NULL AND coalesce(grouped.first = fresh.place, true) AS opens, attached.previous,
           coalesce(grouped.severity, fresh.severity) AS highest, coalesce(grouped.signals, 1) AS signals
    FROM fresh
    LEFT JOIN grouped ON fresh.is_grouped AND grouped.fingerprint = fresh.fingerprint AND grouped.source = fresh.source
        AND grouped.project = coalesce(fresh.project_id, '')
    LEFT JOIN attached ON attached.opened = grouped.issue_id
), issue AS (
    INSERT INTO issues (id, title, type, status, priority, project_id, signal_source, signal_payload, signal_count, signal_severity,
                        last_signal_at)
    SELECT placed.issue_id, placed.title, 'signal', 'triage', placed.highest::text::issue_priority, placed.project_id, placed.source,
           placed.payload, placed.signals, placed.highest, now()
    FROM placed WHERE placed.opens ORDER BY placed.place
    RETURNING id, number, priority, signal_severity, signal_count, created_at, set_config('loop.actor', $16, true)
), related AS (
    INSERT INTO issue_relations (id, type, issue_id, related_issue_id)
    SELECT placed.relation_id, 'related', placed.issue_id, placed.previous FROM placed WHERE placed.opens AND placed.previous IS NOT NULL
), written AS (
    INSERT INTO signals (id, source, source_id, type, severity, metadata, project_id, issue_id, fingerprint)
    SELECT placed.signal_id, placed.source, placed.source_id, placed.type, placed.severity, placed.metadata, placed.goes_to_project,
           placed.goes_to, placed.fingerprint
    FROM placed
    RETURNING id, created_at
)
SELECT item.signal_id, EXISTS (SELECT FROM refused WHERE refused.signal_id = item.signal_id), delivered.signal_id, written.created_at,
       placed.goes_to, placed.goes_to_project, issue.number, issue.priority::text, issue.signal_severity::text, issue.signal_count, ",
    issue_columns!(list),
    "
FROM item
LEFT JOIN placed ON placed.signal_id = item.signal_id
LEFT JOIN written ON written.id = item.signal_id
LEFT JOIN issue ON placed.opens AND issue.id = item.issue_id
LEFT JOIN attached AS t ON t.id = placed.goes_to AND t.opened = item.issue_id
LEFT JOIN delivered
    ON delivered.source = item.source AND delivered.project = coalesce(item.project_id, '') AND delivered.key = item.delivery"
));

/// The signals of first arrivals, and their issues, whatever became of them since. What an issue's signal said stands with the first of them.
const FIRST_ARRIVALS: Statement = signal(concat!(
    "-- signals.first_arrivals\nSELECT ",
    signal_columns!(),
    ", ",
    issue_columns!("CASE WHEN row_number() OVER (PARTITION BY t.id ORDER BY item.place) = 1 THEN t.signal_payload END"),
    " FROM unnest($2::text[]) WITH ORDINALITY AS item (id, place) JOIN signals AS s ON s.id = item.id JOIN issues AS t ON t.id = s.issue_id
      WHERE ($1::text IS NULL OR (s.project_id = $1 AND t.project_id = $1))"
));

/// The fixed statements.
#[cfg(feature = "test-util")]
pub(crate) const STATEMENTS: &[Statement] = &[GET.one, GET.many, LIST, COUNT, INGEST, FIRST_ARRIVALS];

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
        fingerprint: columns.next()?,
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
        self.on.get(GET, id.as_str(), read_row).await
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
        ingested.pop().ok_or_else(|| Error::database("a signal was taken in without an answer"))
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
        let mut answers = self.insert(&items).await;
        // Who makes one of these issues a part of another may wait for what we have, and we for them. Nothing of ours is kept then.
        for _ in 0..2 {
            match &answers {
                Err(error @ Error::Conflict { .. }) if error.is_retryable() && self.on.is_alone() => answers = self.insert(&items).await,
                _ => break,
            }
        }
        let mut answers = answers?;
        let mut wrong = Vec::new();
        for (place, item) in places.iter().enumerate() {
            if answers.get(&items[*item].signal_id).is_some_and(|answer| answer.refused) {
                wrong.push(format!("signals[{place}].projectId"));
            }
        }
        if !wrong.is_empty() {
            return Err(Error::InvalidReference { entity: Entity::Signal, fields: wrong });
        }
        let in_order = items.iter().filter_map(|item| answers.get(&item.signal_id));
        let redelivered: Vec<&SignalId> =
            in_order.filter(|answer| answer.written.is_none()).filter_map(|answer| answer.first.as_ref()).collect();
        let mut earlier = if redelivered.is_empty() { HashMap::new() } else { self.first_arrivals(&redelivered).await? };
        let gone = || Error::database("a signal was taken in without an answer");
        // The issues that others of the batch may have gone to, each known with the first signal of its group.
        let mut issues: HashMap<IssueId, Issue> = HashMap::new();
        let mut ingested: Vec<Ingested> = Vec::with_capacity(places.len());
        // Where each item is answered first; they are numbered in that order.
        let mut first_at: Vec<usize> = Vec::with_capacity(items.len());
        let several = items.len() > 1;
        let mut items = items.into_iter();
        for place in places {
            if let Some(at) = first_at.get(place) {
                let again = Ingested { redelivered: true, ..ingested[*at].clone() };
                ingested.push(again);
                continue;
            }
            first_at.push(ingested.len());
            let item = items.next().ok_or_else(gone)?;
            let Answer { written, first, attached, .. } = answers.remove(&item.signal_id).ok_or_else(gone)?;
            let Some(written) = written else {
                let first = first.ok_or_else(gone)?;
                // A first arrival that was moved to another project since is not there for a store that is bound to this one.
                ingested.push(earlier.remove(&first).ok_or_else(|| Error::not_found(Entity::Signal, &first))?);
                continue;
            };
            let opened = written.opened.as_ref().map(|opened| item.opens(opened, written.created_at));
            let opens = opened.is_some();
            let issue = match opened.or(attached.map(|issue| *issue)) {
                Some(mut issue) if several && item.new.fingerprint.is_some() => {
                    // A thousand signals of one fingerprint are not answered with a thousand copies of what the first of them said.
                    let payload = issue.signal_payload.take();
                    issues.insert(issue.id.clone(), issue.clone());
                    Issue { signal_payload: payload, ..issue }
                }
                Some(issue) => issue,
                None => issues.get(&written.issue_id).cloned().ok_or_else(gone)?,
            };
            ingested.push(Ingested { signal: item.signal(written), issue, redelivered: false, attached: !opens });
        }
        arrived(self.on.observer, &ingested);
        Ok(ingested)
    }

    /// Runs the one statement. What it answers is by the id of the item's signal.
    async fn insert(&self, items: &[Item]) -> Result<HashMap<SignalId, Answer>, Error> {
        let signal_ids: Vec<_> = items.iter().map(|item| &item.signal_id).collect();
        let issue_ids: Vec<_> = items.iter().map(|item| &item.issue_id).collect();
        let relation_ids: Vec<_> = items.iter().map(|item| item.relation_id.as_ref()).collect();
        let sources: Vec<_> = items.iter().map(|item| &item.new.source).collect();
        let source_ids: Vec<_> = items.iter().map(|item| item.new.source_id.as_ref()).collect();
        let kinds: Vec<_> = items.iter().map(|item| &item.new.kind).collect();
        let severities: Vec<_> = items.iter().map(|item| item.new.severity).collect();
        let metadata: Vec<_> = items.iter().map(|item| Json(&item.metadata)).collect();
        let payloads: Vec<_> = items.iter().map(|item| &item.new.payload).collect();
        let titles: Vec<_> = items.iter().map(|item| &item.new.title).collect();
        let projects: Vec<_> = items.iter().map(|item| item.new.project_id.as_ref()).collect();
        let deliveries: Vec<_> = items.iter().map(|item| item.new.delivery.as_ref().map(crate::DeliveryKey::as_str)).collect();
        let fingerprints: Vec<_> = items.iter().map(|item| item.new.fingerprint.as_ref()).collect();
        let ungrouped = self.on.ungrouped_sources();
        let grouped = |new: &NewSignal| new.fingerprint.is_some() && !ungrouped.iter().any(|source| source == new.source.as_str());
        let grouped: Vec<_> = items.iter().map(|item| grouped(&item.new)).collect();
        let parameters: &[_] = params![
            signal_ids,
            issue_ids,
            relation_ids,
            sources,
            source_ids,
            kinds,
            severities,
            metadata,
            payloads,
            titles,
            projects,
            deliveries,
            fingerprints,
            grouped,
            self.on.actor,
        ];
        let rows = self.on.rows(INGEST, parameters).await?;
        rows.iter().map(read_answer).collect()
    }

    async fn first_arrivals(&self, ids: &Vec<&SignalId>) -> Result<HashMap<SignalId, Ingested>, Error> {
        let rows = self.on.rows(FIRST_ARRIVALS, params![ids]).await?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row, "signals");
                let signal = read(&mut columns)?;
                Ok((signal.id.clone(), Ingested { issue: issues::read(&mut columns)?, signal, redelivered: true, attached: false }))
            })
            .collect()
    }
}

/// What the statement answers of an item.
struct Answer {
    /// The project is not there.
    refused: bool,
    /// The signal of the first arrival of its delivery, itself included.
    first: Option<SignalId>,
    /// What was written, unless it was a redelivery.
    written: Option<Written>,
    /// The issue that was there already, with the first of the signals that went to it. On the heap: most have none.
    attached: Option<Box<Issue>>,
}

/// What was written for an item.
struct Written {
    created_at: Timestamp,
    issue_id: IssueId,
    project_id: Option<ProjectId>,
    opened: Option<Opened>,
}

/// What the database decided of an issue that was opened.
struct Opened {
    number: i64,
    priority: IssuePriority,
    severity: Severity,
    signals: i32,
}

fn read_answer(row: &Row) -> Result<(SignalId, Answer), Error> {
    let mut columns = Columns::of(row, "signals");
    let id = columns.next()?;
    let (refused, first) = (columns.next()?, columns.next()?);
    let created_at = columns.next::<Option<Timestamp>>()?;
    let (issue_id, project_id) = (columns.next::<Option<IssueId>>()?, columns.next()?);
    let (number, priority) = (columns.next::<Option<i64>>()?, columns.next::<Option<IssuePriority>>()?);
    let (severity, signals) = (columns.next::<Option<Severity>>()?, columns.next::<Option<i32>>()?);
    let opened = || Some(Opened { number: number?, priority: priority?, severity: severity?, signals: signals? });
    let written = created_at.zip(issue_id).map(|(created_at, issue_id)| Written { created_at, issue_id, project_id, opened: opened() });
    let attached = if columns.is_null()? { None } else { Some(Box::new(issues::read(&mut columns)?)) };
    Ok((id, Answer { refused, first, written, attached }))
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
    /// The issue it opens, if it does.
    issue_id: IssueId,
    /// The relation to the issue before, which only what has a fingerprint may have.
    relation_id: Option<RelationId>,
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
        let relation_id = new.fingerprint.is_some().then(RelationId::new);
        Self { signal_id: SignalId::new(), issue_id: IssueId::new(), relation_id, metadata, new }
    }

    /// The issue that was opened: what was sent, and what the database decided.
    fn opens(&self, opened: &Opened, created_at: Timestamp) -> Issue {
        let NewSignal { source, title, payload, project_id, .. } = &self.new;
        Issue {
            id: self.issue_id.clone(),
            number: opened.number,
            title: title.clone(),
            description: None,
            kind: IssueType::Signal,
            status: IssueStatus::Triage,
            priority: opened.priority,
            parent_id: None,
            project_id: project_id.clone(),
            signal_source: Some(source.clone().into()),
            signal_payload: Some(payload.clone()),
            hypothesis: None,
            agent_session_id: None,
            agent_summary: None,
            commits: None,
            pull_requests: None,
            completed_at: None,
            created_at,
            updated_at: created_at,
            deleted_at: None,
            signal_count: opened.signals,
            signal_severity: Some(opened.severity),
            last_signal_at: Some(created_at),
            revision: 1,
        }
    }

    /// The signal that was written.
    fn signal(self, written: Written) -> Signal {
        let NewSignal { source, source_id, kind, severity, fingerprint, .. } = self.new;
        let Written { created_at, issue_id, project_id, opened: _ } = written;
        Signal {
            id: self.signal_id,
            source: source.into(),
            source_id,
            kind: kind.into(),
            severity,
            metadata: self.metadata,
            project_id,
            issue_id,
            created_at,
            updated_at: created_at,
            deleted_at: None,
            fingerprint,
        }
    }
}
