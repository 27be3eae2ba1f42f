//! Goals.

use loop_core::{Entity, Goal, GoalFilter, GoalId, GoalPatch, GoalStatus, LoopStore, NewGoal, ProjectId, test_util::TestDb};

use crate::support::{
    change, check_changes, deleted_project, everything, goal, invalid, not_found, nullables, problem, project, sets, valid,
    wrong_references,
};

async fn full(store: &LoopStore) -> (NewGoal, Goal) {
    let new = NewGoal {
        title: valid("Twice as fast"),
        description: Some(valid("p95")),
        metric: Some(valid("latency")),
        target_value: Some(0.1 + 0.2),
        current_value: Some(-1.5e-300),
        unit: Some(valid("ms")),
        status: GoalStatus::Achieved,
        project_id: Some(project(store, "Shop").await.id),
    };
    (new.clone(), store.goals().create(new).await.unwrap())
}

#[tokio::test]
async fn every_field_comes_back() {
    let db = TestDb::new().await;
    let store = db.store();
    let (new, created) = full(store).await;
    let Goal { id, created_at, .. } = created.clone();
    let NewGoal { title, description, metric, target_value, current_value, unit, status, project_id } = new;
    let expected = Goal {
        id,
        title,
        description,
        metric,
        target_value,
        current_value,
        unit,
        status,
        project_id,
        created_at,
        updated_at: created_at,
        deleted_at: None,
        revision: 1,
    };
    assert_eq!(created, expected);
    assert_eq!(store.goals().get(&created.id).await.unwrap(), expected);
    assert_eq!(store.goals().list(&GoalFilter::default(), &everything()).await.unwrap().data, [expected]);

    let bare = goal(store, "Bare").await;
    assert_eq!((bare.status, bare.target_value, bare.current_value), (GoalStatus::Active, None, None));
    assert_eq!((bare.description, bare.metric, bare.unit, bare.project_id), (None, None, None, None));
}

#[tokio::test]
async fn unknown_and_deleted_goals_are_not_found() {
    let db = TestDb::new().await;
    let goals = db.store().goals();
    let gone = goal(db.store(), "Gone").await;
    goals.delete(&gone.id).await.unwrap();
    for id in [GoalId::new(), gone.id] {
        let missing = || not_found(Entity::Goal, &id);
        assert_eq!(problem(goals.get(&id).await), missing());
        assert_eq!(problem(goals.update(&id, GoalPatch::default()).await), missing());
        assert_eq!(problem(goals.delete(&id).await), missing());
    }
    let page = goals.list(&GoalFilter::default(), &everything()).await.unwrap();
    assert_eq!((page.data, page.total), (vec![], Some(0)));
}

#[tokio::test]
async fn each_field_is_kept_cleared_or_set() {
    let db = TestDb::new().await;
    let store = db.store();
    let (_, full) = full(store).await;
    let id = full.id.clone();
    let nullable =
        |like: Option<&Goal>| nullables!(GoalPatch to Goal like like; description, metric, target_value, current_value, unit, project_id);
    let mut changes = sets!(GoalPatch to Goal: title = valid("New"), status = GoalStatus::Abandoned);
    changes.push(change("nothing", GoalPatch::default(), |_| {}));
    changes.extend(nullable(None));
    changes.extend(nullable(Some(&full)));
    let update = async |patch| store.goals().update(&id, patch).await;
    check_changes(full, changes, |goal| (&mut goal.updated_at, &mut goal.revision), update, async || store.goals().get(&id).await).await;
}

#[tokio::test]
async fn each_filter_alone_and_all_together() {
    let db = TestDb::new().await;
    let store = db.store();
    let (_, full) = full(store).await;
    let plain = goal(store, "Plain").await;
    store.raw("UPDATE goals SET created_at = CASE title WHEN 'Plain' THEN '2026-01-01' ELSE '2026-01-02' END::timestamptz").await.unwrap();
    let filter = GoalFilter::default;
    let shop = full.project_id.clone().unwrap();
    for (filter, expected) in [
        (filter(), vec![&full.id, &plain.id]),
        (filter().with_status([]), vec![&full.id, &plain.id]),
        (filter().with_status([GoalStatus::Achieved]), vec![&full.id]),
        (filter().with_status([GoalStatus::Achieved, GoalStatus::Active]), vec![&full.id, &plain.id]),
        (filter().with_project(shop.clone()), vec![&full.id]),
        (filter().with_project(ProjectId::new()), vec![]),
        (filter().with_project(shop.clone()).with_status([GoalStatus::Achieved]), vec![&full.id]),
        (filter().with_project(shop).with_status([GoalStatus::Active]), vec![]),
    ] {
        let page = store.goals().list(&filter, &everything()).await.unwrap();
        assert_eq!(page.data.iter().map(|goal| &goal.id).collect::<Vec<_>>(), expected, "{filter:?}");
        assert_eq!(page.total, Some(i64::try_from(expected.len()).unwrap()), "{filter:?}");
    }
}

#[tokio::test]
async fn a_project_must_be_there() {
    let db = TestDb::new().await;
    let store = db.store();
    let target = goal(store, "Goal").await;
    for project in [ProjectId::new(), deleted_project(store).await] {
        let wrong = || wrong_references(Entity::Goal, &["projectId"]);
        let new = NewGoal { project_id: Some(project.clone()), ..NewGoal::titled(valid("New")) };
        assert_eq!(problem(store.goals().create(new).await), wrong());
        let patch = GoalPatch { title: Some(valid("Changed")), project_id: project.into(), ..GoalPatch::default() };
        assert_eq!(problem(store.goals().update(&target.id, patch).await), wrong());
    }
    assert_eq!(store.goals().list(&GoalFilter::default(), &everything()).await.unwrap().data, [target]);
}

#[tokio::test]
async fn values_are_finite() {
    let db = TestDb::new().await;
    let store = db.store();
    let target = goal(store, "Goal").await;
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let new = NewGoal { target_value: Some(number), ..NewGoal::titled(valid("New")) };
        assert_eq!(problem(store.goals().create(new).await), invalid("targetValue"));
        let patch = GoalPatch { current_value: number.into(), ..GoalPatch::default() };
        assert_eq!(problem(store.goals().update(&target.id, patch).await), invalid("currentValue"));
    }
    let patch = GoalPatch { current_value: f64::MAX.into(), target_value: f64::MIN.into(), ..GoalPatch::default() };
    store.goals().update(&target.id, patch).await.unwrap();
}
