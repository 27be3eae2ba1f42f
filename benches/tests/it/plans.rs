//! The plans that the server really makes, for everything that calls of the store come to: the statements, and what functions, triggers and
//! foreign keys run within them. None may read a large table as a whole, or sort much of one.
//!
//! The server writes each plan into its log (`auto_explain`), with what it read. That is asked of a hundred thousand issues, which are filled in
//! seconds. More is another question, since the planner chooses by costs that grow differently: the more rows there are, the fewer of them it
//! believes that it must walk until a page is full, and where it is mistaken, it walks them all. `LOOP_BENCH_ROWS=1000000` asks it of a million, and
//! fewer than a hundred thousand are not asked: of a small table the planner rightly reads all.

use std::collections::BTreeSet;

use benches::{Place, Server, asked_rows};
use futures_util::future::try_join_all;
use loop_core::{
    Cursor, Error, IssueFilter, IssueId, IssuePatch, IssuePriority, IssueSort, IssueStatus, IssueType, NewComment, NewIssue, NewSignal,
    PageRequest, PlaintextKey, Severity, SignalFilter, SignalId,
};
use serde_json::Value;

/// The tables that grow.
const LARGE: [&str; 9] =
    ["issues", "signals", "issue_events", "deliveries", "fingerprints", "comments", "issue_labels", "issue_relations", "api_keys"];

/// The most rows that one step of a plan may read, or sort. A page by a label that one issue of fifty has reads 2550.
const MOST_READ: f64 = 10_000.0;
const MOST_SORTED: f64 = 1000.0;

/// How often each call is made: the server makes a plan for the values five times, and then may keep one for any.
const TIMES: usize = 7;

/// What is wrong with a plan.
fn complaints(plan: &Value, found: &mut BTreeSet<String>) {
    let kind = plan["Node Type"].as_str().unwrap();
    let relation = plan["Relation Name"].as_str().unwrap_or_default();
    let number = |name: &str| plan[name].as_f64().unwrap_or_default();
    let read = (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops");
    if kind == "Seq Scan" && LARGE.contains(&relation) && number("Actual Loops") > 0.0 {
        found.insert(format!("reads all of {relation}"));
    }
    if !relation.is_empty() && read > MOST_READ {
        found.insert(format!("reads {read} rows of {relation} by {kind}"));
    }
    if kind.contains("Sort") {
        // What comes out of it says nothing: where only the first are asked for, it is as many as those.
        let input = |name: &str| plan["Plans"][0][name].as_f64().unwrap_or_default();
        let sorted = input("Actual Rows") * input("Actual Loops");
        if sorted > MOST_SORTED {
            found.insert(format!("sorts {sorted} rows"));
        }
    }
    for part in plan["Plans"].as_array().into_iter().flatten() {
        complaints(part, found);
    }
}

/// The plans in a part of the server's log: each is JSON, on lines that begin with a tab.
fn plans(log: &str) -> Vec<Value> {
    let pieces = log.split("  plan:\n").skip(1);
    let json = |piece: &str| piece.lines().map_while(|line| line.strip_prefix('\t')).collect::<Vec<_>>().join("\n");
    pieces.map(|piece| serde_json::from_str(&json(piece)).unwrap()).collect()
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn nothing_reads_or_sorts_a_large_table() {
    let explained = [
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
        "auto_explain.log_analyze=on",
        "auto_explain.log_timing=off",
        "auto_explain.log_format=json",
        // To compile the plan of a batch takes seconds, and changes nothing of it.
        "jit=off",
    ];
    let mut server = Server::own(Place::Memory, &explained).await;
    let database = server.filled("plans", asked_rows().unwrap_or_default().max(100_000)).await;
    let store = database.store().await;
    let place = async |sql: &str| store.raw(sql).await.unwrap()[0][0].clone().unwrap();
    let id = async |letter: char, n: u32| place(&format!("SELECT '{letter}' || left(md5('{n}'), 23)")).await;
    let (parent, child): (IssueId, IssueId) = (id('i', 5001).await.parse().unwrap(), id('i', 5002).await.parse().unwrap());
    let number = place(&format!("SELECT number FROM issues WHERE id = '{parent}'")).await.parse().unwrap();
    let project: loop_core::ProjectId = id('p', 7).await.parse().unwrap();
    let label: loop_core::LabelId = id('l', 7).await.parse().unwrap();
    // A project that has none of a status that is frequent in all others, one that has two issues in all, and a label that hardly any issue has.
    let (without, tiny, rare): (_, _, loop_core::LabelId) = (id('p', 8).await, id('p', 99).await, id('l', 99).await.parse().unwrap());
    let filling = format!(
        "SET LOCAL session_replication_role = replica;
         UPDATE issues SET status = 'triage' WHERE project_id = '{without}' AND status = 'open';
         INSERT INTO projects (id, name) VALUES ('{tiny}', 'Tiny');
         UPDATE issues SET project_id = '{tiny}' WHERE id IN ('{parent}', '{child}');
         INSERT INTO labels (id, name, name_key, color) VALUES ('{rare}', 'rare', 'rare', '#d73a4a');
         INSERT INTO issue_labels (issue_id, label_id) VALUES ('{parent}', '{rare}'), ('{child}', '{rare}')"
    );
    store.raw(&filling).await.unwrap();
    store.raw("VACUUM ANALYZE issues, issue_labels, labels").await.unwrap();
    let (without, tiny): (loop_core::ProjectId, loop_core::ProjectId) = (without.parse().unwrap(), tiny.parse().unwrap());
    // For all but the first two there is one statement.
    let (mut several, mut reported): (Vec<IssueId>, Vec<SignalId>) = (Vec::new(), Vec::new());
    // Every fifth issue has a signal.
    for number in (5001..5051).step_by(5) {
        several.push(id('i', number).await.parse().unwrap());
        reported.push(id('s', number).await.parse().unwrap());
    }
    let key = PlaintextKey::parse(&format!("loop_{}", "A".repeat(43))).unwrap();
    let (issues, signals) = (store.issues(), store.signals());
    let (first, every) = (PageRequest::first(), IssueFilter::default);
    let from = |name: &str, fingerprint: Option<&str>| {
        let payload = r#"{"message": "it broke"}"#.parse().unwrap();
        let new = NewSignal::new(name.parse().unwrap(), "error".parse().unwrap(), Severity::High, payload);
        NewSignal { fingerprint: fingerprint.map(|text| text.parse().unwrap()), ..new }
    };

    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    macro_rules! explain {
        ($($call:expr;)+) => {$(
            server.log();
            for _ in 0..TIMES {
                let result: Result<_, Error> = $call.await;
                assert!(result.is_ok(), "{}: {:?}", stringify!($call), result.err());
            }
            for plan in plans(&server.log()) {
                seen += 1;
                let mut found = BTreeSet::new();
                complaints(&plan["Plan"], &mut found);
                let text = plan["Query Text"].as_str().unwrap().lines().next().unwrap_or_default().to_owned();
                wrong.extend(found.into_iter().map(|complaint| format!("{text} {complaint}, in {}", stringify!($call))));
            }
        )+};
    }
    explain! {
        issues.get(&parent);
        issues.find_by_number(number);
        issues.detail(&parent);
        issues.detail(&child);
        try_join_all(several.iter().map(|id| issues.get(id)));
        try_join_all(several.iter().map(|id| issues.detail(id)));
        try_join_all(reported.iter().map(|id| signals.get(id)));
        issues.list(&every().with_project(project.clone()), &first);
        issues.list(&every().with_status([IssueStatus::Open]), &first);
        issues.list(&every().with_status([IssueStatus::InProgress]), &first);
        issues.list(&every().with_status([IssueStatus::Triage, IssueStatus::InProgress]), &first);
        issues.list(&every().with_project(project.clone()).with_status([IssueStatus::Open]), &first);
        issues.list(&every().with_project(project.clone()).with_status([IssueStatus::InProgress]), &first);
        issues.list(&every().with_project(without.clone()).with_status([IssueStatus::Open]), &first);
        issues.list(&every().with_project(tiny.clone()).with_status([IssueStatus::Open]), &first);
        issues.list(&every().with_project(tiny.clone()).with_status([IssueStatus::Open, IssueStatus::Resolved]), &first);
        issues.list(&every().with_project(tiny.clone()).with_kind([IssueType::Bug]), &first);
        store.within(tiny.clone()).issues().list(&every(), &first);
        store.within(tiny.clone()).issues().list(&every().with_status([IssueStatus::Open]), &first);
        issues.list(&every().with_priority([IssuePriority::High]), &first);
        issues.list(&every().with_label(label.clone()), &first);
        issues.list(&every().with_label(rare.clone()), &first);
        issues.list(&every().with_parent(parent.clone()), &first);
        issues.list(&every().with_text(&"word7".parse().unwrap()), &first);
        issues.list(&every().with_text(&"login".parse().unwrap()), &first);
        issues.list(&every().with_text(&"login word7".parse().unwrap()), &first);
        issues.list(&every().with_text(&"nowhere".parse().unwrap()), &first);
        signals.list(&SignalFilter::default(), &first);
        signals.list(&SignalFilter::default().with_project(project.clone()), &first);
        signals.list(&SignalFilter::default().with_issue(parent.clone()), &first);
        signals.list(&SignalFilter::default().with_source("monitor".parse().unwrap()), &first);
        signals.list(&SignalFilter::default().with_metadata(r#"{"rawPayload": {"count": 7}}"#.parse().unwrap()), &first);
        store.comments().list(&parent, &first);
        store.relations().list(&parent, &first);
        store.events().of_issue(&parent, &first);
        store.api_keys().authenticate(&key);
        issues.create(NewIssue::titled("New".parse().unwrap()));
        issues.create(NewIssue { parent_id: Some(parent.clone()), ..NewIssue::titled("New".parse().unwrap()) });
        issues.update(&child, IssuePatch { status: Some(IssueStatus::Open), ..IssuePatch::default() });
        issues.update(&child, IssuePatch { status: Some(IssueStatus::Resolved), label_ids: Some(vec![label.clone()]), ..IssuePatch::default() });
        store.labels().attach(&parent, &label);
        store.comments().create(&parent, NewComment {
            body: "Seen".parse().unwrap(), author_name: "Ada".parse().unwrap(), author_type: loop_core::AuthorType::Human, parent_id: None,
        });
        // The batches first, so that plans are made for batches, too, and not for one signal alone.
        signals.ingest_batch(vec![from("batch", None); 1000]);
        signals.ingest_batch((0..1000).map(|n| from("batch", Some(&(n / 10).to_string()))).collect());
        signals.ingest(from("alone", None));
        signals.ingest(from("grouped", Some("one")));
        signals.ingest(NewSignal { delivery: Some(loop_core::DeliveryKey::named("again")), ..from("delivered", None) });
    }
    let sorts = IssueSort::WORDS.iter().map(|word| every().with_sort(word.parse().unwrap()));
    for of_tiny in sorts.clone().map(|filter| filter.with_project(tiny.clone())) {
        explain! {
            issues.list(&of_tiny, &first);
        }
    }
    let of_project = every().with_project(project.clone());
    for filter in sorts.chain([of_project.clone(), of_project.with_status([IssueStatus::Open])]) {
        let second = issues.list(&filter, &first).await.unwrap().next_cursor.unwrap();
        let second = PageRequest::after(Cursor::parse(&second).unwrap());
        explain! {
            issues.list(&filter, &first);
            issues.list(&filter, &second);
        }
    }
    println!("{seen} plans");
    assert!(seen > 300, "{seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
