//! The statements themselves: all of them fit the schema, are bound to the scope, and are answered through the indexes meant for them.

use std::{collections::HashMap, fmt::Debug, future::Future};

use futures_util::future::try_join_all;
use loop_core::{
    IssueFilter, IssuePriority, IssueSort, IssueStatus, IssueType, JsonObject, LoopStore, PageRequest, PlaintextKey, SignalFilter,
    test_util::{TestDb, row_security},
};

use crate::support::{issue, one, project, valid};

/// What a statement is called, by its first line.
fn name(sql: &str) -> &str {
    sql.strip_prefix("-- ").and_then(|rest| rest.lines().next()).unwrap()
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let db = TestDb::new().await;
    let statements = loop_core::statements();
    assert!(statements.len() > 50, "{}", statements.len());
    for sql in &statements {
        let prepared = db.store().raw(&format!("PREPARE p (text) AS {sql}; DEALLOCATE p")).await;
        assert!(prepared.is_ok(), "{}: {:?}", name(sql), std::error::Error::source(&prepared.unwrap_err()));
    }
    let mut names: Vec<_> = statements.iter().map(|sql| name(sql)).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "each has a name of its own");
}

#[test]
fn every_statement_is_bound_to_the_scope() {
    let mut unbound: Vec<_> = loop_core::statements().into_iter().filter(|sql| !sql.contains("$1::text")).map(name).collect();
    unbound.sort_unstable();
    // Labels are shared, and whose an idempotency key is is said beside it. The lists and their counts get the condition where they are put together, and the tests of the scope see it.
    let expected = [
        "api_keys.count",
        "api_keys.list",
        "goals.count",
        "goals.list",
        "idempotency.claim",
        "idempotency.find",
        "idempotency.record",
        "issues.count",
        "issues.list",
        "labels.count",
        "labels.create",
        "labels.get",
        "labels.get_many",
        "labels.list",
        "projects.count",
        "projects.list",
        "signals.count",
        "signals.list",
        "templates.count",
        "templates.list",
    ];
    assert_eq!(unbound, expected);
}

#[test]
fn no_statement_names_a_type_of_the_schema_in_its_answer() {
    // A column of an enumeration would cost a look-up of its type on every new connection; as text it costs nothing.
    for sql in loop_core::statements() {
        for column in ["t.type,", "t.status,", "t.priority,", "t.health,", "s.type,", "s.severity,", "v.status,", "t.role,", "r.type,"] {
            assert!(!sql.contains(column), "{} answers {column}", name(sql));
        }
    }
}

/// A store whose only connection has this setting, on a database with these rows, of which the planner knows.
async fn filled(db: &TestDb, rows: &str, setting: &str) -> LoopStore {
    let store = db.store();
    store.raw(rows).await.unwrap();
    store.raw("ANALYZE").await.unwrap();
    store.close();
    let store = LoopStore::builder(db.url()).pool_size(1).connect().await.unwrap();
    store.raw(setting).await.unwrap();
    store
}

/// A store whose only connection prefers any index to none, on a database with enough rows to choose by.
async fn planned(db: &TestDb) -> LoopStore {
    let store = db.store();
    let project = project(store, "Shop").await.id;
    let rows = format!(
        "INSERT INTO projects (id, name) SELECT 'p' || n, 'Filler' FROM generate_series(1, 20) AS n;
         INSERT INTO issues (id, title, description, project_id, status, priority, created_at)
         SELECT 'i' || n, 'Title ' || n, 'word' || n % 1000, CASE WHEN n % 5 = 0 THEN '{project}' ELSE 'p' || n % 20 END,
                (ARRAY['open', 'backlog', 'triage'])[1 + n % 3]::issue_status, 'low', now() - n * 7919 % 8000 * interval '1 minute'
         FROM generate_series(1, 8000) AS n;
         INSERT INTO signals (id, source, type, severity, metadata, project_id, issue_id, created_at)
         SELECT 's' || n, 'source' || n % 10, 'error', 'low', jsonb_build_object('source', 'x', 'rawPayload', jsonb_build_object('n', n),
                'tags', '[]'::jsonb), 'p' || 1 + n % 20, 'i' || n, now() - n * 7919 % 4000 * interval '1 minute'
         FROM generate_series(1, 4000) AS n;
         INSERT INTO comments (id, body, issue_id, author_name, author_type, thread_id)
         SELECT 'c' || n, 'Said', 'i' || 1 + n % 400, 'Ada', 'human', 'c' || n FROM generate_series(1, 4000) AS n;
         INSERT INTO api_keys (id, name, prefix, key_hash, role)
         SELECT 'k' || n, 'Key', 'loop_', sha256(n::text::bytea), 'read' FROM generate_series(1, 4000) AS n"
    );
    filled(db, &rows, "SET enable_seqscan = off").await
}

/// How often each index, and each table as a whole, was read so far.
async fn reads(store: &LoopStore) -> HashMap<String, i64> {
    let counts = "SELECT relname, pg_stat_get_xact_numscans(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('i', 'r')";
    let rows = store.raw(counts).await.unwrap();
    let text = |value: &Option<String>| value.clone().unwrap();
    rows.iter().map(|row| (text(&row[0]), text(&row[1]).parse().unwrap())).collect()
}

/// The indexes, and the tables as a whole, that the call reads.
async fn read_by<T, E: Debug>(store: &LoopStore, call: impl Future<Output = Result<T, E>>) -> Vec<String> {
    // Within a transaction nothing is taken off the counts. The store has only this connection.
    store.raw("BEGIN").await.unwrap();
    let before = reads(store).await;
    call.await.unwrap();
    let after = reads(store).await;
    store.raw("COMMIT").await.unwrap();
    after.into_iter().filter(|(name, count)| before[name] < *count).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn hot_statements_use_their_indexes() {
    let db = TestDb::new().await;
    let store = planned(&db).await;
    let project = valid(&one(&store, "SELECT id FROM projects WHERE name = 'Shop'").await);
    let some_issue = valid("i20");
    let first = PageRequest::first();
    let second = async |filter: &IssueFilter| {
        let cursor = store.issues().list(filter, &first).await.unwrap().next_cursor.unwrap();
        PageRequest::after(loop_core::Cursor::parse(&cursor).unwrap())
    };
    // Behind row-level security, an index is used only for operators that are known not to tell what they see of rows that are hidden: those
    // of enumerations, of JSON and of the text search are not among them.
    let any_operator = !row_security();
    macro_rules! uses {
        ($call:expr, $($index:literal),+) => {
            let mut read = read_by(&store, $call).await;
            // Behind a pooler each statement is a transaction of its own, after which the counts may be taken off: once a second.
            if read.is_empty() {
                read = read_by(&store, $call).await;
            }
            $(assert!(read.iter().any(|name| name == $index), "{}: {read:?}", stringify!($call));)+
            assert!(!read.iter().any(|name| ["issues", "signals", "comments"].contains(&name.as_str())), "{}: {read:?}", stringify!($call));
        };
    }
    let (issues, filter) = (store.issues(), IssueFilter::default);
    uses!(issues.get(&some_issue), "issues_pkey");
    uses!(issues.find_by_number(7), "issues_number_key");
    let all = filter();
    uses!(issues.list(&all, &first), "issues_created_at_idx");
    uses!(issues.list(&all, &second(&all).await), "issues_created_at_idx");
    let of_project = filter().with_project(project);
    uses!(issues.list(&of_project, &first), "issues_project_id_created_at_idx");
    uses!(issues.list(&of_project, &second(&of_project).await), "issues_project_id_created_at_idx");
    if any_operator {
        let rare = filter().with_status([IssueStatus::Resolved]);
        uses!(issues.list(&rare, &first), "issues_status_created_at_idx");
        let rare = filter().with_status([IssueStatus::Resolved, IssueStatus::Closed, IssueStatus::Resolved]);
        uses!(issues.list(&rare, &first), "issues_status_created_at_idx");
        let open = of_project.clone().with_status([IssueStatus::Open]);
        uses!(issues.list(&open, &first), "issues_project_id_status_created_at_idx");
        uses!(issues.list(&open, &second(&open).await), "issues_project_id_status_created_at_idx");
    }
    uses!(issues.list(&filter().with_parent(valid("i1")), &first), "issues_parent_id_idx");
    let words = filter().with_text(&valid("word7"));
    if any_operator {
        uses!(issues.list(&words, &first), "issues_text_idx");
        uses!(issues.list(&filter().with_text(&valid("nowhere")), &first), "issues_text_idx");
        let frequent = filter().with_text(&valid("title"));
        // More often than a plan for any words would be made.
        for _ in 0..7 {
            uses!(issues.list(&words, &first), "issues_text_idx");
            uses!(issues.list(&frequent, &first), "issues_created_at_idx");
        }
        uses!(issues.list(&frequent, &PageRequest::first().with_total()), "issues_created_at_idx", "issues_text_idx");
    }
    assert_eq!(issues.list(&words, &PageRequest::first().with_total()).await.unwrap().total, Some(8));
    uses!(issues.detail(&some_issue), "issues_pkey", "issues_parent_id_idx", "issue_relations_related_issue_id_idx");

    let (signals, filter) = (store.signals(), SignalFilter::default);
    if any_operator {
        uses!(signals.list(&filter().with_metadata(valid(r#"{"rawPayload": {"n": 7}}"#)), &first), "signals_metadata_idx");
    }
    uses!(signals.list(&filter(), &first), "signals_created_at_idx");
    uses!(signals.list(&filter().with_source(valid("rare")), &first), "signals_source_idx");
    uses!(signals.list(&filter().with_issue(valid("i7")), &first), "signals_issue_id_idx");
    uses!(signals.list(&filter().with_project(valid("p7")), &first), "signals_project_id_idx");
    uses!(store.comments().list(&some_issue, &first), "comments_issue_id_idx");
    let key = PlaintextKey::parse(&format!("loop_{}", "A".repeat(43))).unwrap();
    uses!(store.api_keys().authenticate(&key), "api_keys_key_hash_key", "api_keys_previous_key_hash_key");
}

/// A store with one connection, to whose planner jumps cost much, and issues as they were created, each of the project that `project` says for its
/// number, `n`, of twenty thousand.
async fn skewed(db: &TestDb, project: &str) -> LoopStore {
    let rows = format!(
        "INSERT INTO projects (id, name) SELECT 'p' || n, 'Project' FROM generate_series(0, 999) AS n;
         INSERT INTO issues (id, title, project_id, created_at)
         SELECT 'i' || n, 'Title', 'p' || {project}, now() - n * interval '1 minute' FROM generate_series(1, 20000) AS n"
    );
    filled(db, &rows, "SET random_page_cost = 10").await
}

/// What is read for the first page of a project, which has that many issues.
async fn read_for_page(store: &LoopStore, filter: &IssueFilter, count: usize) -> Vec<String> {
    read_by(store, async {
        let issues = store.issues().list(filter, &PageRequest::first()).await?;
        assert_eq!(issues.data.len(), count);
        Ok::<_, loop_core::Error>(())
    })
    .await
}

#[tokio::test]
async fn a_project_with_few_issues_is_listed_without_those_of_the_others() {
    let db = TestDb::new().await;
    // For any of the eight that have nearly all issues it looks cheap to walk all in the order of the list.
    let store = skewed(&db, "CASE WHEN n > 19997 THEN 9 ELSE n % 8 END").await;
    let of_project = IssueFilter::default().with_project(valid("p9"));
    let oldest = of_project.clone().with_sort(IssueSort::CreatedAsc);
    let tasks = of_project.clone().with_kind([IssueType::Task]);
    let open = of_project.clone().with_status([IssueStatus::Open]);
    let bound = store.within(valid("p9"));
    let calls = [(&store, &of_project), (&store, &oldest), (&store, &tasks), (&store, &open), (&bound, &IssueFilter::default())];
    // More often than a plan for any project would be made.
    for (store, filter) in calls.iter().cycle().take(7 * calls.len()) {
        let read = read_for_page(store, filter, 3).await;
        let others = ["issues", "issues_created_at_idx", "issues_status_created_at_idx"];
        assert!(!read.iter().any(|name| others.contains(&name.as_str())), "{filter:?}: {read:?}");
    }
}

#[tokio::test]
async fn a_project_with_many_issues_is_read_in_order_where_most_have_few() {
    let db = TestDb::new().await;
    // For any of the many that have twenty it looks cheap to sort those.
    let store = skewed(&db, "CASE WHEN n % 2 = 0 THEN 999 ELSE n / 40 END").await;
    let of_project = IssueFilter::default().with_project(valid("p999"));
    for _ in 0..7 {
        let read = read_for_page(&store, &of_project, 50).await;
        assert!(read.iter().any(|name| name == "issues_project_id_created_at_idx"), "{read:?}");
    }
}

#[tokio::test]
async fn the_detail_of_an_issue_is_planned_once_and_reads_no_table_as_a_whole() {
    const TABLES: [&str; 5] = ["issues", "issue_labels", "issue_relations", "labels", "projects"];
    let db = TestDb::new().await;
    // Few enough to look cheap to read as a whole. The planner knows each of the fifty that have children, and so that all others have none.
    let rows = "INSERT INTO projects (id, name) SELECT 'p' || n, 'Project' FROM generate_series(1, 1000) AS n;
                INSERT INTO labels (id, name, name_key, color) SELECT 'l' || n, 'Label', n, '#d73a4a' FROM generate_series(1, 1000) AS n;
                INSERT INTO issues (id, title, parent_id)
                SELECT 'i' || n, 'Title', CASE WHEN n > 50 THEN 'i' || 1 + n % 50 END FROM generate_series(1, 1000) AS n;
                INSERT INTO issue_labels (issue_id, label_id) SELECT 'i' || n, 'l' || n FROM generate_series(1, 1000) AS n;
                INSERT INTO issue_relations (id, type, issue_id, related_issue_id)
                SELECT 'r' || n, 'related', 'i' || n, 'i' || 1 + n % 1000 FROM generate_series(1, 1000) AS n";
    let store = &filled(&db, rows, "SET jit = off").await;
    // One without children first: for it alone, a plan would look cheaper than the one for any issue.
    for id in ["i900"; 20].into_iter().chain(["i1"]) {
        let read = read_by(store, store.issues().detail(&valid(id))).await;
        assert!(!read.iter().any(|name| TABLES.contains(&name.as_str())), "{id}: {read:?}");
    }
    // Two of four are asked for alone, and two together.
    for _ in 0..12 {
        let ids = ["i900", "i901", "i902", "i1"];
        let read = read_by(store, try_join_all(ids.map(|id| async move { store.issues().detail(&valid(id)).await }))).await;
        assert!(!read.iter().any(|name| TABLES.contains(&name.as_str())), "{read:?}");
    }
    let kept =
        store.raw("SELECT generic_plans > 5 FROM pg_prepared_statements WHERE starts_with(statement, '-- issues.detail')").await.unwrap();
    // Behind a pooler statements have no names, and so no plans that are kept.
    let expected = if db.url() == db.direct_url() { vec![vec![Some("t".to_owned())]; 2] } else { vec![] };
    assert_eq!(kept, expected);
}

#[tokio::test]
async fn every_filter_fits_every_order() {
    let db = TestDb::new().await;
    let store = db.store();
    let target = issue(store, "Target").await;
    let label = crate::support::label(store, "label").await;
    store.labels().attach(&target.id, &label.id).await.unwrap();
    for scoped in [false, true] {
        let shop = project(store, "Shop").await.id;
        let store = if scoped { store.within(shop.clone()) } else { store.clone() };
        for word in IssueSort::WORDS {
            let filter = IssueFilter::default()
                .with_status(IssueStatus::ALL)
                .with_kind(IssueType::ALL)
                .with_priority(IssuePriority::ALL)
                .with_project(shop.clone())
                .with_label(label.id.clone())
                .with_parent(target.id.clone())
                .with_text(&valid("target"))
                .with_created_after(target.created_at)
                .with_created_before(target.created_at)
                .with_sort(valid(word));
            let page = PageRequest { start: loop_core::Start::Offset(1), ..PageRequest::first().with_total() };
            assert_eq!(store.issues().list(&filter, &page).await.unwrap().total, Some(0), "{word}");
        }
        let filter = SignalFilter::default()
            .with_source(valid("a"))
            .with_kind(valid("b"))
            .with_severity(loop_core::Severity::ALL)
            .with_project(shop)
            .with_issue(target.id.clone())
            .with_metadata(JsonObject::default());
        assert_eq!(store.signals().list(&filter, &PageRequest::first().with_total()).await.unwrap().total, Some(0));
    }
}
