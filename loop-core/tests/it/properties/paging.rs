//! Walks through lists while rows come, go and change under them: no row is met twice, and none is missed that stayed where it was.

use std::collections::{BTreeMap, HashMap, HashSet};

use loop_core::{
    Cursor, GoalFilter, IssueFilter, IssueId, IssuePatch, IssuePriority, IssueSort, LoopStore, NewApiKey, NewRelation, Page, PageRequest,
    ProjectFilter, ProjectId, PromptTemplate, PromptVersion, RelationType, Role, SignalFilter, TemplateFilter,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::check_store;
use crate::support::{comment, goal, issue, label, limit_of, new_issue, new_review, new_signal, project, reply, template, valid, version};

/// A list that is paged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Projects,
    Goals,
    Labels,
    Templates,
    Keys,
    Signals,
    Issues(IssueSort),
    Comments,
    Relations,
    Versions,
    Reviews,
    EventsOfIssue,
    EventsOfProject,
}

const LISTS: [List; 20] = [
    List::Projects,
    List::Goals,
    List::Labels,
    List::Templates,
    List::Keys,
    List::Signals,
    List::Issues(IssueSort::CreatedDesc),
    List::Issues(IssueSort::CreatedAsc),
    List::Issues(IssueSort::UpdatedDesc),
    List::Issues(IssueSort::UpdatedAsc),
    List::Issues(IssueSort::PriorityAsc),
    List::Issues(IssueSort::PriorityDesc),
    List::Issues(IssueSort::NumberAsc),
    List::Issues(IssueSort::NumberDesc),
    List::Comments,
    List::Relations,
    List::Versions,
    List::Reviews,
    List::EventsOfIssue,
    List::EventsOfProject,
];

/// What happens between two pages.
#[derive(Debug, Clone)]
enum Step {
    /// A row comes, at one of a few moments, so that many share theirs.
    Insert(u8),
    Delete(Index),
    /// Something of a row changes.
    Change(Index, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..3).prop_map(Step::Insert),
        2 => any::<Index>().prop_map(Step::Delete),
        2 => (any::<Index>(), 0_u8..8).prop_map(|(row, how)| Step::Change(row, how)),
    ]
}

/// A list of one case: what its rows are parts of.
struct Walked<'a> {
    store: &'a LoopStore,
    list: List,
    issue: IssueId,
    project: ProjectId,
    template: PromptTemplate,
    version: PromptVersion,
    /// Names must not meet.
    number: std::cell::Cell<u32>,
}

impl<'a> Walked<'a> {
    async fn new(store: &'a LoopStore, list: List) -> Self {
        for table in ["goals", "labels", "prompt_templates", "api_keys", "signals", "issues", "projects"] {
            store.raw(&format!("UPDATE {table} SET deleted_at = now() WHERE deleted_at IS NULL")).await.unwrap();
        }
        let project = project(store, "The list's").await.id;
        let template = template(store, "the-lists").await;
        let version = version(store, &template, "content").await;
        let of_project = loop_core::NewIssue { project_id: Some(project.clone()), ..new_issue("The list's") };
        let issue = store.issues().create(of_project).await.unwrap().id;
        Self { store, list, issue, project, template, version, number: 0.into() }
    }

    /// The table whose moments of creation order the list, if they do.
    fn table(&self) -> Option<&'static str> {
        Some(match self.list {
            List::Projects => "projects",
            List::Goals => "goals",
            List::Labels => "labels",
            List::Templates => "prompt_templates",
            List::Keys => "api_keys",
            List::Signals => "signals",
            List::Issues(_) => "issues",
            List::Comments => "comments",
            List::Relations => "issue_relations",
            List::Reviews => "prompt_reviews",
            List::Versions | List::EventsOfIssue | List::EventsOfProject => return None,
        })
    }

    /// Adds a row: its id.
    async fn insert(&self, moment: u8) -> String {
        let store = self.store;
        self.number.set(self.number.get() + 1);
        let name = format!("n{}", self.number.get());
        let id = match self.list {
            List::Projects => project(store, &name).await.id.to_string(),
            List::Goals => goal(store, &name).await.id.to_string(),
            List::Labels => label(store, &name).await.id.to_string(),
            List::Templates => template(store, &name).await.id.to_string(),
            List::Keys => {
                let new = NewApiKey { name: valid(&name), role: Role::Read, project_id: None, expires_at: None };
                store.api_keys().create(new).await.unwrap().key.id.to_string()
            }
            List::Signals => store.signals().ingest(new_signal("cli")).await.unwrap().signal.id.to_string(),
            List::Issues(_) => issue(store, &name).await.id.to_string(),
            List::Comments => {
                let first = comment(store, &self.issue, &name).await;
                reply(store, &first, "reply").await;
                first.id.to_string()
            }
            List::Relations => {
                let related = issue(store, &name).await.id;
                let (from, to) = if moment == 0 { (&self.issue, related) } else { (&related, self.issue.clone()) };
                let new = NewRelation { kind: RelationType::Related, related_issue_id: to };
                store.relations().create(from, new).await.unwrap().id.to_string()
            }
            List::Versions => version(store, &self.template, &name).await.id.to_string(),
            List::Reviews => store.reviews().create(new_review(&self.version.id, &self.issue, [1, 2, 3])).await.unwrap().id.to_string(),
            List::EventsOfIssue | List::EventsOfProject => {
                let patch = IssuePatch { title: Some(valid(&name)), ..IssuePatch::default() };
                store.issues().update(&self.issue, patch).await.unwrap();
                store.events().of_issue(&self.issue, &PageRequest::first()).await.unwrap().data[0].id.to_string()
            }
        };
        if let Some(table) = self.table() {
            let sql = format!("UPDATE {table} SET created_at = '2026-01-01T00:00:00.00{moment}Z' WHERE id = '{id}'");
            store.raw(&sql).await.unwrap();
        }
        id
    }

    /// Takes a row away, where rows can be.
    async fn delete(&self, id: &str) -> bool {
        let store = self.store;
        match self.list {
            List::Projects => store.projects().delete(&valid(id)).await,
            List::Goals => store.goals().delete(&valid(id)).await,
            List::Labels => store.labels().delete(&valid(id)).await,
            List::Templates => store.templates().delete(&valid(id)).await,
            List::Keys => store.api_keys().revoke(&valid(id)).await,
            List::Issues(_) => store.issues().delete(&valid(id)).await,
            List::Relations => store.relations().delete(&valid(id)).await,
            // A comment that was replied to keeps its place.
            List::Signals | List::Comments | List::Versions | List::Reviews | List::EventsOfIssue | List::EventsOfProject => return false,
        }
        .unwrap();
        true
    }

    /// Changes a row. Whether that moved it.
    async fn change(&self, id: &str, how: u8) -> bool {
        match self.list {
            List::Issues(sort) => {
                let priorities = IssuePriority::ALL;
                let priority = priorities.get(usize::from(how)).copied();
                let before = self.store.issues().get(&valid(id)).await.unwrap();
                let patch = IssuePatch { priority, title: Some(valid(&format!("changed {how}"))), ..IssuePatch::default() };
                let after = self.store.issues().update(&valid(id), patch).await.unwrap();
                match sort {
                    IssueSort::UpdatedAsc | IssueSort::UpdatedDesc => true,
                    IssueSort::PriorityAsc | IssueSort::PriorityDesc => before.priority != after.priority,
                    _ => false,
                }
            }
            List::Versions => {
                self.store.versions().promote(&self.template.id, &valid(id)).await.unwrap();
                false
            }
            List::Comments if how < 4 => {
                self.store.comments().delete(&valid(id)).await.ok();
                false
            }
            _ => false,
        }
    }

    async fn page(&self, page: &PageRequest) -> Page<String> {
        fn ids<T>(page: Page<T>, id: impl Fn(&T) -> String) -> Page<String> {
            Page { data: page.data.iter().map(id).collect(), next_cursor: page.next_cursor, total: page.total }
        }
        let store = self.store;
        match self.list {
            List::Projects => ids(store.projects().list(&ProjectFilter::default(), page).await.unwrap(), |row| row.id.to_string()),
            List::Goals => ids(store.goals().list(&GoalFilter::default(), page).await.unwrap(), |row| row.id.to_string()),
            List::Labels => ids(store.labels().list(page).await.unwrap(), |row| row.id.to_string()),
            List::Templates => ids(store.templates().list(&TemplateFilter::default(), page).await.unwrap(), |row| row.id.to_string()),
            List::Keys => ids(store.api_keys().list(page).await.unwrap(), |row| row.id.to_string()),
            List::Signals => ids(store.signals().list(&SignalFilter::default(), page).await.unwrap(), |row| row.id.to_string()),
            List::Issues(sort) => {
                ids(store.issues().list(&IssueFilter::default().with_sort(sort), page).await.unwrap(), |row| row.id.to_string())
            }
            List::Comments => ids(store.comments().list(&self.issue, page).await.unwrap(), |row| row.comment.id.to_string()),
            List::Relations => ids(store.relations().list(&self.issue, page).await.unwrap(), |row| row.relation.id.to_string()),
            List::Versions => ids(store.versions().list(&self.template.id, page).await.unwrap(), |row| row.id.to_string()),
            List::Reviews => ids(store.reviews().list(&self.template.id, page).await.unwrap(), |row| row.id.to_string()),
            List::EventsOfIssue => ids(store.events().of_issue(&self.issue, page).await.unwrap(), |row| row.id.to_string()),
            List::EventsOfProject => ids(store.events().of_project(&self.project, page).await.unwrap(), |row| row.id.to_string()),
        }
    }

    /// All rows, in one page.
    async fn all(&self) -> Vec<String> {
        let page = self.page(&PageRequest::first().with_limit(limit_of(200))).await;
        assert_eq!(page.next_cursor, None);
        page.data
    }
}

async fn walk(walked: &Walked<'_>, limit: u8, rows: Vec<u8>, mut steps: impl Iterator<Item = Vec<Step>>) {
    for moment in rows {
        walked.insert(moment).await;
    }
    let mut living = walked.all().await;
    // What was there from the beginning to the end, in one place.
    let mut stayed: HashSet<String> = living.iter().cloned().collect();
    let mut moved: HashSet<String> = HashSet::new();
    let mut met: HashMap<String, u32> = HashMap::new();
    let mut request = PageRequest::first();
    loop {
        let page = walked.page(&request.with_limit(limit_of(limit))).await;
        for id in page.data {
            *met.entry(id).or_default() += 1;
        }
        let Some(cursor) = page.next_cursor else { break };
        request = PageRequest::after(Cursor::parse(&cursor).unwrap());
        for step in steps.next().unwrap_or_default() {
            match step {
                Step::Insert(moment) => living.push(walked.insert(moment).await),
                Step::Delete(row) if !living.is_empty() => {
                    let place = row.index(living.len());
                    if walked.delete(&living[place]).await {
                        stayed.remove(&living.swap_remove(place));
                    }
                }
                Step::Change(row, how) if !living.is_empty() => {
                    let id = &living[row.index(living.len())];
                    if walked.change(id, how).await {
                        stayed.remove(id);
                        moved.insert(id.clone());
                    }
                }
                Step::Delete(_) | Step::Change(..) => {}
            }
        }
    }
    let twice: BTreeMap<_, _> = met.iter().filter(|(id, times)| **times > 1 && !moved.contains(*id)).collect();
    assert!(twice.is_empty(), "met more than once: {twice:?}");
    let missed: Vec<_> = stayed.iter().filter(|id| !met.contains_key(*id)).collect();
    assert!(missed.is_empty(), "missed: {missed:?}");
    // And nobody moves them now.
    let again = crate::support::walk(limit, async |page| Ok(walked.page(&page).await)).await;
    assert_eq!(again, walked.all().await);
}

#[test]
fn nothing_is_met_twice_and_what_stayed_is_not_missed() {
    let inputs = (proptest::sample::select(&LISTS[..]), 1_u8..4, vec(0_u8..3, 0..9), vec(vec(step(), 0..4), 0..6));
    check_store(160, &inputs, async |store, (list, limit, rows, steps)| {
        let walked = Walked::new(store, list).await;
        walk(&walked, limit, rows, steps.into_iter()).await;
    });
}
