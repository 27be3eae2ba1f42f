//! What holds for issues whoever writes them: completion, the hierarchy, labels, and what is shown around an issue.

use loop_core::{
    Entity, Issue, IssueFilter, IssuePatch, IssueStatus, NewIssue, NewRelation, Patch, RelationDirection, RelationType, test_util::TestDb,
};

use crate::support::{
    child, comment, everything, invalid, issue, label, new_comment, new_issue, not_found, problem, project, valid, wrong_references,
};

fn status(status: IssueStatus) -> IssuePatch {
    IssuePatch { status: Some(status), ..IssuePatch::default() }
}

fn parent(issue: &Issue) -> IssuePatch {
    IssuePatch { parent_id: issue.id.clone().into(), ..IssuePatch::default() }
}

#[tokio::test]
async fn completion_is_marked_kept_and_cleared() {
    let db = TestDb::new().await;
    let issues = db.store().issues();
    for kind in IssueStatus::ALL {
        let created = issues.create(NewIssue { status: *kind, ..new_issue("New") }).await.unwrap();
        assert_eq!(created.completed_at, kind.is_completed().then_some(created.created_at), "created as {kind}");
    }

    let id = issue(db.store(), "Work").await.id;
    let resolved = issues.update(&id, status(IssueStatus::Resolved)).await.unwrap();
    assert_eq!(resolved.completed_at, Some(resolved.updated_at));
    db.store().raw("UPDATE issues SET completed_at = '2026-01-01T00:00:00Z' WHERE completed_at IS NOT NULL").await.unwrap();
    for (to, completed) in [
        (IssueStatus::Resolved, true),
        (IssueStatus::Closed, true),
        (IssueStatus::Resolved, true),
        (IssueStatus::Open, false),
        (IssueStatus::InProgress, false),
    ] {
        let moved = issues.update(&id, status(to)).await.unwrap();
        assert_eq!(
            moved.completed_at.map(|time| time.to_string()),
            completed.then(|| "2026-01-01T00:00:00.000Z".to_owned()),
            "moved to {to}"
        );
        let other = issues.update(&id, IssuePatch { title: Some(valid("Other")), ..IssuePatch::default() }).await.unwrap();
        assert_eq!(other.completed_at, moved.completed_at, "another field was changed");
    }
    let again = issues.update(&id, status(IssueStatus::Closed)).await.unwrap();
    assert_eq!(again.completed_at, Some(again.updated_at));
}

#[tokio::test]
async fn the_hierarchy_is_one_level_deep() {
    let db = TestDb::new().await;
    let store = db.store();
    let top = issue(store, "Top").await;
    let part = child(store, &top.id, "Part").await;
    let other = issue(store, "Other").await;

    let grandchild = NewIssue { parent_id: Some(part.id.clone()), ..new_issue("Grandchild") };
    assert_eq!(problem(store.issues().create(grandchild).await), invalid("parentId"));
    for (target, new_parent, why) in [
        (&other, &part, "the parent has a parent"),
        (&top, &other, "the issue has children"),
        (&top, &part, "its own child"),
        (&other, &other, "itself"),
        (&part, &part, "itself, as a child"),
    ] {
        assert_eq!(problem(store.issues().update(&target.id, parent(new_parent)).await), invalid("parentId"), "{why}");
    }
    for unchanged in [&top, &part, &other] {
        assert_eq!(store.issues().get(&unchanged.id).await.unwrap(), *unchanged);
    }
    // Writing the parent it has is no change.
    assert_eq!(store.issues().update(&part.id, parent(&top)).await.unwrap().parent_id, Some(top.id.clone()));
    // A part that is set free can be a parent, and its former parent a part of it.
    store.issues().update(&part.id, IssuePatch { parent_id: Patch::Clear, ..IssuePatch::default() }).await.unwrap();
    assert_eq!(store.issues().update(&top.id, parent(&part)).await.unwrap().parent_id, Some(part.id));
}

#[tokio::test]
async fn deleted_issues_do_not_count_in_the_hierarchy() {
    let db = TestDb::new().await;
    let store = db.store();
    let (top, other) = (issue(store, "Top").await, issue(store, "Other").await);
    let part = child(store, &top.id, "Part").await;

    // Without its only child, an issue can become a child.
    store.issues().delete(&part.id).await.unwrap();
    store.issues().update(&top.id, parent(&other)).await.unwrap();
    store.issues().update(&top.id, IssuePatch { parent_id: Patch::Clear, ..IssuePatch::default() }).await.unwrap();

    // Without its parent, an issue can be changed, be a parent, and get another parent, but not the deleted one anew.
    let orphan = child(store, &top.id, "Orphan").await;
    store.issues().delete(&top.id).await.unwrap();
    let renamed = IssuePatch { title: Some(valid("Renamed")), ..IssuePatch::default() };
    let renamed = store.issues().update(&orphan.id, renamed).await.unwrap();
    assert_eq!((renamed.title.as_str(), &renamed.parent_id), ("Renamed", &Some(top.id.clone())));
    assert_eq!(problem(store.issues().update(&other.id, parent(&top)).await), wrong_references(Entity::Issue, &["parentId"]));
    let detail = store.issues().detail(&orphan.id).await.unwrap();
    assert_eq!((detail.issue, detail.parent), (renamed, None));
    let below = child(store, &orphan.id, "Below").await;
    store.issues().delete(&below.id).await.unwrap();
    assert_eq!(store.issues().update(&orphan.id, parent(&other)).await.unwrap().parent_id, Some(other.id));
}

#[tokio::test]
async fn the_detail_holds_everything_around_an_issue() {
    let db = TestDb::new().await;
    let store = db.store();
    let shop = project(store, "Shop").await;
    let labels = [label(store, "beta").await, label(store, "Alpha").await];
    let new = NewIssue {
        project_id: Some(shop.id.clone()),
        signal_payload: Some(valid(r#"{"a": 1}"#)),
        label_ids: labels.iter().map(|label| label.id.clone()).collect(),
        ..new_issue("Top")
    };
    let top = store.issues().create(new).await.unwrap();
    let mut parts = [child(store, &top.id, "First").await, child(store, &top.id, "Second").await];
    let gone = child(store, &top.id, "Deleted").await;
    let (other, third) = (issue(store, "Other").await, issue(store, "Third").await);
    let relate = |kind, to: &Issue| NewRelation { kind, related_issue_id: to.id.clone() };
    let incoming = store.relations().create(&third.id, relate(RelationType::Duplicate, &top)).await.unwrap();
    let outgoing = store.relations().create(&top.id, relate(RelationType::Blocks, &other)).await.unwrap();
    store.relations().create(&top.id, relate(RelationType::Related, &gone)).await.unwrap();
    store.issues().delete(&gone.id).await.unwrap();
    // What was changed last is not shown last.
    let renamed = IssuePatch { title: Some(valid("Renamed")), ..IssuePatch::default() };
    parts[0] = store.issues().update(&parts[0].id, renamed).await.unwrap();

    let detail = store.issues().detail(&top.id).await.unwrap();
    assert_eq!((&detail.issue, &detail.parent, detail.project.as_ref()), (&top, &None, Some(&shop)));
    assert_eq!(detail.children, parts);
    assert_eq!(detail.labels, [labels[1].clone(), labels[0].clone()], "by name");
    let seen: Vec<_> = detail.relations.iter().map(|view| (&view.relation, view.direction, &view.issue)).collect();
    let mut oldest_first = [(&outgoing, RelationDirection::Outgoing, &other), (&incoming, RelationDirection::Incoming, &third)];
    // Both may be of the same millisecond, where the id decides.
    oldest_first.sort_by_key(|(relation, ..)| (relation.created_at, &relation.id));
    assert_eq!(seen, oldest_first);

    let part = store.issues().detail(&parts[0].id).await.unwrap();
    assert_eq!(part.parent, Some(Issue { signal_payload: None, ..top.clone() }));
    assert_eq!((part.children, part.labels, part.relations, part.project), (vec![], vec![], vec![], None));

    store.projects().delete(&shop.id).await.unwrap();
    assert_eq!(store.issues().detail(&top.id).await.unwrap().project, None, "a deleted project is not shown");
}

#[tokio::test]
async fn labels_are_replaced_as_a_whole() {
    let db = TestDb::new().await;
    let store = db.store();
    let [a, b, c] = [label(store, "a").await, label(store, "b").await, label(store, "c").await];
    let id = store.issues().create(NewIssue { label_ids: vec![a.id.clone(), b.id.clone()], ..new_issue("Labelled") }).await.unwrap().id;
    let labels = async || store.labels().of_issue(&id).await.unwrap();
    let replace = async |label_ids| store.issues().update(&id, IssuePatch { label_ids, ..IssuePatch::default() }).await.unwrap();

    replace(None).await;
    assert_eq!(labels().await, [a.clone(), b.clone()]);
    replace(Some(vec![c.id.clone(), b.id.clone(), c.id.clone()])).await;
    assert_eq!(labels().await, [b.clone(), c.clone()]);
    replace(Some(vec![])).await;
    assert_eq!(labels().await, []);
    replace(Some(vec![a.id.clone(), c.id.clone()])).await;
    store.labels().delete(&c.id).await.unwrap();
    assert_eq!(labels().await, std::slice::from_ref(&a), "a deleted label is taken off");
    assert_eq!(store.issues().detail(&id).await.unwrap().labels, [a]);
}

#[tokio::test]
async fn a_deleted_issue_is_hidden_everywhere() {
    let db = TestDb::new().await;
    let store = db.store();
    let (kept, gone) = (issue(store, "Kept").await, issue(store, "Gone").await);
    let tag = label(store, "tag").await;
    store.labels().attach(&gone.id, &tag.id).await.unwrap();
    let said = comment(store, &gone.id, "Said").await;
    let relation = NewRelation { kind: RelationType::Related, related_issue_id: gone.id.clone() };
    let relation = store.relations().create(&kept.id, relation).await.unwrap();
    store.issues().delete(&gone.id).await.unwrap();

    let missing = || not_found(Entity::Issue, &gone.id);
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().data, std::slice::from_ref(&kept));
    assert_eq!(store.labels().of_issue(&gone.id).await.unwrap(), []);
    assert_eq!(problem(store.labels().attach(&gone.id, &tag.id).await), missing());
    assert_eq!(problem(store.comments().list(&gone.id, &everything()).await), missing());
    assert_eq!(problem(store.comments().get(&said.id).await), not_found(Entity::Comment, &said.id));
    assert_eq!(problem(store.comments().create(&gone.id, new_comment("More")).await), missing());
    assert_eq!(problem(store.relations().list(&gone.id, &everything()).await), missing());
    let of_kept = store.relations().list(&kept.id, &everything()).await.unwrap();
    assert_eq!((of_kept.data, of_kept.total), (vec![], Some(0)));
    assert_eq!(problem(store.relations().delete(&relation.id).await), not_found(Entity::Relation, &relation.id));
}

#[tokio::test]
async fn a_reference_that_is_there_already_may_be_written_again() {
    let db = TestDb::new().await;
    let store = db.store();
    let (parent, project) = (issue(store, "Parent").await.id, project(store, "Project").await.id);
    let part = NewIssue { parent_id: Some(parent.clone()), project_id: Some(project.clone()), ..new_issue("Part") };
    let part = store.issues().create(part).await.unwrap().id;
    store.issues().delete(&parent).await.unwrap();
    store.projects().delete(&project).await.unwrap();
    let same = IssuePatch { parent_id: parent.clone().into(), project_id: project.clone().into(), ..IssuePatch::default() };
    let written = store.issues().update(&part, same.clone()).await.unwrap();
    assert_eq!((written.parent_id, written.project_id), (Some(parent), Some(project)));
    let other = issue(store, "Other").await.id;
    assert_eq!(problem(store.issues().update(&other, same).await), wrong_references(Entity::Issue, &["parentId", "projectId"]));
}
