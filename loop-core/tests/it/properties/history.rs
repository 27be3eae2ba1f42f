//! Whatever is done to an issue: undone event by event, its history leads back to what was created.

use std::collections::BTreeSet;

use loop_core::{
    IssueAction, IssueId, IssuePatch, IssuePriority, IssueStatus, IssueType, LoopStore, NewRelation, NewSignal, Patch, RelationType,
    Severity, test_util::arbitrary::json,
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Value};

use super::check_store;
use crate::support::{everything, issue, label, new_signal, one, project, valid};

#[derive(Debug, Clone)]
enum Step {
    /// Some fields, each with one of its values.
    Patch(Vec<(u8, u8)>),
    /// A payload that holds anything.
    Payload(String),
    Label(usize, bool),
    /// To another issue, from either end; and perhaps not for long.
    Relate(bool, bool),
    /// A signal arrives for it.
    Signal(Severity),
    /// Something that is not kept.
    Undone,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec((0_u8..15, 0_u8..4), 1..6).prop_map(Step::Patch),
        1 => json(&["a", "b"]).prop_map(Step::Payload),
        2 => (0_usize..3, any::<bool>()).prop_map(|(label, on)| Step::Label(label, on)),
        1 => any::<(bool, bool)>().prop_map(|(ours, kept)| Step::Relate(ours, kept)),
        1 => proptest::sample::select(Severity::ALL).prop_map(Step::Signal),
        1 => Just(Step::Undone),
    ]
}

/// What an issue may refer to.
struct World {
    projects: Vec<loop_core::ProjectId>,
    parents: Vec<IssueId>,
    labels: Vec<loop_core::LabelId>,
}

fn patch(world: &World, fields: &[(u8, u8)]) -> IssuePatch {
    let mut patch = IssuePatch::default();
    for (field, value) in fields {
        let choice = usize::from(*value);
        let text = || if choice == 0 { Patch::Clear } else { Patch::Set(valid(&format!("text {choice} \"\\ \u{1f600}"))) };
        let json = |text: &str| text.replace('N', &choice.to_string());
        match field {
            0 => patch.title = Some(valid(&format!("title {choice}"))),
            1 => patch.description = text(),
            2 => patch.kind = Some(IssueType::ALL[choice]),
            3 => patch.status = Some(IssueStatus::ALL[choice + 2]),
            4 => patch.priority = Some(IssuePriority::ALL[choice]),
            5 => patch.parent_id = world.parents.get(choice).cloned().map_or(Patch::Clear, Patch::Set),
            6 => patch.project_id = world.projects.get(choice).cloned().map_or(Patch::Clear, Patch::Set),
            7 => patch.signal_source = text(),
            8 => patch.signal_payload = if choice == 0 { Patch::Clear } else { Patch::Set(valid(&json("{\"n\": [N.50, 1e-N]}"))) },
            9 => {
                let text = json("{\"statement\": \"N\", \"confidence\": 0.N, \"evidence\": [\"N\"], \"validationCriteria\": \"c\"}");
                patch.hypothesis = if choice == 0 { Patch::Clear } else { Patch::Set(serde_json::from_str(&text).unwrap()) };
            }
            10 => patch.agent_session_id = text(),
            11 => patch.agent_summary = text(),
            12 => patch.commits = Patch::Set(serde_json::from_str(&json("[{\"sha\": \"N\", \"message\": \"m\"}]")).unwrap()),
            13 => patch.pull_requests = Patch::Set(serde_json::from_str(&json("[{\"number\": N, \"title\": \"t\"}]")).unwrap()),
            _ => patch.label_ids = Some(world.labels[..choice].to_vec()),
        }
    }
    patch
}

/// An issue as its history knows it: its fields by their names, its labels and its relations.
async fn state(store: &LoopStore, id: &IssueId) -> (Map<String, Value>, BTreeSet<String>) {
    let detail = store.issues().detail(id).await.unwrap();
    let Value::Object(mut fields) = serde_json::from_str(&serde_json::to_string(&detail.issue).unwrap()).unwrap() else {
        panic!("not an object")
    };
    for derived in ["completedAt", "updatedAt", "revision", "signalCount", "signalSeverity", "lastSignalAt"] {
        fields.remove(derived);
    }
    fields.retain(|_, value| !value.is_null());
    let labels = detail.labels.iter().map(|label| label.id.to_string());
    let relations = detail.relations.iter().map(|view| view.relation.id.to_string());
    (fields, labels.chain(relations).collect())
}

async fn run(store: &LoopStore, steps: Vec<Step>) {
    let fingerprint = IssueId::new().to_string();
    let about = |severity| NewSignal { severity, fingerprint: Some(valid(&fingerprint)), ..new_signal("app") };
    let world = World {
        projects: vec![project(store, "Shop").await.id, project(store, "Blog").await.id],
        parents: vec![issue(store, "Parent").await.id, issue(store, "Other parent").await.id],
        labels: vec![
            label(store, &format!("a {fingerprint}")).await.id,
            label(store, &format!("b {fingerprint}")).await.id,
            label(store, &format!("c {fingerprint}")).await.id,
        ],
    };
    let id = store.signals().ingest(about(Severity::Low)).await.unwrap().issue.id;
    let created = state(store, &id).await;
    for step in steps {
        match step {
            Step::Patch(fields) => drop(store.issues().update(&id, patch(&world, &fields)).await.unwrap()),
            Step::Payload(inner) => {
                // Within an issue the payload is a level deeper: where the reader of this test cannot read it back, there is nothing to compare.
                let text = format!("{{\"any\": [[{inner}]]}}");
                let readable = serde_json::from_str::<Value>(&text).is_ok();
                let text = format!("{{\"any\": {inner}}}");
                if let Some(payload) = text.parse().ok().filter(|_| readable) {
                    let patch = IssuePatch { signal_payload: Patch::Set(payload), ..IssuePatch::default() };
                    store.issues().update(&id, patch).await.unwrap();
                }
            }
            Step::Label(label, true) => store.labels().attach(&id, &world.labels[label]).await.unwrap(),
            Step::Label(label, false) => store.labels().detach(&id, &world.labels[label]).await.unwrap(),
            Step::Relate(ours, kept) => {
                let other = issue(store, "Related").await.id;
                let (from, to) = if ours { (&id, other) } else { (&other, id.clone()) };
                let relation = NewRelation { kind: RelationType::Blocks, related_issue_id: to };
                let relation = store.relations().create(from, relation).await.unwrap();
                if !kept {
                    store.relations().delete(&relation.id).await.unwrap();
                }
            }
            Step::Signal(severity) => drop(store.signals().ingest(about(severity)).await.unwrap()),
            Step::Undone => {
                let undone: Result<(), _> = store
                    .transaction(async |tx| {
                        let patch = IssuePatch { title: Some(valid("undone")), ..IssuePatch::default() };
                        tx.issues().update(&id, patch).await?;
                        Err(loop_core::Error::MalformedCursor)
                    })
                    .await;
                undone.unwrap_err();
            }
        }
    }
    let (mut fields, mut parts) = state(store, &id).await;
    let events = store.events().of_issue(&id, &everything()).await.unwrap().data;
    let (first, later) = events.split_last().unwrap();
    assert_eq!((first.action, first.changes.len()), (IssueAction::Created, 0));
    for event in later {
        assert!(event.action == IssueAction::Updated && !event.changes.is_empty());
        for change in &event.changes {
            let value = |json: &serde_json::value::RawValue| serde_json::from_str::<Value>(json.get()).unwrap();
            let (old, new) = (value(&change.old), value(&change.new));
            // What the reader of this test takes for the same, such as 1e-9999 and -1e-400, the database may not.
            if old == new {
                let quoted = |json: &serde_json::value::RawValue| json.get().replace('\'', "''");
                let differ = format!("SELECT '{}'::jsonb <> '{}'::jsonb", quoted(&change.old), quoted(&change.new));
                assert_eq!(one(store, &differ).await, "t");
            }
            // Of a relation it tells everything, of a label only which it was.
            let name = |part: &Value| part["id"].as_str().or(part.as_str()).map(str::to_owned);
            match change.field.as_str() {
                "labels" | "relations" => {
                    if let Some(added) = name(&new) {
                        assert!(parts.remove(&added), "{added} was not there");
                    }
                    parts.extend(name(&old));
                }
                field => {
                    assert_eq!(fields.remove(field).unwrap_or_default(), new, "{field}");
                    if !old.is_null() {
                        fields.insert(field.to_owned(), old);
                    }
                }
            }
        }
    }
    assert_eq!((fields, parts), created);
}

#[test]
fn undone_event_by_event_it_is_what_was_created() {
    check_store(60, &vec(step(), 1..20), run);
}

#[test]
fn numbers_that_a_float_cannot_tell_apart_are_a_change() {
    let payloads = [r#"{"b": 1e-9999}"#, r#"{"b": -1e-400}"#].map(|payload| Step::Payload(payload.to_owned()));
    check_store(1, &Just(payloads.to_vec()), run);
}
