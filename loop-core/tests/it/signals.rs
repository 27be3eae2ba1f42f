//! Signals: what is taken in comes back, and is found again.

use loop_core::{
    DeliveryKey, Entity, IssueFilter, IssueId, IssuePriority, IssueStatus, IssueType, JsonObject, LoopStore, NewSignal, ProjectId,
    Severity, SignalFilter, SignalId, Signals, Title, test_util::TestDb,
};

use crate::support::{deleted_project, everything, invalid, new_signal, not_found, one, problem, project, valid, wrong_references};

fn signal(payload: &str) -> NewSignal {
    NewSignal::new(valid("cli"), valid("note"), Severity::Low, valid(payload))
}

#[tokio::test]
async fn every_field_comes_back() {
    let db = TestDb::new().await;
    let store = db.store();
    let shop = project(store, "Shop").await;
    let payload: JsonObject = valid(r#"{"message": "it broke", "list": [1, {"a": null}], "ü": "\u00fc\n\"\\"}"#);
    let new = NewSignal {
        source_id: Some(valid("SHOP-1")),
        tags: vec![valid("checkout"), valid(""), valid("ü")],
        project_id: Some(shop.id.clone()),
        ..NewSignal::new(valid("sentry"), valid("error"), Severity::Critical, payload.clone())
    };
    let taken = store.signals().ingest(new).await.unwrap();
    let (signal, issue) = (&taken.signal, &taken.issue);
    assert!(!taken.redelivered);
    assert_eq!((signal.source.as_str(), signal.kind.as_str(), signal.severity), ("sentry", "error", Severity::Critical));
    assert_eq!((signal.source_id.as_ref().unwrap().as_str(), &signal.project_id), ("SHOP-1", &Some(shop.id.clone())));
    assert_eq!((signal.metadata.source.as_str(), &signal.metadata.raw_payload), ("sentry", &payload));
    assert_eq!(signal.metadata.tags, [valid("checkout"), valid(""), valid("ü")]);
    assert_eq!((&signal.issue_id, signal.updated_at, signal.deleted_at), (&issue.id, signal.created_at, None));

    assert_eq!(issue.title.as_str(), "[sentry] error: it broke");
    assert_eq!((issue.kind, issue.status, issue.priority), (IssueType::Signal, IssueStatus::Triage, IssuePriority::Critical));
    assert_eq!((issue.signal_source.as_ref().unwrap().as_str(), &issue.signal_payload), ("sentry", &Some(payload)));
    assert_eq!((&issue.project_id, issue.completed_at, issue.created_at), (&Some(shop.id), None, signal.created_at));

    assert_eq!(store.signals().get(&signal.id).await.unwrap(), *signal);
    assert_eq!(store.issues().get(&issue.id).await.unwrap(), *issue);
    assert_eq!(store.signals().list(&SignalFilter::default(), &everything()).await.unwrap().data, std::slice::from_ref(signal));
}

#[tokio::test]
async fn severities_become_priorities() {
    let db = TestDb::new().await;
    for (severity, priority) in [
        (Severity::Low, IssuePriority::Low),
        (Severity::Medium, IssuePriority::Medium),
        (Severity::High, IssuePriority::High),
        (Severity::Critical, IssuePriority::Critical),
    ] {
        let taken = db.store().signals().ingest(NewSignal { severity, ..new_signal("cli") }).await.unwrap();
        let stored = db.store().issues().get(&taken.issue.id).await.unwrap();
        assert_eq!((taken.signal.severity, taken.issue.priority, stored.priority), (severity, priority, priority));
    }
}

#[test]
fn a_title_is_made_of_the_payload() {
    let long = "ü".repeat(600);
    for (payload, title) in [
        (r#"{"message": "m", "title": "t"}"#.to_owned(), "[cli] note: m".to_owned()),
        (r#"{"title": "t"}"#.to_owned(), "[cli] note: t".to_owned()),
        (r#"{"message": "", "title": "t"}"#.to_owned(), "[cli] note: t".to_owned()),
        (r#"{"message": "first", "message": "last"}"#.to_owned(), "[cli] note: last".to_owned()),
        (r#"{"message": 7, "title": ["t"]}"#.to_owned(), "[cli] note: note".to_owned()),
        ("{}".to_owned(), "[cli] note: note".to_owned()),
        (format!(r#"{{"message": "{long}"}}"#), format!("[cli] note: {}", "ü".repeat(488))),
    ] {
        let title: Title = valid(&title);
        assert_eq!(signal(&payload).title, title, "{payload}");
        assert!(title.as_str().chars().count() <= 500);
    }
    let words = NewSignal::new(valid(&"s".repeat(200)), valid(&"k".repeat(200)), Severity::Low, JsonObject::default());
    assert_eq!(words.title.as_str(), format!("[{}] {}: {}", "s".repeat(200), "k".repeat(200), "k".repeat(95)));
}

#[tokio::test]
async fn a_title_of_500_characters_is_stored() {
    let db = TestDb::new().await;
    let long = signal(&format!(r#"{{"message": "{}"}}"#, "🐌".repeat(600)));
    let taken = db.store().signals().ingest(long).await.unwrap();
    let title = db.store().issues().get(&taken.issue.id).await.unwrap().title;
    assert_eq!((title.as_str().chars().count(), title), (500, taken.issue.title));
}

#[test]
fn what_cannot_be_stored_is_refused_at_construction() {
    for text in [r#"{"a": "\u0000"}"#, r#"{"a\u0000": 1}"#, r#"{"a": [{"b": "x\u0000y"}]}"#] {
        assert_eq!(text.parse::<JsonObject>().unwrap_err().to_string(), "Must not contain NUL characters", "{text}");
    }
    let nested = |depth: usize| format!(r#"{{"a": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    for text in ["[]", "1", "null", "", "{", r#"{"a": "\ud800"}"#, r#"{"a": 1e999}"#, r#"{"a": NaN}"#, r#"{"a": 01}"#, &nested(127)] {
        assert!(text.parse::<JsonObject>().is_err(), "{text}");
    }
    for number in ["1e-16384", "0.1e-16383", "-12.5E-16383", "0e-99999999999999999999", "0E16384"] {
        let refused = format!(r#"{{"a": [{number}]}}"#).parse::<JsonObject>().unwrap_err().to_string();
        assert_eq!(refused, "Must not contain numbers with more than 16383 decimal places", "{number}");
    }
    assert!(format!(r#"{{"a": 0.{}}}"#, "1".repeat(16384)).parse::<JsonObject>().is_err());
    // Each could be stored, but a megabyte of them would come back as a gigabyte.
    for number in ["1e-16383", "1e308", "-0.5E-9000", "1e-300"] {
        let many = |times: usize| format!(r#"{{"a": [{}]}}"#, vec![number; times].join(",")).parse::<JsonObject>();
        assert!(many(3).is_ok(), "{number}");
        assert!(
            many(1000).unwrap_err().to_string().starts_with("Must not contain numbers that take more than 65536 characters"),
            "{number}"
        );
    }
    for number in ["1", "-20", "0.5", "-123.4567e2", "1e3", "0e16383"] {
        assert!(format!(r#"{{"a": [{}]}}"#, vec![number; 60_000].join(",")).parse::<JsonObject>().is_ok(), "{number}");
    }
    assert!(format!(r#"{{"a": [{}]}}"#, vec!["7"; 200_000].join(",")).parse::<JsonObject>().is_ok());
    for text in ["a\0", "\0"] {
        assert!(text.parse::<loop_core::Text>().is_err() && text.parse::<loop_core::Word>().is_err());
    }
}

#[tokio::test]
async fn payloads_keep_their_digits() {
    let db = TestDb::new().await;
    let store = db.store();
    let digits = "12345678901234567890.12345678901234567890";
    let nested = format!("{}{}", "[".repeat(126), "]".repeat(126));
    let tiny = format!("0.{}1", "0".repeat(16381));
    let text =
        format!(r#"{{"digits": {digits}, "zero": 1.50, "nested": {nested}, "tiny": {tiny}, "small": 1e-16383, "1e-99999": "1e-99999"}}"#);
    let taken = store.signals().ingest(signal(&text)).await.unwrap();
    assert_eq!(taken.issue.signal_payload.unwrap().as_str(), text, "the answer has the payload as it came");
    let stored = store.issues().get(&taken.issue.id).await.unwrap().signal_payload.unwrap();
    let metadata = store.signals().get(&taken.signal.id).await.unwrap().metadata;
    for payload in [stored, metadata.raw_payload] {
        for kept in [digits, "\"zero\": 1.50", &nested, &tiny] {
            assert!(payload.as_str().contains(kept), "{kept}");
        }
    }
}

#[tokio::test]
async fn the_largest_numbers_can_be_read_again() {
    let db = TestDb::new().await;
    let store = db.store();
    for number in ["1.7976931348623157e308", "-1.7976931348623157E+308", "4.9406564584124654e-324"] {
        let text = format!(r#"{{"number": {number}}}"#);
        let taken = store.signals().ingest(signal(&text)).await.unwrap();
        let read = store.signals().get(&taken.signal.id).await.unwrap();
        assert!(read.metadata.raw_payload.as_str().len() > 300, "written out: {number}");
        assert_eq!(store.signals().list(&SignalFilter::default(), &everything()).await.unwrap().data[0].id, taken.signal.id);
        store.issues().detail(&taken.issue.id).await.unwrap();
        store.raw("UPDATE signals SET created_at = created_at - interval '1 day'").await.unwrap();
    }
}

/// Four signals, by the letters of their sources: three with tags, two of them in a project.
async fn four(store: &LoopStore, shop: &ProjectId) {
    let with = |source: &str, kind: &str, severity, project: Option<&ProjectId>, tags: &[&str]| NewSignal {
        project_id: project.cloned(),
        tags: tags.iter().map(|tag| valid(tag)).collect(),
        ..NewSignal::new(valid(source), valid(kind), severity, valid(&format!(r#"{{"of": "{source}", "n": {{"deep": [1, 2]}}}}"#)))
    };
    let signals = vec![
        with("a", "error", Severity::Low, None, &[]),
        with("b", "error", Severity::High, Some(shop), &["x"]),
        with("c", "metric", Severity::High, Some(shop), &["x", "y"]),
        with("d", "metric", Severity::Critical, None, &["y"]),
    ];
    store.signals().ingest_batch(signals).await.unwrap();
    store.raw("UPDATE signals SET created_at = '2026-02-01'::date - ascii(source)").await.unwrap();
}

#[tokio::test]
async fn each_filter_alone_and_all_together() {
    let db = TestDb::new().await;
    let store = db.store();
    let shop = project(store, "Shop").await.id;
    four(store, &shop).await;
    let issue_of_b: IssueId = valid(&one(store, "SELECT issue_id FROM signals WHERE source = 'b'").await);
    let filter = SignalFilter::default;
    for (filter, expected) in [
        (filter(), "abcd"),
        (filter().with_severity([]), "abcd"),
        (filter().with_source(valid("a")), "a"),
        (filter().with_source(valid("A")), ""),
        (filter().with_kind(valid("metric")), "cd"),
        (filter().with_severity([Severity::High]), "bc"),
        (filter().with_severity([Severity::Low, Severity::Critical]), "ad"),
        (filter().with_project(shop.clone()), "bc"),
        (filter().with_project(ProjectId::new()), ""),
        (filter().with_issue(issue_of_b.clone()), "b"),
        (filter().with_issue(IssueId::new()), ""),
        (filter().with_metadata(JsonObject::default()), "abcd"),
        (filter().with_metadata(valid(r#"{"tags": ["y"]}"#)), "cd"),
        (filter().with_metadata(valid(r#"{"tags": ["y", "x"]}"#)), "c"),
        (filter().with_metadata(valid(r#"{"rawPayload": {"of": "d"}}"#)), "d"),
        (filter().with_metadata(valid(r#"{"rawPayload": {"n": {"deep": [2]}}, "source": "a"}"#)), "a"),
        (filter().with_metadata(valid(r#"{"rawPayload": {"of": ["d"]}}"#)), ""),
        (
            filter()
                .with_source(valid("b"))
                .with_kind(valid("error"))
                .with_severity([Severity::High])
                .with_project(shop.clone())
                .with_issue(issue_of_b)
                .with_metadata(valid(r#"{"tags": ["x"]}"#)),
            "b",
        ),
        (filter().with_source(valid("b")).with_kind(valid("metric")), ""),
    ] {
        let page = store.signals().list(&filter, &everything()).await.unwrap();
        let sources: String = page.data.iter().map(|signal| signal.source.as_str()).collect();
        assert_eq!((sources.as_str(), page.total), (expected, Some(i64::try_from(expected.len()).unwrap())), "{filter:?}");
    }
}

#[tokio::test]
async fn unknown_signals_are_not_found() {
    let db = TestDb::new().await;
    let id = SignalId::new();
    assert_eq!(problem(db.store().signals().get(&id).await), not_found(Entity::Signal, &id));
}

#[tokio::test]
async fn a_project_must_be_there() {
    let db = TestDb::new().await;
    let store = db.store();
    let good = project(store, "Shop").await.id;
    let (unknown, deleted) = (ProjectId::new(), deleted_project(store).await);
    let with = |project: &ProjectId| NewSignal { project_id: Some(project.clone()), ..new_signal("cli") };
    for project in [&unknown, &deleted] {
        assert_eq!(problem(store.signals().ingest(with(project)).await), wrong_references(Entity::Signal, &["projectId"]));
    }
    let batch = vec![with(&good), with(&unknown), new_signal("cli"), with(&deleted), with(&unknown)];
    let wrong = ["signals[1].projectId", "signals[3].projectId", "signals[4].projectId"];
    assert_eq!(problem(store.signals().ingest_batch(batch).await), wrong_references(Entity::Signal, &wrong));
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(0));
    assert_eq!(store.signals().list(&SignalFilter::default(), &everything()).await.unwrap().total, Some(0));
}

#[tokio::test]
async fn a_batch_takes_a_thousand() {
    let db = TestDb::new().await;
    let store = db.store();
    assert_eq!(store.signals().ingest_batch(vec![]).await.unwrap(), []);
    let many = |count: usize| (0..count).map(|number| signal(&format!(r#"{{"message": "{number}"}}"#))).collect::<Vec<_>>();
    assert_eq!(problem(store.signals().ingest_batch(many(Signals::MAX_BATCH + 1)).await), invalid("signals"));
    assert_eq!(one(store, "SELECT count(*) FROM signals").await, "0");

    let mut batch = many(Signals::MAX_BATCH);
    for (number, new) in batch.iter_mut().enumerate().step_by(3) {
        new.delivery = Some(DeliveryKey::of_body(&number.to_le_bytes()));
    }
    let taken = store.signals().ingest_batch(batch).await.unwrap();
    let titles = (0..1000).map(|number| format!("[cli] note: {number}"));
    assert!(taken.iter().map(|taken| taken.issue.title.as_str().to_owned()).eq(titles), "in the order of the signals");
    assert!(taken.is_sorted_by_key(|taken| taken.issue.number), "numbered in the order of the signals");
    assert!(taken.iter().all(|taken| !taken.redelivered && taken.signal.issue_id == taken.issue.id));
    assert_eq!(one(store, "SELECT count(*) FROM signals AS s JOIN issues AS i ON i.id = s.issue_id").await, "1000");
    let last = taken.last().unwrap();
    assert_eq!(store.issues().get(&last.issue.id).await.unwrap(), last.issue);
    assert_eq!(store.signals().get(&last.signal.id).await.unwrap(), last.signal);
}

#[tokio::test]
async fn control_characters_do_not_reach_a_title() {
    let payload: JsonObject = valid(r#"{"message":"\u001b[31mred\nforged"}"#);
    let signal = NewSignal::new(valid("s"), valid("t"), Severity::Low, payload);
    assert_eq!(signal.title.as_str(), "[s] t:  [31mred forged");
}
