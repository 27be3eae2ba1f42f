//! The history of issues: what was done, by whom, and nothing left out.

use loop_core::{
    Actor, ApiKeyId, IssueAction, IssueEvent, IssueId, IssuePatch, IssuePriority, IssueStatus, LoopStore, NewIssue, NewRelation, NewSignal,
    Patch, Severity, test_util::TestDb,
};

use crate::support::{everything, issue, label, new_issue, new_signal, not_found, one, problem, project, valid, walk};

async fn of(store: &LoopStore, issue: &IssueId) -> Vec<IssueEvent> {
    let mut events = store.events().of_issue(issue, &everything()).await.unwrap().data;
    events.reverse();
    events
}

/// The changes of an event, as `field: old -> new`.
fn changes(event: &IssueEvent) -> Vec<String> {
    event.changes.iter().map(|change| format!("{}: {} -> {}", change.field, change.old, change.new)).collect()
}

#[tokio::test]
async fn each_change_is_recorded_with_who_made_it() {
    let db = TestDb::new().await;
    let store = db.store();
    let key = ApiKeyId::new();
    let (app, key) = (store.acting(&Actor::app(Some("importer"))), store.acting(&Actor::key(&key)));
    let issue = app.issues().create(new_issue("Before")).await.unwrap();
    let patch = IssuePatch {
        title: Some(valid("After")),
        description: Patch::Set(valid("said")),
        status: Some(IssueStatus::Resolved),
        ..IssuePatch::default()
    };
    key.issues().update(&issue.id, patch.clone()).await.unwrap();
    // What changes nothing is not in the history.
    key.issues().update(&issue.id, patch).await.unwrap();
    store.issues().update(&issue.id, IssuePatch { description: Patch::Clear, ..IssuePatch::default() }).await.unwrap();

    let events = of(store, &issue.id).await;
    let who: Vec<_> = events.iter().map(|event| (event.action, event.actor.clone())).collect();
    let key_id = events[1].actor.id.clone();
    assert_eq!(
        who,
        [
            (IssueAction::Created, Actor::app(Some("importer"))),
            (IssueAction::Updated, Actor { id: key_id, ..Actor::key(&ApiKeyId::new()) }),
            (IssueAction::Updated, Actor::app(None)),
        ]
    );
    assert_eq!(changes(&events[0]), [""; 0]);
    assert_eq!(
        changes(&events[1]),
        ["title: \"Before\" -> \"After\"", "description: null -> \"said\"", "status: \"open\" -> \"resolved\""]
    );
    assert_eq!(changes(&events[2]), ["description: \"said\" -> null"]);
    assert!(events.iter().all(|event| event.issue_id == issue.id && event.project_id.is_none()));
    assert_eq!(events[0].created_at, issue.created_at);
}

/// Every field that a patch can change is one whose changes are recorded, and the history knows it by the field's name on the wire.
#[tokio::test]
async fn no_field_is_forgotten() {
    let db = TestDb::new().await;
    let store = db.store();
    let (parent, shop, slow) = (issue(store, "Parent").await, project(store, "Shop").await, label(store, "slow").await);
    let issue = issue(store, "Before").await;
    let object = || valid::<loop_core::JsonObject>(r#"{"amount": 1.7976931348623157e308}"#);
    let patch = IssuePatch {
        title: Some(valid("After")),
        description: Patch::Set(valid("said")),
        kind: Some(loop_core::IssueType::Bug),
        status: Some(IssueStatus::Closed),
        priority: Some(IssuePriority::Low),
        parent_id: Patch::Set(parent.id.clone()),
        project_id: Patch::Set(shop.id.clone()),
        signal_source: Patch::Set(valid("app")),
        signal_payload: Patch::Set(object()),
        hypothesis: Patch::Set(
            serde_json::from_str(r#"{"statement": "it is", "confidence": 0.5, "evidence": [], "validationCriteria": "seen"}"#).unwrap(),
        ),
        agent_session_id: Patch::Set(valid("s1")),
        agent_summary: Patch::Set(valid("done")),
        commits: Patch::Set(serde_json::from_str(r#"[{"sha": "a", "message": "b"}]"#).unwrap()),
        pull_requests: Patch::Set(serde_json::from_str(r#"[{"number": 1, "title": "b"}]"#).unwrap()),
        label_ids: Some(vec![slow.id.clone()]),
    };
    store.issues().update(&issue.id, patch).await.unwrap();
    let events = of(store, &issue.id).await;
    let mut fields: Vec<_> = events.iter().flat_map(|event| &event.changes).map(|change| change.field.as_str()).collect();
    fields.sort_unstable();
    let written = serde_json::to_string(&store.issues().get(&issue.id).await.unwrap()).unwrap();
    // Not as a tree of values: its number is larger than a float, once it is written out.
    let written: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(&written).unwrap();
    let unrecorded =
        ["id", "number", "createdAt", "updatedAt", "deletedAt", "completedAt", "revision", "signalCount", "signalSeverity", "lastSignalAt"];
    let mut all: Vec<_> = written.keys().map(String::as_str).filter(|field| !unrecorded.contains(field)).chain(["labels"]).collect();
    all.sort_unstable();
    assert_eq!(fields, all);
    assert!(events.iter().all(|event| event.actor == Actor::app(None)), "{events:?}");
}

#[tokio::test]
async fn labels_relations_and_deletion_are_changes() {
    let db = TestDb::new().await;
    let store = db.store();
    let (slow, bug) = (label(store, "slow").await.id, label(store, "bug").await.id);
    let other = issue(store, "Other").await.id;
    let new = NewIssue { label_ids: vec![slow.clone()], ..new_issue("Labelled") };
    let issue = store.issues().create(new).await.unwrap().id;
    let admin = store.acting(&Actor::admin());
    admin.labels().attach(&issue, &bug).await.unwrap();
    admin.labels().attach(&issue, &bug).await.unwrap();
    admin.labels().detach(&issue, &slow).await.unwrap();
    admin.labels().detach(&issue, &slow).await.unwrap();
    let new = NewRelation { kind: loop_core::RelationType::Blocks, related_issue_id: other.clone() };
    let relation = admin.relations().create(&issue, new).await.unwrap();
    admin.relations().delete(&relation.id).await.unwrap();
    let before_deletion = of(store, &issue).await;
    admin.issues().delete(&issue).await.unwrap();

    let written = format!(r#"{{"id": "{}", "type": "blocks", "issueId": "{issue}", "relatedIssueId": "{other}"}}"#, relation.id);
    let mut told: Vec<_> = before_deletion.iter().flat_map(changes).collect();
    // PostgreSQL orders the members of what it keeps by their length.
    let last = told.split_off(3);
    assert_eq!(told, [format!("labels: null -> \"{slow}\""), format!("labels: null -> \"{bug}\""), format!("labels: \"{slow}\" -> null")]);
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let (added, removed) = (last[0].strip_prefix("relations: null -> ").unwrap(), last[1].strip_suffix(" -> null").unwrap());
    assert_eq!((value(added), value(removed.strip_prefix("relations: ").unwrap())), (value(&written), value(&written)));
    assert!(before_deletion[2..].iter().all(|event| event.actor == Actor::admin()));
    // The other end has it, too.
    assert_eq!(of(store, &other).await.len(), 3);
    // A deleted issue hides its history, but not from the database.
    assert_eq!(problem(store.events().of_issue(&issue, &everything()).await), not_found(loop_core::Entity::Issue, &issue));
    let last = format!("SELECT action || ' ' || actor FROM issue_events WHERE issue_id = '{issue}' ORDER BY id DESC LIMIT 1");
    assert_eq!(one(store, &last).await, "deleted admin");
}

#[tokio::test]
async fn what_signals_do_is_told_of_their_provider() {
    let db = TestDb::new().await;
    let store = db.store();
    let sentry = store.acting(&Actor::webhook("sentry"));
    let new = |severity| NewSignal { severity, fingerprint: Some(valid("42")), ..new_signal("sentry") };
    let id = sentry.signals().ingest(new(Severity::Low)).await.unwrap().issue.id;
    sentry.signals().ingest(new(Severity::Low)).await.unwrap();
    sentry.signals().ingest(new(Severity::Critical)).await.unwrap();
    let events = of(store, &id).await;
    assert_eq!(events.iter().map(|event| event.action).collect::<Vec<_>>(), [IssueAction::Created, IssueAction::Updated]);
    assert!(events.iter().all(|event| event.actor == Actor::webhook("sentry")));
    assert_eq!(changes(&events[1]), ["priority: \"low\" -> \"critical\""]);

    let batch = (0..10).map(|_| new_signal("sentry")).collect();
    for done in sentry.signals().ingest_batch(batch).await.unwrap() {
        let [event] = &of(store, &done.issue.id).await[..] else { panic!("not one event") };
        assert_eq!((event.action, &event.actor), (IssueAction::Created, &Actor::webhook("sentry")));
    }
}

#[tokio::test]
async fn it_is_written_with_the_change_or_not_at_all() {
    let db = TestDb::new().await;
    let store = db.store();
    let issue = issue(store, "Before").await.id;
    let patch = || IssuePatch { title: Some(valid("After")), ..IssuePatch::default() };
    let rolled_back: Result<(), _> = store
        .transaction(async |tx| {
            tx.issues().update(&issue, patch()).await?;
            assert_eq!(tx.events().of_issue(&issue, &everything()).await?.total, Some(2));
            Err(loop_core::Error::MalformedCursor)
        })
        .await;
    rolled_back.unwrap_err();
    assert_eq!(of(store, &issue).await.len(), 1);
    // Who acted before is not who acts now, on the same connection.
    store.acting(&Actor::admin()).issues().update(&issue, patch()).await.unwrap();
    store.raw("UPDATE issues SET title = 'By hand'").await.unwrap();
    assert_eq!(of(store, &issue).await[2].actor.kind, loop_core::ActorType::Database);
    store.raw("SET LOCAL loop.actor TO 'me'; UPDATE issues SET title = 'By me'").await.unwrap();
    assert_eq!(of(store, &issue).await[3].actor, Actor { kind: loop_core::ActorType::Database, id: Some("me".to_owned()) });
}

#[tokio::test]
async fn nothing_of_it_can_be_changed() {
    let db = TestDb::new().await;
    let store = db.store();
    let issue = issue(store, "Kept").await.id;
    for sql in ["UPDATE issue_events SET actor = 'x'", "DELETE FROM issue_events", "TRUNCATE issue_events"] {
        assert!(store.raw(sql).await.is_err(), "{sql}");
    }
    assert_eq!(of(store, &issue).await.len(), 1);
}

#[tokio::test]
async fn it_is_read_page_by_page_by_issue_and_by_project() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, blog) = (project(store, "Shop").await.id, project(store, "Blog").await.id);
    let (in_shop, in_blog) = (store.within(shop.clone()), store.within(blog.clone()));
    let issue = in_shop.issues().create(new_issue("Shop's")).await.unwrap().id;
    in_blog.issues().create(new_issue("Blog's")).await.unwrap();
    for step in 0..6 {
        let patch = IssuePatch { title: Some(valid(&format!("Step {step}"))), ..IssuePatch::default() };
        in_shop.issues().update(&issue, patch).await.unwrap();
    }
    let by_issue = walk(3, async |page| in_shop.events().of_issue(&issue, &page).await).await;
    let by_project = walk(2, async |page| store.events().of_project(&shop, &page).await).await;
    assert_eq!((by_issue.len(), by_project.len()), (7, 7));
    assert!(by_issue.windows(2).all(|pair| pair[0].id > pair[1].id));
    assert_eq!(store.events().of_project(&blog, &everything()).await.unwrap().total, Some(1));

    // An issue takes no history of another project's along.
    let patch = IssuePatch { project_id: Patch::Set(blog.clone()), ..IssuePatch::default() };
    store.issues().update(&issue, patch).await.unwrap();
    let events = in_blog.events().of_issue(&issue, &everything()).await.unwrap();
    assert_eq!((events.total, events.data[0].changes[0].field.as_str()), (Some(1), "projectId"));
    assert_eq!(problem(in_shop.events().of_issue(&issue, &everything()).await), not_found(loop_core::Entity::Issue, &issue));
    assert_eq!(problem(in_shop.events().of_project(&blog, &everything()).await), not_found(loop_core::Entity::Project, &blog));
    assert_eq!(of(store, &issue).await.len(), 8);
}
