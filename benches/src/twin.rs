//! What one would write by hand: the store's very statements on one connection of the driver's, and their rows read into structs.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use loop_core::{IssuePriority, IssueStatus, IssueType, LoopStore, ProjectHealth, ProjectStatus, RelationType, Role, Severity};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::{
    Client, Row, Statement,
    types::{Json, Type},
};

/// Gives a connection the settings that a store asks for its sessions: how long a statement may take, and the like.
pub async fn settle(client: &Client, store: &LoopStore) {
    let settings = store.raw("SELECT name, setting FROM pg_settings WHERE source = 'client'").await.unwrap();
    for setting in &settings {
        let [Some(name), Some(value)] = &setting[..] else { unreachable!("two columns") };
        client.query_one("SELECT set_config($1, $2, false)", &[name, value]).await.unwrap();
    }
}

/// Prepares the statement that a store with one connection sent last under this name.
pub async fn prepare(client: &Client, store: &LoopStore, name: &str) -> Statement {
    let sent = format!(
        "SELECT statement, array_to_string(parameter_types, ',') FROM pg_prepared_statements
         WHERE starts_with(statement, '-- {name}' || chr(10)) ORDER BY prepare_time DESC LIMIT 1"
    );
    let sent = store.raw(&sent).await.unwrap();
    let [Some(sql), Some(types)] = &sent[0][..] else { unreachable!("two columns") };
    let types: Vec<Type> = types.split(',').map(type_named).collect();
    client.prepare_typed(sql, &types).await.unwrap()
}

fn type_named(name: &str) -> Type {
    match name {
        "text" => Type::TEXT,
        "text[]" => Type::TEXT_ARRAY,
        "bigint" => Type::INT8,
        "boolean" => Type::BOOL,
        "boolean[]" => Type::BOOL_ARRAY,
        "bytea" => Type::BYTEA,
        "jsonb" => Type::JSONB,
        "jsonb[]" => Type::JSONB_ARRAY,
        other => unreachable!("no parameter is {other}"),
    }
}

/// A random id as Loop's are.
pub fn id() -> String {
    let mut id = String::with_capacity(24);
    id.push(fastrand::lowercase());
    id.extend((1..24).map(|_| fastrand::digit(36)));
    id
}

/// A time of the database's.
type Time = DateTime<Utc>;
/// JSON as it came.
type Raw = Json<Box<RawValue>>;

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            $(pub $field: $type,)+
        }

        impl $name {
            /// Reads it from that column on.
            #[expect(unused_assignments, reason = "nothing is behind the last column")]
            pub fn read(row: &Row, from: usize) -> Self {
                let mut at = from;
                $(
                    let $field = row.get(at);
                    at += 1;
                )+
                Self { $($field),+ }
            }
        }
    )+};
}

rows! {
    /// An issue.
    IssueRow {
        id: String,
        number: i64,
        title: String,
        description: Option<String>,
        kind: IssueType,
        status: IssueStatus,
        priority: IssuePriority,
        parent_id: Option<String>,
        project_id: Option<String>,
        signal_source: Option<String>,
        signal_payload: Option<Raw>,
        hypothesis: Option<Raw>,
        agent_session_id: Option<String>,
        agent_summary: Option<String>,
        commits: Option<Raw>,
        pull_requests: Option<Raw>,
        completed_at: Option<Time>,
        created_at: Time,
        updated_at: Time,
        deleted_at: Option<Time>,
        signal_count: i32,
        signal_severity: Option<Severity>,
        last_signal_at: Option<Time>,
        revision: i64,
    }

    /// A label.
    LabelRow {
        id: String,
        name: String,
        color: String,
        created_at: Time,
        updated_at: Time,
        deleted_at: Option<Time>,
        revision: i64,
    }

    /// A relation, without the issue at its other end.
    RelationRow {
        id: String,
        kind: RelationType,
        issue_id: String,
        related_issue_id: String,
        created_at: Time,
        updated_at: Time,
        outgoing: bool,
    }

    /// A project.
    ProjectRow {
        id: String,
        name: String,
        description: Option<String>,
        status: ProjectStatus,
        health: ProjectHealth,
        goal_id: Option<String>,
        created_at: Time,
        updated_at: Time,
        deleted_at: Option<Time>,
        revision: i64,
    }

    /// A key, with the hash it was found by, and whether it is due to be marked as used.
    KeyRow {
        id: String,
        name: String,
        prefix: String,
        project_id: Option<String>,
        role: Role,
        active: bool,
        last_used_at: Option<Time>,
        expires_at: Option<Time>,
        created_at: Time,
        updated_at: Time,
        deleted_at: Option<Time>,
        hash: Vec<u8>,
        due: bool,
    }

    /// What became of a signal that opened an issue.
    ArrivedRow {
        signal_id: String,
        refused: bool,
        first: Option<String>,
        created_at: Time,
        issue_id: String,
        project_id: Option<String>,
        number: i64,
        priority: IssuePriority,
        severity: Severity,
        signals: i32,
    }
}

/// An issue, and what is around it.
#[derive(Debug, Default)]
pub struct DetailRows {
    pub issue: Option<IssueRow>,
    pub parent: Option<IssueRow>,
    pub children: Vec<IssueRow>,
    pub relations: Vec<(RelationRow, IssueRow)>,
    pub labels: Vec<LabelRow>,
    pub project: Option<ProjectRow>,
}

impl DetailRows {
    /// Reads the rows of all of it.
    pub fn read(rows: &[Row]) -> Self {
        let mut all = Self::default();
        for row in rows {
            let issue = || IssueRow::read(row, 9);
            match row.get::<_, i32>(1) {
                0 => {
                    all.issue = Some(issue());
                    all.project = row.get::<_, Option<&str>>(33).map(|_| ProjectRow::read(row, 33));
                }
                1 => all.parent = Some(issue()),
                2 => all.children.push(issue()),
                3 => all.relations.push((RelationRow::read(row, 2), issue())),
                _ => all.labels.push(LabelRow::read(row, 43)),
            }
        }
        all
    }
}

/// A signal to be taken in.
#[derive(Debug, Clone)]
pub struct SignalRow {
    pub source: &'static str,
    pub kind: &'static str,
    pub severity: Severity,
    pub payload: Box<RawValue>,
    pub title: String,
    pub fingerprint: Option<String>,
}

/// What a signal's row holds of what arrived.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    source: &'a str,
    raw_payload: &'a RawValue,
    tags: [&'a str; 0],
}

fn metadata(signal: &SignalRow) -> Json<Metadata<'_>> {
    Json(Metadata { source: signal.source, raw_payload: &signal.payload, tags: [] })
}

/// Takes in signals of no project that open an issue each.
pub async fn ingest(client: &Client, statement: &Statement, signals: Vec<SignalRow>) -> Vec<ArrivedRow> {
    const NONE: Option<&str> = None;
    let none = vec![NONE; signals.len()];
    let ids = || -> Vec<String> { (0..signals.len()).map(|_| id()).collect() };
    let arrived = client
        .query(
            statement,
            &[
                &NONE,
                &ids(),
                &ids(),
                &ids(),
                &signals.iter().map(|signal| signal.source).collect::<Vec<_>>(),
                &none,
                &signals.iter().map(|signal| signal.kind).collect::<Vec<_>>(),
                &signals.iter().map(|signal| signal.severity).collect::<Vec<_>>(),
                &signals.iter().map(metadata).collect::<Vec<_>>(),
                &signals.iter().map(|signal| Json(&signal.payload)).collect::<Vec<_>>(),
                &signals.iter().map(|signal| &signal.title).collect::<Vec<_>>(),
                &none,
                &none,
                &signals.iter().map(|signal| signal.fingerprint.as_ref()).collect::<Vec<_>>(),
                &vec![false; signals.len()],
                &"app",
            ],
        )
        .await;
    arrived.unwrap().iter().map(|row| ArrivedRow::read(row, 0)).collect()
}

/// The rows that come of these signals as text of `COPY`: of issues, fingerprints, signals, and events of the history. As many neighbours as
/// `group` says go to one issue, with a fingerprint if they are more than one.
pub fn copy_text(signals: &[SignalRow], group: usize) -> [String; 4] {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
    let [mut issues, mut fingerprints, mut rows, mut events] = [const { String::new() }; 4];
    for together in signals.chunks(group) {
        let issue_id = id();
        let SignalRow { source, severity, payload, title, .. } = &together[0];
        let count = together.len();
        let payload = escaped(payload.get());
        let _ = writeln!(issues, "{issue_id}\t{title}\tsignal\ttriage\t{severity}\t{source}\t{payload}\t{count}\t{severity}\tnow");
        let _ = writeln!(events, "{issue_id}\tcreated\tapp\t[]");
        let fingerprint = if group > 1 { id() } else { "\\N".to_owned() };
        if group > 1 {
            let _ = writeln!(fingerprints, "{source}\t\t{fingerprint}\t{issue_id}");
        }
        for SignalRow { source, kind, severity, payload, .. } in together {
            let metadata = format!(r#"{{"source":"{source}","rawPayload":{},"tags":[]}}"#, escaped(payload.get()));
            let _ = writeln!(rows, "{}\t{source}\t{kind}\t{severity}\t{metadata}\t{issue_id}\t{fingerprint}", id());
        }
    }
    [issues, fingerprints, rows, events]
}
