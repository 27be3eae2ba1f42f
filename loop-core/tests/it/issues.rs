//! Issues: every field there and back, each change, each wrong reference.

use loop_core::{
    Commit, Entity, Hypothesis, Issue, IssueFilter, IssueId, IssuePatch, IssuePriority, IssueStatus, IssueType, LabelId, NewIssue, Patch,
    ProjectId, PullRequest, test_util::TestDb,
};

use crate::support::{
    Change, at, change, check_changes, child, deleted_issue, deleted_project, everything, issue, label, new_issue, not_found, nullables,
    problem, project, sets, to, valid, wrong_references,
};

fn hypothesis(statement: &str) -> Hypothesis {
    Hypothesis {
        statement: valid(statement),
        confidence: 0.75.try_into().unwrap(),
        evidence: vec![valid("p95 doubled"), valid("")],
        validation_criteria: valid("p95 below 200 ms"),
        prediction: Some(valid("fewer timeouts")),
    }
}

fn commits() -> Vec<Commit> {
    vec![
        Commit {
            sha: valid("1f3a"),
            message: valid("Add the index"),
            url: Some(valid("https://example.test/1f3a")),
            author: Some(valid("Ada")),
            timestamp: Some(at("2026-02-03T04:05:06.789Z")),
        },
        Commit { sha: valid("2b"), message: valid(""), url: None, author: None, timestamp: None },
    ]
}

fn pull_requests() -> Vec<PullRequest> {
    vec![PullRequest {
        number: u32::MAX,
        title: valid("Index"),
        url: Some(valid("https://example.test/pull/7")),
        state: Some(valid("merged")),
        merged_at: Some(at("2026-02-03T04:05:06.000Z")),
    }]
}

fn full(project: &ProjectId, parent: &IssueId, labels: &[LabelId]) -> NewIssue {
    NewIssue {
        title: valid("Checkout is slow 🐌"),
        description: Some(valid("Since the release.\r\n\t\"quoted\" \\ 'single'")),
        kind: IssueType::Hypothesis,
        status: IssueStatus::InProgress,
        priority: IssuePriority::Critical,
        parent_id: Some(parent.clone()),
        project_id: Some(project.clone()),
        signal_source: Some(valid("posthog")),
        signal_payload: Some(valid(r#"{"metric": "p95", "nested": {"list": [1, 2.50, null, true, "ü"]}}"#)),
        hypothesis: Some(hypothesis("The index is missing")),
        agent_session_id: Some(valid("session-1")),
        agent_summary: Some(valid("Added it")),
        commits: Some(commits()),
        pull_requests: Some(pull_requests()),
        label_ids: labels.to_vec(),
    }
}

#[tokio::test]
async fn every_field_comes_back() {
    let db = TestDb::new().await;
    let store = db.store();
    let (project, parent) = (project(store, "Shop").await, issue(store, "Parent").await);
    let labels = [label(store, "slow").await, label(store, "Checkout").await];
    let new = full(&project.id, &parent.id, &[labels[0].id.clone(), labels[1].id.clone(), labels[0].id.clone()]);

    let created = store.issues().create(new.clone()).await.unwrap();
    let expected = Issue {
        id: created.id.clone(),
        number: parent.number + 1,
        title: new.title,
        description: new.description,
        kind: new.kind,
        status: new.status,
        priority: new.priority,
        parent_id: new.parent_id,
        project_id: new.project_id,
        signal_source: new.signal_source,
        signal_payload: new.signal_payload,
        hypothesis: new.hypothesis,
        agent_session_id: new.agent_session_id,
        agent_summary: new.agent_summary,
        commits: new.commits,
        pull_requests: new.pull_requests,
        completed_at: None,
        created_at: created.created_at,
        updated_at: created.created_at,
        deleted_at: None,
        signal_count: 0,
        signal_severity: None,
        last_signal_at: None,
        revision: 1,
    };
    assert_eq!(created, expected);
    assert_eq!(store.issues().get(&created.id).await.unwrap(), expected);
    let [checkout, slow] = [labels[1].clone(), labels[0].clone()];
    assert_eq!(store.labels().of_issue(&created.id).await.unwrap(), [checkout, slow]);

    let listed = store.issues().list(&IssueFilter::default().with_parent(parent.id), &everything()).await.unwrap();
    assert_eq!(listed.data, [Issue { signal_payload: None, ..expected }], "lists carry no payload");
}

#[tokio::test]
async fn a_title_is_enough() {
    let db = TestDb::new().await;
    let issue = issue(db.store(), &"x".repeat(500)).await;
    assert_eq!((issue.kind, issue.status, issue.priority), (IssueType::Task, IssueStatus::Open, IssuePriority::Medium));
    let nothing = (&issue.description, &issue.parent_id, &issue.project_id, &issue.signal_source, &issue.signal_payload, &issue.hypothesis);
    assert_eq!(nothing, (&None, &None, &None, &None, &None, &None));
    assert_eq!((&issue.agent_session_id, &issue.agent_summary, &issue.commits, &issue.pull_requests), (&None, &None, &None, &None));
    assert_eq!((issue.completed_at, issue.deleted_at, issue.updated_at), (None, None, issue.created_at));
    assert!(db.store().labels().of_issue(&issue.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn unknown_and_deleted_issues_are_not_found() {
    let db = TestDb::new().await;
    let store = db.store();
    let gone = issue(store, "Deleted").await;
    store.issues().delete(&gone.id).await.unwrap();
    for id in [IssueId::new(), gone.id] {
        let missing = || not_found(Entity::Issue, &id);
        assert_eq!(problem(store.issues().get(&id).await), missing());
        assert_eq!(problem(store.issues().detail(&id).await), missing());
        assert_eq!(problem(store.issues().update(&id, IssuePatch::default()).await), missing());
        assert_eq!(problem(store.issues().delete(&id).await), missing());
        // That the row is not there comes before any complaint about fields.
        let wrong = IssuePatch { project_id: ProjectId::new().into(), ..IssuePatch::default() };
        assert_eq!(problem(store.issues().update(&id, wrong).await), missing());
    }
    assert_eq!(store.issues().find_by_number(gone.number).await.unwrap(), None);
    assert_eq!(store.issues().find_by_number(i64::MAX).await.unwrap(), None);
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(0));
}

#[tokio::test]
async fn an_issue_is_found_by_its_number() {
    let db = TestDb::new().await;
    let (first, second) = (issue(db.store(), "First").await, issue(db.store(), "Second").await);
    assert_eq!(second.number, first.number + 1);
    assert_eq!(db.store().issues().find_by_number(first.number).await.unwrap(), Some(first.id));
    assert_eq!(db.store().issues().find_by_number(second.number).await.unwrap(), Some(second.id));
}

/// A change of each field that can be null.
fn nullable(full: Option<&Issue>) -> Vec<Change<IssuePatch, Issue>> {
    nullables!(IssuePatch to Issue like full; description, parent_id, project_id, signal_source, signal_payload, hypothesis,
        agent_session_id, agent_summary, commits, pull_requests)
}

#[tokio::test]
async fn each_field_is_kept_cleared_or_set() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, parent) = (project(store, "Shop").await, issue(store, "Parent").await);
    let full = store.issues().create(full(&shop.id, &parent.id, &[])).await.unwrap();

    let mut changes = sets!(IssuePatch to Issue: title = valid("New"), kind = IssueType::Bug, status = IssueStatus::Triage,
        priority = IssuePriority::Low);
    changes.push(change("nothing", IssuePatch::default(), |_| {}));
    changes.extend(nullable(None));
    changes.extend(nullable(Some(&full)));
    let id = full.id.clone();
    let update = async |patch| store.issues().update(&id, patch).await;
    check_changes(full, changes, |issue| (&mut issue.updated_at, &mut issue.revision), update, async || store.issues().get(&id).await)
        .await;
}

#[tokio::test]
async fn all_fields_are_changed_at_once() {
    let db = TestDb::new().await;
    let store = db.store();
    let (shop, parent, label) = (project(store, "Shop").await, issue(store, "Parent").await, label(store, "slow").await);
    let target = issue(store, "Bare").await;
    let new = full(&shop.id, &parent.id, &[]);
    let patch = IssuePatch {
        title: Some(new.title.clone()),
        description: to(new.description.as_ref()),
        kind: Some(new.kind),
        status: Some(new.status),
        priority: Some(new.priority),
        parent_id: to(new.parent_id.as_ref()),
        project_id: to(new.project_id.as_ref()),
        signal_source: to(new.signal_source.as_ref()),
        signal_payload: to(new.signal_payload.as_ref()),
        hypothesis: to(new.hypothesis.as_ref()),
        agent_session_id: to(new.agent_session_id.as_ref()),
        agent_summary: to(new.agent_summary.as_ref()),
        commits: to(new.commits.as_ref()),
        pull_requests: to(new.pull_requests.as_ref()),
        label_ids: Some(vec![label.id.clone()]),
    };
    let updated = store.issues().update(&target.id, patch).await.unwrap();
    let twin = store.issues().create(new).await.unwrap();
    let Issue { id, number, created_at, updated_at, .. } = updated.clone();
    assert_eq!(updated, Issue { id, number, created_at, updated_at, revision: 2, ..twin });
    assert_eq!(store.labels().of_issue(&target.id).await.unwrap(), [label]);
}

#[tokio::test]
async fn every_wrong_reference_is_named_and_nothing_is_written() {
    let db = TestDb::new().await;
    let store = db.store();
    let (good, bystander) = (label(store, "good").await, issue(store, "Bystander").await);
    store.labels().attach(&bystander.id, &good.id).await.unwrap();
    let bystander = store.issues().get(&bystander.id).await.unwrap();
    let deleted_label = label(store, "deleted").await;
    store.labels().delete(&deleted_label.id).await.unwrap();
    let parents = [IssueId::new(), deleted_issue(store).await];
    let projects = [ProjectId::new(), deleted_project(store).await];
    let labels = [LabelId::new(), deleted_label.id];

    let all = ["parentId", "projectId", "labelIds"];
    for case in 0..2 {
        for wrong in [&all[..1], &all[1..2], &all[2..], &all[..2], &all[1..], &all[..]] {
            let parent = wrong.contains(&"parentId").then(|| parents[case].clone());
            let project = wrong.contains(&"projectId").then(|| projects[case].clone());
            let mut label_ids = vec![good.id.clone()];
            label_ids.extend(wrong.contains(&"labelIds").then(|| labels[case].clone()));

            let new = NewIssue { parent_id: parent.clone(), project_id: project.clone(), label_ids: label_ids.clone(), ..new_issue("New") };
            assert_eq!(problem(store.issues().create(new).await), wrong_references(Entity::Issue, wrong));
            let patch = IssuePatch {
                title: Some(valid("Changed")),
                parent_id: parent.map_or(Patch::Keep, Patch::Set),
                project_id: project.map_or(Patch::Keep, Patch::Set),
                label_ids: Some(if wrong.contains(&"labelIds") { label_ids } else { Vec::new() }),
                ..IssuePatch::default()
            };
            assert_eq!(problem(store.issues().update(&bystander.id, patch).await), wrong_references(Entity::Issue, wrong));
        }
    }
    let page = store.issues().list(&IssueFilter::default(), &everything()).await.unwrap();
    assert_eq!((page.data, page.total), (vec![bystander.clone()], Some(1)));
    assert_eq!(store.labels().of_issue(&bystander.id).await.unwrap(), [good]);
}

#[tokio::test]
async fn a_child_moves_to_another_parent() {
    let db = TestDb::new().await;
    let store = db.store();
    let (first, second) = (issue(store, "First").await, issue(store, "Second").await);
    let moved = child(store, &first.id, "Child").await;
    let patch = IssuePatch { parent_id: second.id.clone().into(), ..IssuePatch::default() };
    assert_eq!(store.issues().update(&moved.id, patch).await.unwrap().parent_id, Some(second.id.clone()));
    assert!(store.issues().detail(&first.id).await.unwrap().children.is_empty());
    assert_eq!(store.issues().detail(&second.id).await.unwrap().children.len(), 1);
}
