//! Whatever is added and promoted, versions are numbered without gaps, and exactly one of them is in use.

use loop_core::{LoopStore, VersionId, VersionStatus};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::check_store;
use crate::support::{Problem, everything, new_template, new_version, problem, valid};

#[derive(Debug, Clone)]
enum Step {
    Add,
    Promote(Index),
    /// A version of another template.
    PromoteForeign,
    /// Together in one transaction, which is rolled back.
    Undone(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Add),
        4 => any::<Index>().prop_map(Step::Promote),
        1 => Just(Step::PromoteForeign),
        1 => any::<Index>().prop_map(Step::Undone),
    ]
}

async fn run(store: &LoopStore, steps: Vec<Step>) {
    let new = |name: &str| loop_core::NewTemplate { name: valid(name), ..new_template(&format!("t{}", loop_core::IssueId::new())) };
    let template = store.templates().create(new("One")).await.unwrap();
    let other = store.templates().create(new("Other")).await.unwrap();
    let foreign = store.versions().create(&other.id, new_version("foreign")).await.unwrap();
    let mut model: Vec<(VersionId, VersionStatus)> = Vec::new();
    for step in steps {
        match step {
            Step::Add => {
                let version = store.versions().create(&template.id, new_version("content")).await.unwrap();
                let status = if model.is_empty() { VersionStatus::Active } else { VersionStatus::Draft };
                assert_eq!((usize::try_from(version.version).unwrap(), version.status), (model.len() + 1, status));
                model.push((version.id, status));
            }
            Step::Promote(index) if !model.is_empty() => {
                let place = index.index(model.len());
                let promoted = store.versions().promote(&template.id, &model[place].0).await.unwrap();
                assert_eq!((&promoted.id, promoted.status), (&model[place].0, VersionStatus::Active));
                for (_, status) in model.iter_mut().filter(|(_, status)| *status == VersionStatus::Active) {
                    *status = VersionStatus::Retired;
                }
                model[place].1 = VersionStatus::Active;
            }
            Step::PromoteForeign => {
                let promoted = store.versions().promote(&template.id, &foreign.id).await;
                assert!(matches!(problem(promoted), Problem::NotFound(..)));
            }
            Step::Undone(index) if !model.is_empty() => {
                let id = model[index.index(model.len())].0.clone();
                let undone: Result<(), _> = store
                    .transaction(async |tx| {
                        tx.versions().create(&template.id, new_version("undone")).await?;
                        tx.versions().promote(&template.id, &id).await?;
                        Err(loop_core::Error::MalformedCursor)
                    })
                    .await;
                assert_eq!(problem(undone), Problem::MalformedCursor);
            }
            Step::Promote(_) | Step::Undone(_) => {}
        }
        let mut stored = store.versions().list(&template.id, &everything()).await.unwrap().data;
        stored.sort_by_key(|version| version.version);
        let numbers: Vec<_> = stored.iter().map(|version| usize::try_from(version.version).unwrap()).collect();
        assert_eq!(numbers, (1..=model.len()).collect::<Vec<_>>());
        assert_eq!(stored.into_iter().map(|version| (version.id, version.status)).collect::<Vec<_>>(), model);
        let active = model.iter().find(|(_, status)| *status == VersionStatus::Active).map(|(id, _)| id.clone());
        assert_eq!(store.templates().get(&template.id).await.unwrap().active_version_id, active);
    }
    let detail = store.templates().detail(&other.id).await.unwrap();
    assert_eq!(detail.active_version.map(|version| version.id), Some(foreign.id));
}

#[test]
fn exactly_one_is_in_use() {
    check_store(40, &vec(step(), 1..20), run);
}
