//! What every module here needs: valid values in few words, rows to refer to, and errors that can be compared.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use loop_core::{
    Comment, Cursor, Entity, Error, Goal, Issue, IssueId, JsonObject, Label, Limit, LoopStore, NewComment, NewGoal, NewIssue, NewLabel,
    NewProject, NewReview, NewSignal, NewTemplate, NewVersion, Page, PageRequest, Patch, Project, ProjectId, PromptTemplate, PromptVersion,
    Severity, Specificity, Timestamp, VersionId, test_util::TestDb,
};

/// A value that is valid by construction.
pub(crate) fn valid<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// What an error is, without its causes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    NotFound(Entity, String),
    Conflict(Entity, &'static str),
    Reference(Entity, Vec<String>),
    Invalid(String),
    OutOfScope,
    MalformedCursor,
    Unavailable,
    Other(String),
}

/// The error that this must be.
pub(crate) fn problem<T: Debug>(result: Result<T, Error>) -> Problem {
    match result.unwrap_err() {
        Error::NotFound { entity, id } => Problem::NotFound(entity, id),
        Error::Conflict { entity, constraint } => Problem::Conflict(entity, constraint),
        Error::InvalidReference { entity, fields } => Problem::Reference(entity, fields),
        Error::Invalid { field, reason: _ } => Problem::Invalid(field),
        Error::OutOfScope { action: _ } => Problem::OutOfScope,
        Error::MalformedCursor => Problem::MalformedCursor,
        Error::Unavailable { source: _ } => Problem::Unavailable,
        other => Problem::Other(format!("{other:?}")),
    }
}

pub(crate) fn not_found(entity: Entity, id: &impl Display) -> Problem {
    Problem::NotFound(entity, id.to_string())
}

pub(crate) fn wrong_references(entity: Entity, fields: &[&str]) -> Problem {
    Problem::Reference(entity, fields.iter().map(ToString::to_string).collect())
}

pub(crate) fn invalid(field: &str) -> Problem {
    Problem::Invalid(field.to_owned())
}

/// A change to one field: what it is called, what is sent, and what it does to the row.
pub(crate) struct Change<P, R> {
    name: &'static str,
    patch: P,
    expect: Box<dyn Fn(&mut R)>,
}

pub(crate) fn change<P, R>(name: &'static str, patch: P, expect: impl Fn(&mut R) + 'static) -> Change<P, R> {
    Change { name, patch, expect: Box::new(expect) }
}

/// Sets or clears.
pub(crate) fn to<T: Clone>(value: Option<&T>) -> Patch<T> {
    value.map_or(Patch::Clear, |value| Patch::Set(value.clone()))
}

/// A change of each of these fields that cannot be null.
macro_rules! sets {
    ($patch:ident to $row:ident: $($field:ident = $value:expr),+ $(,)?) => {
        vec![$($crate::support::change(
            stringify!($field),
            $patch { $field: Some($value), ..$patch::default() },
            |row: &mut $row| row.$field = $value,
        )),+]
    };
}

/// A change of each of these fields to what it is in another row, or to nothing.
macro_rules! nullables {
    ($patch:ident to $row:ident like $full:expr; $($field:ident),+ $(,)?) => {{
        let full: Option<&$row> = $full;
        vec![$({
            let value = full.and_then(|full| full.$field.clone());
            let patch = $patch { $field: $crate::support::to(value.as_ref()), ..$patch::default() };
            $crate::support::change(stringify!($field), patch, move |row: &mut $row| row.$field.clone_from(&value))
        }),+]
    }};
}
pub(crate) use {nullables, sets};

/// Makes one change after the other, and sees that it changes what it says and nothing else.
pub(crate) async fn check_changes<P, R: PartialEq + Debug>(
    mut row: R,
    changes: Vec<Change<P, R>>,
    stamps: impl Fn(&mut R) -> (&mut Timestamp, &mut i64),
    update: impl AsyncFn(P) -> Result<R, Error>,
    get: impl AsyncFn() -> Result<R, Error>,
) {
    for Change { name, patch, expect } in changes {
        let mut updated = update(patch).await.unwrap();
        let after = *stamps(&mut updated).0;
        let (updated_at, revision) = stamps(&mut row);
        assert!(after >= *updated_at, "{name}");
        *updated_at = after;
        *revision += 1;
        expect(&mut row);
        assert_eq!(updated, row, "{name}");
        assert_eq!(get().await.unwrap(), row, "{name}");
    }
}

/// All rows of a list, walked page by page. No page but the last is shorter than asked, and the last is not empty unless it is the first.
pub(crate) async fn walk<T>(limit: u8, list: impl AsyncFn(PageRequest) -> Result<Page<T>, Error>) -> Vec<T> {
    let mut all = Vec::new();
    let mut request = PageRequest::first();
    loop {
        let page = list(request.with_limit(limit_of(limit))).await.unwrap();
        let first = all.is_empty();
        let length = page.data.len();
        all.extend(page.data);
        let Some(cursor) = page.next_cursor else {
            assert!(length > 0 || first, "the last page is empty");
            return all;
        };
        assert_eq!(length, usize::from(limit), "a page before the last is not full");
        request = PageRequest::after(Cursor::parse(&cursor).unwrap());
    }
}

pub(crate) fn limit_of(limit: u8) -> Limit {
    Limit::new(limit).unwrap()
}

/// The longest page.
pub(crate) fn everything() -> PageRequest {
    PageRequest::first().with_limit(limit_of(Limit::MAX)).with_total()
}

/// A moment that can be written into a test.
pub(crate) fn at(text: &str) -> Timestamp {
    valid(text)
}

/// The only value of the only row of a statement.
pub(crate) async fn one(store: &LoopStore, sql: &str) -> String {
    let mut rows = store.raw(sql).await.unwrap();
    assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}");
    rows.remove(0).remove(0).unwrap()
}

/// A transaction, on a connection of its own, that has the table to itself: whoever reads it waits until it is let go.
pub(crate) struct Locked(pub(crate) LoopStore);

impl Locked {
    pub(crate) async fn new(db: &TestDb, table: &str) -> Self {
        let store = LoopStore::builder(db.direct_url()).pool_size(1).connect().await.unwrap();
        store.raw(&format!("BEGIN; LOCK TABLE {table}")).await.unwrap();
        Self(store)
    }

    pub(crate) async fn let_go(self) {
        self.0.raw("COMMIT").await.unwrap();
    }
}

/// Everything that is stored, as text, table by table.
pub(crate) async fn dump(store: &LoopStore) -> Vec<String> {
    let tables = store.raw("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1").await.unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let table = table[0].as_deref().unwrap();
        for row in store.raw(&format!("SELECT to_jsonb(t)::text FROM {table} AS t ORDER BY 1")).await.unwrap() {
            rows.push(format!("{table}: {}", row[0].as_deref().unwrap()));
        }
    }
    rows
}

pub(crate) async fn project(store: &LoopStore, name: &str) -> Project {
    store.projects().create(NewProject::named(valid(name))).await.unwrap()
}

pub(crate) async fn deleted_project(store: &LoopStore) -> ProjectId {
    let project = project(store, "Deleted").await;
    store.projects().delete(&project.id).await.unwrap();
    project.id
}

pub(crate) async fn goal(store: &LoopStore, title: &str) -> Goal {
    store.goals().create(NewGoal::titled(valid(title))).await.unwrap()
}

pub(crate) fn new_issue(title: &str) -> NewIssue {
    NewIssue::titled(valid(title))
}

pub(crate) async fn issue(store: &LoopStore, title: &str) -> Issue {
    store.issues().create(new_issue(title)).await.unwrap()
}

pub(crate) async fn child(store: &LoopStore, parent: &IssueId, title: &str) -> Issue {
    store.issues().create(NewIssue { parent_id: Some(parent.clone()), ..new_issue(title) }).await.unwrap()
}

pub(crate) async fn deleted_issue(store: &LoopStore) -> IssueId {
    let issue = issue(store, "Deleted").await;
    store.issues().delete(&issue.id).await.unwrap();
    issue.id
}

pub(crate) fn new_label(name: &str) -> NewLabel {
    NewLabel { name: valid(name), color: valid("#d73a4a") }
}

pub(crate) async fn label(store: &LoopStore, name: &str) -> Label {
    store.labels().create(new_label(name)).await.unwrap()
}

pub(crate) fn new_comment(body: &str) -> NewComment {
    NewComment { body: valid(body), author_name: valid("Ada"), author_type: loop_core::AuthorType::Human, parent_id: None }
}

pub(crate) async fn comment(store: &LoopStore, issue: &IssueId, body: &str) -> Comment {
    store.comments().create(issue, new_comment(body)).await.unwrap()
}

pub(crate) async fn reply(store: &LoopStore, to: &Comment, body: &str) -> Comment {
    store.comments().create(&to.issue_id, NewComment { parent_id: Some(to.id.clone()), ..new_comment(body) }).await.unwrap()
}

pub(crate) fn new_signal(source: &str) -> NewSignal {
    NewSignal::new(valid(source), valid("error"), Severity::High, valid(r#"{"message": "it broke"}"#))
}

pub(crate) fn new_template(slug: &str) -> NewTemplate {
    NewTemplate {
        slug: valid(slug),
        name: valid("Triage"),
        description: None,
        conditions: JsonObject::default(),
        specificity: Specificity::default(),
        project_id: None,
    }
}

pub(crate) async fn template(store: &LoopStore, slug: &str) -> PromptTemplate {
    store.templates().create(new_template(slug)).await.unwrap()
}

pub(crate) fn new_version(content: &str) -> NewVersion {
    NewVersion { content: valid(content), changelog: None, author_type: loop_core::AuthorType::Agent, author_name: valid("planner") }
}

pub(crate) async fn version(store: &LoopStore, template: &PromptTemplate, content: &str) -> PromptVersion {
    store.versions().create(&template.id, new_version(content)).await.unwrap()
}

pub(crate) fn new_review(version: &VersionId, issue: &IssueId, grades: [i64; 3]) -> NewReview {
    let [clarity, completeness, relevance] = grades.map(|grade| grade.try_into().unwrap());
    NewReview {
        version_id: version.clone(),
        issue_id: issue.clone(),
        clarity,
        completeness,
        relevance,
        feedback: None,
        author_type: loop_core::AuthorType::Agent,
    }
}
