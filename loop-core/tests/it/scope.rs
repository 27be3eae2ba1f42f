//! A store bound to a project: for it, no row of another project exists, whatever it is asked.

use std::time::Duration;

use loop_core::{
    ApiKey, Comment, CommentPatch, DeliveryKey, Entity, Error, Goal, GoalFilter, GoalPatch, Issue, IssueFilter, IssuePatch, Label,
    LoopStore, NewApiKey, NewComment, NewGoal, NewIssue, NewProject, NewRelation, NewSignal, NewTemplate, Patch, PlaintextKey, Project,
    ProjectFilter, ProjectId, ProjectPatch, PromptReview, PromptTemplate, PromptVersion, Relation, RelationType, Role, Signal,
    SignalFilter, TemplateFilter, TemplatePatch, test_util::TestDb,
};

use crate::support::{
    Problem, child, comment, dump, everything, issue, label, new_comment, new_issue, new_review, new_signal, new_template, new_version,
    not_found, problem, project, reply, valid, version, wrong_references,
};

/// One row of everything, in one project.
pub(crate) struct World {
    pub(crate) project: Project,
    goal: Goal,
    issue: Issue,
    child: Issue,
    label: Label,
    comment: Comment,
    reply: Comment,
    relation: Relation,
    signal: Signal,
    template: PromptTemplate,
    version: PromptVersion,
    review: PromptReview,
    key: ApiKey,
    plaintext: PlaintextKey,
}

/// A project with one row of everything, all made by an unbound store.
pub(crate) async fn world(store: &LoopStore, name: &str) -> World {
    let project = project(store, name).await;
    let id = Some(project.id.clone());
    let goal = NewGoal { project_id: id.clone(), ..NewGoal::titled(valid(name)) };
    let goal = store.goals().create(goal).await.unwrap();
    let pursued = ProjectPatch { goal_id: goal.id.clone().into(), ..ProjectPatch::default() };
    let project = store.projects().update(&project.id, pursued).await.unwrap();
    let label = label(store, name).await;
    let issue = NewIssue { project_id: id.clone(), label_ids: vec![label.id.clone()], ..new_issue(name) };
    let issue = store.issues().create(issue).await.unwrap();
    let child = NewIssue { project_id: id.clone(), parent_id: Some(issue.id.clone()), ..new_issue("Child") };
    let child = store.issues().create(child).await.unwrap();
    let comment = comment(store, &issue.id, name).await;
    let reply = reply(store, &comment, "Reply").await;
    let relation = NewRelation { kind: RelationType::Related, related_issue_id: child.id.clone() };
    let relation = store.relations().create(&issue.id, relation).await.unwrap();
    let signal = NewSignal { project_id: id.clone(), ..new_signal("cli") };
    let signal = store.signals().ingest(signal).await.unwrap().signal;
    let template = NewTemplate { project_id: id.clone(), ..new_template(name) };
    let template = store.templates().create(template).await.unwrap();
    let version = version(store, &template, name).await;
    let template = store.templates().get(&template.id).await.unwrap();
    let review = store.reviews().create(new_review(&version.id, &issue.id, [1, 2, 3])).await.unwrap();
    let version = store.versions().get(&template.id, &version.id).await.unwrap();
    let key = NewApiKey { name: valid(name), role: Role::Write, project_id: id, expires_at: None };
    let key = store.api_keys().create(key).await.unwrap();
    let (key, plaintext) = (key.key, key.plaintext);
    World { project, goal, issue, child, label, comment, reply, relation, signal, template, version, review, key, plaintext }
}

async fn two_worlds() -> (TestDb, World, World) {
    let db = TestDb::new().await;
    let (ours, theirs) = (world(db.store(), "ours").await, world(db.store(), "theirs").await);
    (db, ours, theirs)
}

/// What must have been refused, by what it was. Every call is made, so that one failure shows all that are wrong.
#[derive(Default)]
struct Refusals(Vec<String>);

impl Refusals {
    fn check<T: std::fmt::Debug>(&mut self, call: &str, result: Result<T, Error>, expected: &Problem) {
        match result {
            Ok(answer) => self.0.push(format!("{call} answered {answer:?}")),
            Err(error) => {
                let found = problem::<T>(Err(error));
                if found != *expected {
                    self.0.push(format!("{call} was {found:?} and not {expected:?}"));
                }
            }
        }
    }
}

#[tokio::test]
async fn nothing_of_another_project_is_seen_or_touched() {
    let (db, ours, theirs) = two_worlds().await;
    let stray = issue(db.store(), "Nobody's").await;
    let before = dump(db.store()).await;
    let store = db.store().within(ours.project.id.clone());
    let mut refusals = Refusals::default();
    macro_rules! refused {
        ($expected:expr; $($call:expr),+ $(,)?) => {
            $(refusals.check(stringify!($call), $call.await, &$expected);)+
        };
    }

    let (issues, page) = (store.issues(), everything());
    let kinds = NewRelation { kind: RelationType::Blocks, related_issue_id: ours.issue.id.clone() };
    for id in [&theirs.issue.id, &theirs.child.id, &stray.id] {
        refused!(not_found(Entity::Issue, id);
            issues.get(id), issues.detail(id), issues.update(id, IssuePatch::default()), issues.delete(id),
            store.labels().attach(id, &ours.label.id), store.labels().detach(id, &theirs.label.id),
            store.comments().list(id, &page), store.comments().create(id, new_comment("Said")),
            store.relations().list(id, &page), store.relations().create(id, kinds.clone()));
        assert_eq!(store.labels().of_issue(id).await.unwrap(), []);
    }
    for comment in [&theirs.comment.id, &theirs.reply.id] {
        let comments = store.comments();
        refused!(not_found(Entity::Comment, comment);
            comments.get(comment), comments.update(comment, CommentPatch { body: Some(valid("New")) }), comments.delete(comment));
    }
    refused!(not_found(Entity::Relation, &theirs.relation.id); store.relations().delete(&theirs.relation.id));
    refused!(not_found(Entity::Signal, &theirs.signal.id); store.signals().get(&theirs.signal.id));
    let (projects, id) = (store.projects(), &theirs.project.id);
    refused!(not_found(Entity::Project, id);
        projects.get(id), projects.detail(id), projects.update(id, ProjectPatch::default()), projects.delete(id));
    let (goals, id) = (store.goals(), &theirs.goal.id);
    refused!(not_found(Entity::Goal, id); goals.get(id), goals.update(id, GoalPatch::default()), goals.delete(id));
    let (templates, id) = (store.templates(), &theirs.template.id);
    refused!(not_found(Entity::PromptTemplate, id);
        templates.get(id), templates.detail(id), templates.update(id, TemplatePatch::default()), templates.delete(id),
        store.versions().list(id, &page), store.versions().create(id, new_version("New")), store.reviews().list(id, &page));
    let versions = store.versions();
    for template in [&theirs.template.id, &ours.template.id] {
        refused!(not_found(Entity::PromptVersion, &theirs.version.id);
            versions.get(template, &theirs.version.id), versions.promote(template, &theirs.version.id));
    }
    let (keys, id) = (store.api_keys(), &theirs.key.id);
    refused!(not_found(Entity::ApiKey, id); keys.get(id), keys.rotate(id, Duration::ZERO), keys.revoke(id));

    assert_eq!(refusals.0, [""; 0]);
    assert_eq!(store.issues().find_by_number(theirs.issue.number).await.unwrap(), None);
    assert_eq!(store.api_keys().authenticate(&theirs.plaintext).await.unwrap(), None);
    assert_eq!(dump(db.store()).await, before, "nothing was written");
}

#[tokio::test]
async fn nothing_of_another_project_is_referred_to() {
    let (db, ours, theirs) = two_worlds().await;
    let before = dump(db.store()).await;
    let store = db.store().within(ours.project.id.clone());
    let mut refusals = Refusals::default();
    macro_rules! refused {
        ($entity:ident, $fields:expr; $($call:expr),+ $(,)?) => {
            $(refusals.check(stringify!($call), $call.await, &wrong_references(Entity::$entity, &$fields));)+
        };
    }
    let (project, parent) = (Some(theirs.project.id.clone()), Some(theirs.issue.id.clone()));
    let moved = Patch::Set(theirs.project.id.clone());

    let both = NewIssue { parent_id: parent.clone(), project_id: project.clone(), ..new_issue("New") };
    let patch = IssuePatch { parent_id: Patch::Set(theirs.issue.id.clone()), ..IssuePatch::default() };
    refused!(Issue, ["parentId"];
        store.issues().create(NewIssue { parent_id: parent, ..new_issue("New") }), store.issues().update(&ours.child.id, patch.clone()));
    refused!(Issue, ["projectId"];
        store.issues().create(NewIssue { project_id: project.clone(), ..new_issue("New") }),
        store.issues().update(&ours.issue.id, IssuePatch { project_id: moved.clone(), ..IssuePatch::default() }),
        store.issues().update(&ours.issue.id, IssuePatch { project_id: Patch::Clear, ..IssuePatch::default() }));
    refused!(Issue, ["parentId", "projectId"];
        store.issues().create(both), store.issues().update(&ours.child.id, IssuePatch { project_id: Patch::Clear, ..patch }));
    refused!(Goal, ["projectId"];
        store.goals().create(NewGoal { project_id: project.clone(), ..NewGoal::titled(valid("New")) }),
        store.goals().update(&ours.goal.id, GoalPatch { project_id: moved.clone(), ..GoalPatch::default() }),
        store.goals().update(&ours.goal.id, GoalPatch { project_id: Patch::Clear, ..GoalPatch::default() }));
    refused!(PromptTemplate, ["projectId"];
        store.templates().create(NewTemplate { project_id: project.clone(), ..new_template("new") }),
        store.templates().update(&ours.template.id, TemplatePatch { project_id: moved, ..TemplatePatch::default() }),
        store.templates().update(&ours.template.id, TemplatePatch { project_id: Patch::Clear, ..TemplatePatch::default() }));
    refused!(Project, ["goalId"];
        store.projects().update(&ours.project.id, ProjectPatch { goal_id: theirs.goal.id.clone().into(), ..ProjectPatch::default() }));
    refused!(ApiKey, ["projectId"];
        store.api_keys().create(NewApiKey { name: valid("New"), role: Role::Read, project_id: project.clone(), expires_at: None }));
    let signal = NewSignal { project_id: project, ..new_signal("cli") };
    refused!(Signal, ["projectId"]; store.signals().ingest(signal.clone()));
    refused!(Signal, ["signals[1].projectId"]; store.signals().ingest_batch(vec![new_signal("cli"), signal]));
    refused!(Comment, ["parentId"];
        store.comments().create(&ours.issue.id, NewComment { parent_id: Some(theirs.comment.id.clone()), ..new_comment("Said") }));
    refused!(Relation, ["relatedIssueId"];
        store.relations().create(&ours.issue.id, NewRelation { kind: RelationType::Blocks, related_issue_id: theirs.issue.id.clone() }));
    let reviews = store.reviews();
    refused!(PromptReview, ["versionId"]; reviews.create(new_review(&theirs.version.id, &ours.issue.id, [1, 1, 1])));
    refused!(PromptReview, ["issueId"]; reviews.create(new_review(&ours.version.id, &theirs.issue.id, [1, 1, 1])));
    refused!(PromptReview, ["versionId", "issueId"]; reviews.create(new_review(&theirs.version.id, &theirs.issue.id, [1, 1, 1])));
    refusals.check("creating a project", store.projects().create(NewProject::named(valid("New"))).await, &Problem::OutOfScope);

    assert_eq!(refusals.0, [""; 0]);
    assert_eq!(dump(db.store()).await, before, "nothing was written");
}

#[tokio::test]
async fn lists_and_their_totals_hold_the_project_s_own() {
    let (db, ours, theirs) = two_worlds().await;
    issue(db.store(), "Nobody's").await;
    let (store, page) = (db.store().within(ours.project.id.clone()), everything());
    assert_eq!(store.scope(), Some(&ours.project.id));
    let their_project = theirs.project.id.clone();
    macro_rules! lists {
        ($handle:ident, $filter:ident, $expected:expr) => {
            let own = store.$handle().list(&$filter::default(), &page).await.unwrap();
            let ids: Vec<_> = own.data.iter().map(|row| &row.id).collect();
            assert!(ids.len() == $expected.len() && $expected.iter().all(|id| ids.contains(id)), stringify!($handle));
            assert_eq!(own.total, Some(i64::try_from($expected.len()).unwrap()), stringify!($handle));
        };
    }
    let signals_issue = &ours.signal.issue_id;
    lists!(issues, IssueFilter, [&ours.issue.id, &ours.child.id, signals_issue]);
    lists!(goals, GoalFilter, [&ours.goal.id]);
    lists!(projects, ProjectFilter, [&ours.project.id]);
    lists!(signals, SignalFilter, [&ours.signal.id]);
    lists!(templates, TemplateFilter, [&ours.template.id]);
    let keys = store.api_keys().list(&page).await.unwrap();
    assert_eq!((keys.data, keys.total), (vec![ours.key.clone()], Some(1)));

    // Asking for another project's finds nothing.
    let filter = IssueFilter::default;
    for filter in
        [filter().with_project(their_project.clone()), filter().with_parent(theirs.issue.id), filter().with_label(theirs.label.id)]
    {
        let found = store.issues().list(&filter, &page).await.unwrap();
        assert_eq!((found.data, found.total), (vec![], Some(0)));
    }
    assert_eq!(store.goals().list(&GoalFilter::default().with_project(their_project.clone()), &page).await.unwrap().total, Some(0));
    assert_eq!(store.templates().list(&TemplateFilter::default().with_project(their_project.clone()), &page).await.unwrap().total, Some(0));
    assert_eq!(store.templates().list(&TemplateFilter::default().with_slug(valid("theirs")), &page).await.unwrap().total, Some(0));
    assert_eq!(store.projects().list(&ProjectFilter::default().with_goal(theirs.goal.id), &page).await.unwrap().total, Some(0));
    for filter in [SignalFilter::default().with_project(their_project), SignalFilter::default().with_issue(theirs.signal.issue_id)] {
        assert_eq!(store.signals().list(&filter, &page).await.unwrap().total, Some(0));
    }
    assert_eq!(store.labels().list(&page).await.unwrap().total, Some(2), "labels are shared");
}

#[tokio::test]
async fn what_is_created_belongs_to_the_project() {
    let (db, ours, _) = two_worlds().await;
    let store = db.store().within(ours.project.id.clone());
    let own = || Some(ours.project.id.clone());
    assert_eq!(issue(&store, "New").await.project_id, own());
    assert_eq!(store.goals().create(NewGoal::titled(valid("New"))).await.unwrap().project_id, own());
    assert_eq!(store.templates().create(new_template("new")).await.unwrap().project_id, own());
    let key = NewApiKey { name: valid("New"), role: Role::Read, project_id: None, expires_at: None };
    let issued = store.api_keys().create(key).await.unwrap();
    assert_eq!(issued.key.project_id, own());
    assert_eq!(store.api_keys().authenticate(&issued.plaintext).await.unwrap().unwrap().id, issued.key.id);
    let taken = store.signals().ingest(new_signal("cli")).await.unwrap();
    assert_eq!((taken.signal.project_id.clone(), taken.issue.project_id.clone()), (own(), own()));
    assert_eq!(store.signals().get(&taken.signal.id).await.unwrap(), taken.signal);
    for taken in store.signals().ingest_batch(vec![new_signal("cli"), NewSignal { project_id: own(), ..new_signal("cli") }]).await.unwrap()
    {
        assert_eq!(store.issues().get(&taken.issue.id).await.unwrap().project_id, own());
    }
    let same = IssuePatch { project_id: ours.project.id.clone().into(), ..IssuePatch::default() };
    assert_eq!(store.issues().update(&ours.issue.id, same).await.unwrap().project_id, own());
    let renamed = ProjectPatch { name: Some(valid("Renamed")), ..ProjectPatch::default() };
    assert_eq!(store.projects().update(&ours.project.id, renamed).await.unwrap().name.as_str(), "Renamed");

    // All handles of a transaction are bound as well.
    let inside: Result<_, Error> = store.transaction(async |tx| tx.issues().create(new_issue("New")).await).await;
    assert_eq!(inside.unwrap().project_id, own());

    // With the project deleted, nothing more can be created in it.
    store.projects().delete(&ours.project.id).await.unwrap();
    assert_eq!(problem(store.issues().create(new_issue("Late")).await), wrong_references(Entity::Issue, &["projectId"]));
    assert_eq!(problem(store.signals().ingest(new_signal("cli")).await), wrong_references(Entity::Signal, &["projectId"]));
    assert_eq!(store.api_keys().authenticate(&issued.plaintext).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_around_a_row_is_shown_only_within_the_project() {
    let (db, ours, theirs) = two_worlds().await;
    let unbound = db.store();
    // An unbound store can join the projects in every way there is.
    let mixed_child = child(unbound, &ours.issue.id, "Mixed").await;
    let into_theirs = IssuePatch { project_id: theirs.project.id.clone().into(), ..IssuePatch::default() };
    unbound.issues().update(&mixed_child.id, into_theirs).await.unwrap();
    let under_theirs =
        NewIssue { parent_id: Some(theirs.issue.id.clone()), project_id: Some(ours.project.id.clone()), ..new_issue("Under") };
    let under_theirs = unbound.issues().create(under_theirs).await.unwrap();
    let across = NewRelation { kind: RelationType::Blocks, related_issue_id: theirs.issue.id.clone() };
    let across = unbound.relations().create(&ours.issue.id, across).await.unwrap();
    let their_goal = ProjectPatch { goal_id: theirs.goal.id.clone().into(), ..ProjectPatch::default() };
    unbound.projects().update(&ours.project.id, their_goal).await.unwrap();
    unbound.reviews().create(new_review(&theirs.version.id, &ours.issue.id, [5, 5, 5])).await.unwrap();
    let all = unbound.issues().detail(&ours.issue.id).await.unwrap();
    assert_eq!((all.children.len(), all.relations.len()), (2, 2));

    let store = unbound.within(ours.project.id.clone());
    let detail = store.issues().detail(&ours.issue.id).await.unwrap();
    assert_eq!(detail.children.iter().map(|child| &child.id).collect::<Vec<_>>(), [&ours.child.id]);
    assert_eq!(detail.relations.iter().map(|view| &view.relation.id).collect::<Vec<_>>(), [&ours.relation.id]);
    assert_eq!((detail.labels, detail.project.map(|project| project.id)), (vec![ours.label], Some(ours.project.id.clone())));
    assert_eq!(store.issues().detail(&under_theirs.id).await.unwrap().parent, None);
    let relations = store.relations().list(&ours.issue.id, &everything()).await.unwrap();
    assert_eq!((relations.data.len(), relations.total), (1, Some(1)));
    assert_eq!(problem(store.relations().delete(&across.id).await), not_found(Entity::Relation, &across.id));
    let project = store.projects().detail(&ours.project.id).await.unwrap();
    assert_eq!((project.goal, project.issue_counts.get(loop_core::IssueStatus::Open)), (None, 3));
    let children = store.issues().list(&IssueFilter::default().with_parent(ours.issue.id.clone()), &everything()).await.unwrap();
    assert_eq!(children.total, Some(1));
    let reviews = store.reviews().list(&ours.template.id, &everything()).await.unwrap();
    assert_eq!((reviews.data, reviews.total), (vec![ours.review], Some(1)));
    let detail = store.templates().detail(&ours.template.id).await.unwrap();
    assert_eq!((detail.template, detail.active_version), (ours.template, Some(ours.version)));
}

#[tokio::test]
async fn an_unknown_project_holds_nothing() {
    let (db, ours, _) = two_worlds().await;
    let store = db.store().within(ProjectId::new());
    assert_eq!(store.issues().list(&IssueFilter::default(), &everything()).await.unwrap().total, Some(0));
    assert_eq!(problem(store.issues().get(&ours.issue.id).await), not_found(Entity::Issue, &ours.issue.id));
    assert_eq!(problem(store.issues().create(new_issue("New")).await), wrong_references(Entity::Issue, &["projectId"]));
}

#[tokio::test]
async fn reviews_about_issues_of_other_projects_are_not_shown() {
    let (db, ours, theirs) = two_worlds().await;
    let (all, bound) = (db.store(), db.store().within(ours.project.id.clone()));
    all.reviews().create(new_review(&ours.version.id, &theirs.issue.id, [5, 5, 5])).await.unwrap();
    assert_eq!(all.reviews().list(&ours.template.id, &everything()).await.unwrap().total, Some(2));
    let shown = bound.reviews().list(&ours.template.id, &everything()).await.unwrap();
    assert_eq!((shown.total, shown.data), (Some(1), vec![ours.review]));
}

#[tokio::test]
async fn a_signal_moves_with_its_issue() {
    let (db, ours, theirs) = two_worlds().await;
    let (here, there) = (db.store().within(ours.project.id.clone()), db.store().within(theirs.project.id.clone()));
    let delivery = || NewSignal { delivery: Some(DeliveryKey::named("moved")), ..new_signal("github") };
    let taken_in = here.signals().ingest(delivery()).await.unwrap();
    let moved = IssuePatch { project_id: theirs.project.id.clone().into(), ..IssuePatch::default() };
    db.store().issues().update(&taken_in.issue.id, moved).await.unwrap();
    assert_eq!(problem(here.signals().get(&taken_in.signal.id).await), not_found(Entity::Signal, &taken_in.signal.id));
    assert_eq!(there.signals().get(&taken_in.signal.id).await.unwrap().project_id, Some(theirs.project.id));
    // Its redelivery creates nothing, and shows nothing of what is no longer here.
    assert_eq!(problem(here.signals().ingest(delivery()).await), not_found(Entity::Signal, &taken_in.signal.id));
    // In a batch, what is new is taken in all the same.
    let batch = vec![new_signal("github"), delivery(), new_signal("github")];
    let before = here.signals().list(&SignalFilter::default(), &everything()).await.unwrap().total;
    assert_eq!(problem(here.signals().ingest_batch(batch).await), not_found(Entity::Signal, &taken_in.signal.id));
    let after = here.signals().list(&SignalFilter::default(), &everything()).await.unwrap().total;
    assert_eq!(after, before.map(|before| before + 2));
}
