//! Projects.

use loop_core::{
    Entity, GoalId, IssueStatus, LoopStore, NewIssue, NewProject, Patch, Project, ProjectFilter, ProjectHealth, ProjectId, ProjectPatch,
    ProjectStatus, test_util::TestDb,
};

use crate::support::{
    change, check_changes, deleted_project, everything, goal, issue, new_issue, not_found, nullables, problem, project, sets, valid,
    wrong_references,
};

async fn full(store: &LoopStore) -> (NewProject, Project) {
    let new = NewProject {
        name: valid("Shop"),
        description: Some(valid("Sells\nthings")),
        status: ProjectStatus::Active,
        health: ProjectHealth::AtRisk,
        goal_id: Some(goal(store, "Faster").await.id),
    };
    (new.clone(), store.projects().create(new).await.unwrap())
}

#[tokio::test]
async fn every_field_comes_back() {
    let db = TestDb::new().await;
    let store = db.store();
    let (new, created) = full(store).await;
    let Project { id, created_at, .. } = created.clone();
    let NewProject { name, description, status, health, goal_id } = new;
    let expected =
        Project { id, name, description, status, health, goal_id, created_at, updated_at: created_at, deleted_at: None, revision: 1 };
    assert_eq!(created, expected);
    assert_eq!(store.projects().get(&created.id).await.unwrap(), expected);
    assert_eq!(store.projects().list(&ProjectFilter::default(), &everything()).await.unwrap().data, [expected]);

    let bare = project(store, &"ü".repeat(500)).await;
    let defaults = (ProjectStatus::Backlog, ProjectHealth::OnTrack, None, None);
    assert_eq!((bare.status, bare.health, bare.goal_id, bare.description), defaults);
}

#[tokio::test]
async fn unknown_and_deleted_projects_are_not_found() {
    let db = TestDb::new().await;
    let projects = db.store().projects();
    for id in [ProjectId::new(), deleted_project(db.store()).await] {
        let missing = || not_found(Entity::Project, &id);
        assert_eq!(problem(projects.get(&id).await), missing());
        assert_eq!(problem(projects.detail(&id).await), missing());
        assert_eq!(problem(projects.update(&id, ProjectPatch::default()).await), missing());
        assert_eq!(problem(projects.delete(&id).await), missing());
    }
    let page = projects.list(&ProjectFilter::default(), &everything()).await.unwrap();
    assert_eq!((page.data, page.total), (vec![], Some(0)));
}

#[tokio::test]
async fn each_field_is_kept_cleared_or_set() {
    let db = TestDb::new().await;
    let store = db.store();
    let (_, full) = full(store).await;
    let id = full.id.clone();
    let mut changes =
        sets!(ProjectPatch to Project: name = valid("New"), status = ProjectStatus::Canceled, health = ProjectHealth::OffTrack);
    changes.push(change("nothing", ProjectPatch::default(), |_| {}));
    changes.extend(nullables!(ProjectPatch to Project like None; description, goal_id));
    changes.extend(nullables!(ProjectPatch to Project like Some(&full); description, goal_id));
    let update = async |patch| store.projects().update(&id, patch).await;
    check_changes(
        full,
        changes,
        |project| (&mut project.updated_at, &mut project.revision),
        update,
        async || store.projects().get(&id).await,
    )
    .await;
}

#[tokio::test]
async fn each_filter_alone_and_all_together() {
    let db = TestDb::new().await;
    let store = db.store();
    let (_, full) = full(store).await;
    let plain = project(store, "Plain").await;
    let paused = NewProject { status: ProjectStatus::Paused, ..NewProject::named(valid("Paused")) };
    let paused = store.projects().create(paused).await.unwrap();
    store.raw("UPDATE projects SET created_at = '2026-01-01'::date + length(name)").await.unwrap();

    let filter = ProjectFilter::default;
    let goal = full.goal_id.clone().unwrap();
    for (filter, expected) in [
        (filter(), vec![&paused, &plain, &full]),
        (filter().with_status([]).with_health([]), vec![&paused, &plain, &full]),
        (filter().with_status([ProjectStatus::Active]), vec![&full]),
        (filter().with_status([ProjectStatus::Active, ProjectStatus::Paused]), vec![&paused, &full]),
        (filter().with_health([ProjectHealth::OnTrack]), vec![&paused, &plain]),
        (filter().with_goal(goal.clone()), vec![&full]),
        (filter().with_goal(GoalId::new()), vec![]),
        (filter().with_status([ProjectStatus::Active]).with_health([ProjectHealth::AtRisk]).with_goal(goal.clone()), vec![&full]),
        (filter().with_status([ProjectStatus::Paused]).with_goal(goal), vec![]),
    ] {
        let page = store.projects().list(&filter, &everything()).await.unwrap();
        let ids: Vec<_> = page.data.iter().map(|project| &project.id).collect();
        assert_eq!(ids, expected.iter().map(|project| &project.id).collect::<Vec<_>>(), "{filter:?}");
        assert_eq!(page.total, Some(i64::try_from(expected.len()).unwrap()), "{filter:?}");
    }
}

#[tokio::test]
async fn a_goal_must_be_there() {
    let db = TestDb::new().await;
    let store = db.store();
    let gone = goal(store, "Gone").await;
    store.goals().delete(&gone.id).await.unwrap();
    let target = project(store, "Shop").await;
    for goal in [GoalId::new(), gone.id] {
        let wrong = || wrong_references(Entity::Project, &["goalId"]);
        let new = NewProject { goal_id: Some(goal.clone()), ..NewProject::named(valid("New")) };
        assert_eq!(problem(store.projects().create(new).await), wrong());
        let patch = ProjectPatch { name: Some(valid("Changed")), goal_id: goal.into(), ..ProjectPatch::default() };
        assert_eq!(problem(store.projects().update(&target.id, patch).await), wrong());
    }
    assert_eq!(store.projects().list(&ProjectFilter::default(), &everything()).await.unwrap().data, [target]);
}

#[tokio::test]
async fn the_detail_has_the_goal_and_counts_the_issues() {
    let db = TestDb::new().await;
    let store = db.store();
    let (_, shop) = full(store).await;
    let goal_id = shop.goal_id.clone().unwrap();
    let other = project(store, "Other").await;
    let create = async |project: &ProjectId, status| {
        store.issues().create(NewIssue { project_id: Some(project.clone()), status, ..new_issue("Issue") }).await.unwrap()
    };
    for (index, status) in IssueStatus::ALL.iter().enumerate() {
        for _ in 0..index {
            create(&shop.id, *status).await;
        }
    }
    create(&other.id, IssueStatus::Triage).await;
    issue(store, "Nobody's").await;
    let gone = create(&shop.id, IssueStatus::Triage).await;
    store.issues().delete(&gone.id).await.unwrap();

    let detail = store.projects().detail(&shop.id).await.unwrap();
    assert_eq!(detail.project, shop);
    assert_eq!(detail.goal, Some(store.goals().get(&goal_id).await.unwrap()));
    assert_eq!(IssueStatus::ALL.iter().map(|status| detail.issue_counts.get(*status)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);

    store.goals().delete(&goal_id).await.unwrap();
    let detail = store.projects().detail(&shop.id).await.unwrap();
    assert_eq!((detail.project.goal_id, detail.goal), (Some(goal_id), None), "a deleted goal is not shown");
}

#[tokio::test]
async fn what_belongs_to_a_deleted_project_stays() {
    let db = TestDb::new().await;
    let store = db.store();
    let shop = project(store, "Shop").await;
    let inside = store.issues().create(NewIssue { project_id: Some(shop.id.clone()), ..new_issue("Inside") }).await.unwrap();
    store.projects().delete(&shop.id).await.unwrap();
    assert_eq!(store.issues().get(&inside.id).await.unwrap(), inside);
    let out = loop_core::IssuePatch { project_id: Patch::Clear, ..loop_core::IssuePatch::default() };
    assert_eq!(store.issues().update(&inside.id, out).await.unwrap().project_id, None);
}
