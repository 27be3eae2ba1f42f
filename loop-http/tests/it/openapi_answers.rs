//! Every answer is one that the OpenAPI document announces, and of the form it says.

use jsonschema::Validator;
use loop_core::Role;
use serde_json::{Value, json};

use crate::{
    openapi::{anonymous, document, operations, resolve},
    routes::{Needs, ROUTES, Route, World},
    support::{Answer, TestApp},
};

/// The document, to hold answers against.
struct Contract(Value);

impl Contract {
    /// That the route may answer so.
    #[track_caller]
    fn allows(&self, route: &Route, answer: &Answer) {
        let operations = operations(&self.0);
        let is_it = |method: &str, path: &str| method == route.method && anonymous(path) == anonymous(route.path);
        let operation = operations.iter().find(|operation| is_it(&operation.method, operation.path)).unwrap();
        let response = &operation.says["responses"][answer.status.to_string()];
        assert!(response.is_object(), "{} {} answers {}: {}", route.method, route.path, answer.status, answer.text);
        let response = resolve(&self.0, response);
        let Some(content) = response["content"].as_object() else {
            return assert_eq!(answer.text, "", "{} {}", route.method, route.path);
        };
        let media = answer.header("content-type").unwrap().split(';').next().unwrap();
        let schema = &content.get(media).unwrap_or_else(|| panic!("{} {} answers {media}", route.method, route.path))["schema"];
        if media != "application/json" {
            return;
        }
        let validator = self.validator(schema);
        let body = answer.json();
        let problems: Vec<String> = validator.iter_errors(&body).map(|error| format!("{error} at {}", error.instance_path())).collect();
        assert_eq!(problems, <[String; 0]>::default(), "{} {} {}: {body}", route.method, route.path, answer.status);
    }

    /// The validator of a schema, under which the answer has no field that the schema does not name.
    fn validator(&self, schema: &Value) -> Validator {
        let schema = json!({ "$ref": "#/schema", "unevaluatedProperties": false, "schema": schema, "components": self.0["components"] });
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }
}

#[tokio::test]
async fn every_route_answers_what_is_documented() {
    let (app, admin) = TestApp::with_admin().await;
    let contract = Contract(document(&admin).await);
    let world = World::new(&admin, "world", true).await;
    let reader = app.caller(Role::Read, None).await;
    let bound = app.caller(Role::Admin, Some(&admin.project("another").await)).await;
    let other = World::new(&admin, "filled", true).await;
    let filled = json!({
        "hypothesis": { "statement": "it leaks", "confidence": 0.75, "validationCriteria": "no more" },
        "commits": [{ "sha": "abc", "message": "fix", "timestamp": "2026-01-31T12:00:00.000Z" }],
        "pullRequests": [{ "number": 7, "title": "Fix", "state": "merged", "mergedAt": "2026-01-31T13:00:00.000Z" }],
        "signalPayload": { "a": [1, null] }, "parentId": other.issue, "status": "closed",
    });
    admin.patch(format!("/api/v1/issues/{}", world.issue), &filled).await.ok();
    let reply = json!({ "body": "reply", "authorName": "A", "authorType": "agent", "parentId": world.comment });
    admin.post(format!("/api/v1/issues/{}/comments", world.issue), reply).await.created();
    admin.post(format!("/api/v1/templates/{}/versions/{}/promote", world.template, world.version), json!({})).await.ok();

    let (deletes, others): (Vec<_>, Vec<_>) = ROUTES.iter().partition(|route| route.method == "DELETE");
    for route in others.iter().chain(&deletes) {
        // Nobody, one who may not, one of another project, and at last one who may; then once more what may be gone by now.
        contract.allows(route, &route.call(&app.nobody(), &world).await);
        if route.needs != Needs::NoKey {
            contract.allows(route, &route.call(&reader, &world).await);
            contract.allows(route, &route.call(&bound, &world).await);
        }
        contract.allows(route, &route.call(&admin, &world).await);
        contract.allows(route, &route.call(&admin, &world).await);
        // Nothing that could be read.
        contract.allows(route, &admin.call(route.method, &world.path(route.path), Some(&json!({ "noSuchField": 1 }))).await);
        if route.method == "GET" && route.needs != Needs::NoKey {
            for query in ["?noSuchParameter=1", "?cursor=%2A", "?total=true&limit=1"] {
                contract.allows(route, &admin.get(format!("{}{query}", world.path(route.path))).await);
            }
        }
    }
}
