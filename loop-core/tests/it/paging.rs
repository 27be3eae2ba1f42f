//! Every list that is paged: cursors walk it, totals count it, offsets skip in it, and cursors of other orders are refused.

use loop_core::{
    Cursor, Error, GoalFilter, IssueFilter, Limit, LoopStore, NewApiKey, NewRelation, Page, PageRequest, ProjectFilter, RelationType, Role,
    SignalFilter, Start, TemplateFilter, test_util::TestDb,
};

use crate::support::{
    Problem, comment, everything, goal, issue, label, limit_of, new_review, new_signal, problem, project, reply, template, valid, version,
    walk,
};

/// As many rows as this, all created at the same moment.
const ROWS: usize = 7;

async fn same_moment(store: &LoopStore, table: &str) {
    store.raw(&format!("UPDATE {table} SET created_at = '2026-01-01'")).await.unwrap();
}

async fn check<T, Id: PartialEq + std::fmt::Debug>(list: impl AsyncFn(PageRequest) -> Result<Page<T>, Error>, id: impl Fn(&T) -> Id)
where
    T: std::fmt::Debug,
{
    let ids = |rows: &[T]| rows.iter().map(&id).collect::<Vec<_>>();
    let all = list(everything()).await.unwrap();
    assert_eq!((all.data.len(), all.total, all.next_cursor), (ROWS, Some(7), None));
    let all = ids(&all.data);
    for limit in [1, 3, 7] {
        assert_eq!(ids(&walk(limit, &list).await), all, "{limit} at a time");
    }
    let part = PageRequest { limit: limit_of(2), start: Start::Offset(5), total: true };
    let part = list(part).await.unwrap();
    assert_eq!((ids(&part.data).as_slice(), part.total, part.next_cursor), (&all[5..], Some(7), None));
    let first = list(PageRequest::first().with_limit(limit_of(1))).await.unwrap();
    assert_eq!(first.total, None, "what was not asked for");
    let beyond = list(PageRequest { start: Start::Offset(7), ..PageRequest::first() }).await.unwrap();
    assert_eq!((beyond.data.len(), beyond.next_cursor), (0, None));

    // `other|1|ab` and `createdAt|1|A`, neither of which any list gives.
    for foreign in ["b3RoZXJ8MXxhYg", "Y3JlYXRlZEF0fDF8QQ"] {
        let page = PageRequest::after(Cursor::parse(foreign).unwrap());
        assert_eq!(problem(list(page).await), Problem::MalformedCursor);
    }
}

#[tokio::test]
async fn lists_of_what_stands_alone() {
    let db = TestDb::new().await;
    let store = db.store();
    for number in 0..ROWS {
        let name = format!("n{number}");
        project(store, &name).await;
        goal(store, &name).await;
        label(store, &name).await;
        template(store, &name).await;
        let key = NewApiKey { name: valid(&name), role: Role::Read, project_id: None, expires_at: None };
        store.api_keys().create(key).await.unwrap();
    }
    for table in ["projects", "goals", "labels", "prompt_templates", "api_keys"] {
        same_moment(store, table).await;
    }
    check(async |page| store.projects().list(&ProjectFilter::default(), &page).await, |row| row.id.clone()).await;
    check(async |page| store.goals().list(&GoalFilter::default(), &page).await, |row| row.id.clone()).await;
    check(async |page| store.labels().list(&page).await, |row| row.id.clone()).await;
    check(async |page| store.templates().list(&TemplateFilter::default(), &page).await, |row| row.id.clone()).await;
    check(async |page| store.api_keys().list(&page).await, |row| row.id.clone()).await;
}

#[tokio::test]
async fn lists_of_issues_and_signals() {
    let db = TestDb::new().await;
    let store = db.store();
    store.signals().ingest_batch(vec![new_signal("cli"); ROWS]).await.unwrap();
    same_moment(store, "issues").await;
    check(async |page| store.signals().list(&SignalFilter::default(), &page).await, |row| row.id.clone()).await;
    check(async |page| store.issues().list(&IssueFilter::default(), &page).await, |row| row.id.clone()).await;
}

#[tokio::test]
async fn lists_of_parts_of_an_issue() {
    let db = TestDb::new().await;
    let store = db.store();
    let (center, other) = (issue(store, "Center").await.id, issue(store, "Other").await.id);
    comment(store, &other, "elsewhere").await;
    for number in 0..ROWS {
        let first = comment(store, &center, "first").await;
        reply(store, &first, "reply").await;
        let related = issue(store, "Related").await.id;
        let (from, to) = if number % 2 == 0 { (&center, related) } else { (&related, center.clone()) };
        store.relations().create(from, NewRelation { kind: RelationType::Related, related_issue_id: to }).await.unwrap();
    }
    same_moment(store, "comments").await;
    same_moment(store, "issue_relations").await;
    check(async |page| store.comments().list(&center, &page).await, |row| (row.comment.id.clone(), row.replies.len() == 1)).await;
    check(async |page| store.relations().list(&center, &page).await, |row| row.relation.id.clone()).await;
}

#[tokio::test]
async fn lists_of_parts_of_a_template() {
    let db = TestDb::new().await;
    let store = db.store();
    let (center, other) = (template(store, "center").await, template(store, "other").await);
    let issue = issue(store, "Issue").await.id;
    version(store, &other, "elsewhere").await;
    for _ in 0..ROWS {
        let version = version(store, &center, "content").await;
        store.reviews().create(new_review(&version.id, &issue, [1, 2, 3])).await.unwrap();
    }
    same_moment(store, "prompt_reviews").await;
    check(async |page| store.versions().list(&center.id, &page).await, |row| row.version).await;
    check(async |page| store.reviews().list(&center.id, &page).await, |row| row.id.clone()).await;
}

#[test]
fn a_limit_is_from_1_to_200() {
    assert_eq!([0, 1, 200, 201, 255].map(|limit| Limit::new(limit).is_some()), [false, true, true, false, false]);
}
