//! A key of one project against everything of another, and of none.

use std::{collections::BTreeSet, fs, path::Path};

use loop_core::Role;
use serde_json::{Value, json};

use crate::{
    routes::{Foreign, Needs, ROUTES, World},
    support::{Server, TestApp, ids},
};

/// Every row of the database, but when keys were last used.
async fn rows(app: &TestApp) -> Vec<String> {
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY 1";
    let mut rows = Vec::new();
    for table in app.query(tables).await {
        let all = format!("SELECT '{table} ' || (to_jsonb(t) - 'last_used_at')::text FROM {table} AS t ORDER BY 1");
        rows.extend(app.query(&all).await);
    }
    assert!(rows.len() > 30);
    rows
}

#[tokio::test]
async fn a_key_of_another_project_finds_nothing_and_changes_nothing() {
    let (app, admin) = TestApp::with_admin().await;
    let mine = World::new(&admin, "mine", true).await;
    let worlds = [World::new(&admin, "other", true).await, World::new(&admin, "global", false).await];
    let bound = app.caller(Role::Admin, mine.project.as_deref()).await;
    let before = rows(&app).await;
    for other in &worlds {
        for route in ROUTES.iter().filter(|route| route.has_key()) {
            let context = format!("{} {}", route.method, route.path);
            if route.foreign == Foreign::Nothing {
                continue;
            }
            let answer = route.call(&bound, other).await;
            assert!(other.ids().iter().all(|id| !answer.text.contains(id)), "{context}: {}", answer.text);
            match route.foreign {
                Foreign::Nothing => {}
                Foreign::NotFound(message) => answer.not_found(message),
                Foreign::Dangling(fields) => {
                    // Where there is no project to name, what is created falls to the key's own.
                    let names = |field: &&&str| other.project.is_some() || !field.ends_with("projectId");
                    let fields: Vec<_> = fields.iter().filter(names).copied().collect();
                    if fields.is_empty() { drop(answer.created()) } else { answer.dangling(&fields) }
                }
                Foreign::Unlisted => {
                    answer.ok();
                    let Some(project) = &other.project else { continue };
                    if !["/api/v1/projects", "/api/v1/keys"].contains(&route.path) {
                        assert!(bound.ids(format!("{}?projectId={project}", route.path)).await.is_empty(), "{context}");
                    }
                }
                Foreign::Forbidden => {
                    assert_eq!(answer.error(403, "forbidden"), "This key is bound to a project and may not do this");
                }
            }
        }
        // Numbers lead no further than ids.
        for suffix in ["", "/comments", "/relations"] {
            bound.get(format!("/api/v1/issues/{}{suffix}", other.number)).await.not_found("Issue not found");
        }
    }
    let after: BTreeSet<_> = rows(&app).await.into_iter().collect();
    let gone: Vec<_> = before.iter().filter(|row| !after.contains(*row)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    // What was created, was created in the key's own project.
    let project = mine.project.unwrap();
    for new in after.iter().filter(|row| !before.contains(row)) {
        assert!(new.contains(&project), "{new}");
    }
}

#[tokio::test]
async fn the_same_calls_work_with_the_rows_of_the_own_project() {
    let (app, admin) = TestApp::with_admin().await;
    let mut mine = World::new(&admin, "mine", true).await;
    let mut bound = app.caller(Role::Admin, mine.project.as_deref()).await;
    let (deletes, others): (Vec<_>, Vec<_>) = ROUTES.iter().filter(|route| route.has_key()).partition(|route| route.method == "DELETE");
    for (n, route) in others.iter().chain(&deletes).enumerate() {
        let answer = route.call(&bound, &mine).await;
        if route.method == "DELETE" {
            mine = World::new(&admin, &format!("mine-{n}"), true).await;
            bound = app.caller(Role::Admin, mine.project.as_deref()).await;
        }
        let expected: &[u16] = if route.foreign == Foreign::Forbidden { &[403] } else { &[200, 201, 204] };
        assert!(expected.contains(&answer.status), "{} {}: {}", route.method, route.path, answer.text);
    }
}

#[tokio::test]
async fn what_is_created_without_a_project_belongs_to_the_key_s() {
    let (app, admin) = TestApp::with_admin().await;
    let mine = World::new(&admin, "mine", true).await;
    let bound = app.caller(Role::Admin, mine.project.as_deref()).await;
    let project = json!(mine.project);
    for (path, body) in [
        ("/api/v1/goals", json!({ "title": "new" })),
        ("/api/v1/issues", json!({ "title": "new" })),
        ("/api/v1/templates", json!({ "slug": "new", "name": "new", "projectId": null })),
        ("/api/v1/keys", json!({ "name": "new" })),
    ] {
        assert_eq!(bound.post(path, body).await.created()["projectId"], project, "{path}");
    }
    let created = bound.post("/api/v1/signals", json!({ "source": "s", "type": "t" })).await.created();
    assert_eq!((&created["signal"]["projectId"], &created["issue"]["projectId"]), (&project, &project));
    let batch = bound.post("/api/v1/signals/batch", json!([{ "source": "s", "type": "t" }])).await.created();
    assert_eq!(batch["data"][0]["issue"]["projectId"], project);
}

#[tokio::test]
async fn nothing_is_moved_out_of_the_project() {
    let (app, admin) = TestApp::with_admin().await;
    let mine = World::new(&admin, "mine", true).await;
    let other = World::new(&admin, "other", true).await;
    let bound = app.caller(Role::Admin, mine.project.as_deref()).await;
    for path in [format!("goals/{}", mine.goal), format!("issues/{}", mine.issue), format!("templates/{}", mine.template)] {
        for project in [json!(other.project), Value::Null] {
            bound.patch(format!("/api/v1/{path}"), json!({ "projectId": project })).await.dangling(&["projectId"]);
        }
        bound.patch(format!("/api/v1/{path}"), json!({ "projectId": mine.project })).await.ok();
    }
    let goal = json!({ "goalId": other.goal });
    bound.patch(format!("/api/v1/projects/{}", mine.project.unwrap()), goal).await.dangling(&["goalId"]);
    let parent = json!({ "parentId": other.issue });
    bound.patch(format!("/api/v1/issues/{}", mine.other_issue), parent).await.dangling(&["parentId"]);
}

#[tokio::test]
async fn lines_that_cross_projects_end_at_the_border() {
    let (app, admin) = TestApp::with_admin().await;
    let mine = World::new(&admin, "mine", true).await;
    let other = World::new(&admin, "other", true).await;
    let bound = app.caller(Role::Read, mine.project.as_deref()).await;
    // Somebody who sees both projects draws lines between them.
    let relation = json!({ "type": "blocks", "relatedIssueId": other.issue });
    admin.post(format!("/api/v1/issues/{}/relations", mine.issue), relation).await.created();
    admin.patch(format!("/api/v1/issues/{}", mine.signal_issue), json!({ "parentId": other.issue })).await.ok();
    admin.patch(format!("/api/v1/issues/{}", other.other_issue), json!({ "parentId": mine.issue })).await.ok();
    let project = format!("/api/v1/projects/{}", mine.project.as_ref().unwrap());
    admin.patch(&project, json!({ "goalId": other.goal })).await.ok();

    assert_eq!(bound.get(&project).await.ok()["goal"], Value::Null);
    let issue = bound.get(format!("/api/v1/issues/{}", mine.issue)).await.ok();
    assert_eq!(issue["children"], json!([]));
    assert_eq!(issue["relations"].as_array().unwrap().len(), 1);
    assert_eq!(bound.get(format!("/api/v1/issues/{}", mine.signal_issue)).await.ok()["parent"], Value::Null);
    assert_eq!(bound.ids(format!("/api/v1/issues/{}/relations", mine.issue)).await, [mine.relation]);
    assert_eq!(ids(&bound.get(format!("/api/v1/issues?parentId={}", other.issue)).await.ok()), [mine.signal_issue]);
}

/// A route that is not registered by way of the document would be in no table.
fn assert_all_are_documented() {
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes")).unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!source.contains(".route(") && !source.contains("Router::new"));
    }
}

#[tokio::test]
async fn no_route_is_missing_from_the_table() {
    let server = Server::without_database().await;
    let nobody = server.caller(None);
    assert_all_are_documented();
    for path in ROUTES.iter().map(|route| route.path) {
        let methods: BTreeSet<_> = ROUTES.iter().filter(|route| route.path == path).map(|route| route.method).collect();
        let answer = nobody.call("OPTIONS", &path.replace(['{', '}'], ""), None).await;
        assert_eq!(answer.error(405, "method_not_allowed"), "Method not allowed");
        let allowed: BTreeSet<_> = answer.header("allow").unwrap().split(',').filter(|method| *method != "HEAD").collect();
        assert_eq!(allowed, methods, "{path}");
    }
    assert!(ROUTES.iter().all(|route| route.has_key() == route.path.starts_with("/api/v1/")));
    assert!(ROUTES.iter().all(|route| (route.needs == Needs::Admin) == route.path.starts_with("/api/v1/keys")));
}
