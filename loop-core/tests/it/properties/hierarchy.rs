//! Whatever is done to issues and their parents, the hierarchy is one level deep, and what is refused is what would make it deeper.

use std::collections::BTreeMap;

use loop_core::{Error, IssueId, IssuePatch, LoopStore, NewIssue, Patch};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::check_store;
use crate::support::{new_issue, one};

#[derive(Debug, Clone)]
enum Step {
    Create(Option<Index>),
    /// Gives an issue a parent, or none.
    Move(Index, Option<Index>),
    Delete(Index),
    /// Something else, of an issue whose parent may be gone.
    Rename(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let some = any::<Index>;
    let maybe = || prop::option::weighted(0.8, any::<Index>());
    prop_oneof![
        3 => maybe().prop_map(Step::Create),
        4 => (some(), maybe()).prop_map(|(issue, parent)| Step::Move(issue, parent)),
        1 => some().prop_map(Step::Delete),
        1 => some().prop_map(Step::Rename),
    ]
}

/// What should be there: the living, and the parents they name, which may be deleted.
#[derive(Default)]
struct Model {
    living: BTreeMap<IssueId, Option<IssueId>>,
    deleted: Vec<IssueId>,
}

impl Model {
    /// One of all that ever were.
    fn any(&self, index: Index) -> Option<IssueId> {
        let all: Vec<_> = self.living.keys().chain(&self.deleted).collect();
        (!all.is_empty()).then(|| all[index.index(all.len())].clone())
    }

    /// Whether an issue may get this parent.
    fn allows(&self, issue: Option<&IssueId>, parent: &IssueId) -> bool {
        let Some(grandparent) = self.living.get(parent) else { return false };
        let has_children = issue.is_some_and(|issue| self.living.values().any(|parent| parent.as_ref() == Some(issue)));
        let is_child = grandparent.as_ref().is_some_and(|grandparent| self.living.contains_key(grandparent));
        issue != Some(parent) && !has_children && !is_child
    }
}

async fn run(store: &LoopStore, steps: Vec<Step>) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Create(parent) => {
                let parent = parent.and_then(|parent| model.any(parent));
                let created = store.issues().create(NewIssue { parent_id: parent.clone(), ..new_issue("Any") }).await;
                let allowed = parent.as_ref().is_none_or(|parent| model.allows(None, parent));
                assert_eq!(created.is_ok(), allowed, "{created:?}");
                if let Ok(created) = created {
                    model.living.insert(created.id, parent);
                }
            }
            Step::Move(issue, parent) => {
                let Some(issue) = model.any(issue) else { continue };
                let parent = parent.and_then(|parent| model.any(parent));
                let patch = IssuePatch { parent_id: parent.clone().map_or(Patch::Clear, Patch::Set), ..IssuePatch::default() };
                let moved = store.issues().update(&issue, patch).await;
                let Some(before) = model.living.get(&issue) else {
                    assert!(matches!(moved, Err(Error::NotFound { .. })), "{moved:?}");
                    continue;
                };
                // Even a parent that is gone may be named again by who has it.
                let allowed = parent.as_ref().is_none_or(|parent| before.as_ref() == Some(parent) || model.allows(Some(&issue), parent));
                assert_eq!(moved.is_ok(), allowed, "{before:?} to {parent:?}: {moved:?}");
                if allowed {
                    model.living.insert(issue, parent);
                }
            }
            Step::Delete(issue) => {
                let Some(issue) = model.any(issue) else { continue };
                let deleted = store.issues().delete(&issue).await;
                assert_eq!(deleted.is_ok(), model.living.remove(&issue).is_some());
                if deleted.is_ok() {
                    model.deleted.push(issue);
                }
            }
            Step::Rename(issue) => {
                let Some(issue) = model.any(issue) else { continue };
                let patch = IssuePatch { title: "Renamed".parse().ok(), ..IssuePatch::default() };
                assert_eq!(store.issues().update(&issue, patch).await.is_ok(), model.living.contains_key(&issue));
            }
        }
    }
    for (issue, parent) in &model.living {
        assert_eq!(&store.issues().get(issue).await.unwrap().parent_id, parent);
        let detail = store.issues().detail(issue).await.unwrap();
        assert_eq!(detail.parent.map(|parent| parent.id).as_ref(), parent.as_ref().filter(|parent| model.living.contains_key(*parent)));
    }
    let deep = "SELECT count(*) FROM issues AS a JOIN issues AS b ON b.id = a.parent_id JOIN issues AS c ON c.id = b.parent_id
                WHERE a.deleted_at IS NULL AND b.deleted_at IS NULL AND c.deleted_at IS NULL";
    assert_eq!(one(store, deep).await, "0");
}

#[test]
fn it_stays_one_level_deep() {
    check_store(60, &vec(step(), 1..30), run);
}
