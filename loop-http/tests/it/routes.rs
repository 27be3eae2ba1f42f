//! Every route in one table, for the tests that ask the same of all of them.

use serde_json::{Value, json};

use crate::support::{Answer, Caller, id};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Anybody, or whoever authenticates in another way than by a key.
    NoKey,
    Read,
    Write,
    Admin,
}

/// What a key of another project meets that asks for the rows of a route, or refers to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// There is nothing that belongs to a project.
    Nothing,
    /// The row in the path is not found.
    NotFound(&'static str),
    /// What is created would refer to it in these fields.
    Dangling(&'static [&'static str]),
    /// The list does not hold it.
    Unlisted,
    /// It may not do this at all.
    Forbidden,
}

pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    pub(crate) foreign: Foreign,
    /// A body that is right for the rows of a world.
    pub(crate) body: Option<fn(&World) -> Value>,
}

const fn route(method: &'static str, path: &'static str, needs: Needs, foreign: Foreign, body: Option<fn(&World) -> Value>) -> Route {
    Route { method, path, needs, foreign, body }
}

const fn get(path: &'static str, foreign: Foreign) -> Route {
    route("GET", path, Needs::Read, foreign, None)
}

const fn delete(path: &'static str, foreign: Foreign) -> Route {
    route("DELETE", path, Needs::Write, foreign, None)
}

const fn post(path: &'static str, foreign: Foreign, body: fn(&World) -> Value) -> Route {
    route("POST", path, Needs::Write, foreign, Some(body))
}

const fn patch(path: &'static str, foreign: Foreign, body: fn(&World) -> Value) -> Route {
    route("PATCH", path, Needs::Write, foreign, Some(body))
}

const PROJECT: Foreign = Foreign::NotFound("Project not found");
const GOAL: Foreign = Foreign::NotFound("Goal not found");
const ISSUE: Foreign = Foreign::NotFound("Issue not found");
const COMMENT: Foreign = Foreign::NotFound("Comment not found");
const RELATION: Foreign = Foreign::NotFound("Relation not found");
const SIGNAL: Foreign = Foreign::NotFound("Signal not found");
const TEMPLATE: Foreign = Foreign::NotFound("Prompt template not found");
const VERSION: Foreign = Foreign::NotFound("Prompt version not found");
const KEY: Foreign = Foreign::NotFound("API key not found");

/// Every route. A test sees that none is missing.
pub(crate) const ROUTES: &[Route] = &[
    route("GET", "/health", Needs::NoKey, Foreign::Nothing, None),
    route("GET", "/ready", Needs::NoKey, Foreign::Nothing, None),
    route("GET", "/openapi.json", Needs::NoKey, Foreign::Nothing, None),
    #[cfg(feature = "docs")]
    route("GET", "/docs", Needs::NoKey, Foreign::Nothing, None),
    #[cfg(feature = "docs")]
    route("GET", "/docs/{file}", Needs::NoKey, Foreign::Nothing, None),
    get("/api/v1/projects", Foreign::Unlisted),
    post("/api/v1/projects", Foreign::Forbidden, |_| json!({ "name": "new" })),
    get("/api/v1/projects/{project}", PROJECT),
    patch("/api/v1/projects/{project}", PROJECT, |_| json!({ "name": "changed" })),
    delete("/api/v1/projects/{project}", PROJECT),
    get("/api/v1/projects/{project}/events", PROJECT),
    get("/api/v1/goals", Foreign::Unlisted),
    post("/api/v1/goals", Foreign::Dangling(&["projectId"]), |world| json!({ "title": "new", "projectId": world.project })),
    get("/api/v1/goals/{goal}", GOAL),
    patch("/api/v1/goals/{goal}", GOAL, |_| json!({ "title": "changed" })),
    delete("/api/v1/goals/{goal}", GOAL),
    get("/api/v1/issues", Foreign::Unlisted),
    post(
        "/api/v1/issues",
        Foreign::Dangling(&["parentId", "projectId"]),
        |world| json!({ "title": "new", "projectId": world.project, "parentId": world.issue }),
    ),
    get("/api/v1/issues/{issue}", ISSUE),
    patch("/api/v1/issues/{issue}", ISSUE, |_| json!({ "title": "changed", "labelIds": [] })),
    delete("/api/v1/issues/{issue}", ISSUE),
    route("PUT", "/api/v1/issues/{issue}/labels/{label}", Needs::Write, ISSUE, None),
    delete("/api/v1/issues/{issue}/labels/{label}", ISSUE),
    get("/api/v1/issues/{issue}/events", ISSUE),
    get("/api/v1/issues/{issue}/comments", ISSUE),
    post("/api/v1/issues/{issue}/comments", ISSUE, |_| json!({ "body": "new", "authorName": "Ada", "authorType": "human" })),
    patch("/api/v1/comments/{comment}", COMMENT, |_| json!({ "body": "changed" })),
    delete("/api/v1/comments/{comment}", COMMENT),
    get("/api/v1/issues/{issue}/relations", ISSUE),
    post("/api/v1/issues/{issue}/relations", ISSUE, |world| json!({ "type": "blocks", "relatedIssueId": world.other_issue })),
    delete("/api/v1/relations/{relation}", RELATION),
    get("/api/v1/labels", Foreign::Nothing),
    post("/api/v1/labels", Foreign::Nothing, |_| json!({ "name": "new", "color": "red" })),
    get("/api/v1/labels/{label}", Foreign::Nothing),
    patch("/api/v1/labels/{label}", Foreign::Nothing, |_| json!({ "color": "blue" })),
    delete("/api/v1/labels/{label}", Foreign::Nothing),
    get("/api/v1/signals", Foreign::Unlisted),
    post("/api/v1/signals", Foreign::Dangling(&["projectId"]), |world| json!({ "source": "s", "type": "t", "projectId": world.project })),
    post(
        "/api/v1/signals/batch",
        Foreign::Dangling(&["signals[0].projectId"]),
        |world| json!([{ "source": "s", "type": "t", "projectId": world.project }]),
    ),
    get("/api/v1/signals/{signal}", SIGNAL),
    get("/api/v1/templates", Foreign::Unlisted),
    post(
        "/api/v1/templates",
        Foreign::Dangling(&["projectId"]),
        |world| json!({ "slug": "new", "name": "new", "projectId": world.project }),
    ),
    get("/api/v1/templates/{template}", TEMPLATE),
    patch("/api/v1/templates/{template}", TEMPLATE, |_| json!({ "name": "changed" })),
    delete("/api/v1/templates/{template}", TEMPLATE),
    get("/api/v1/templates/{template}/versions", TEMPLATE),
    post("/api/v1/templates/{template}/versions", TEMPLATE, |_| json!({ "content": "new", "authorType": "agent", "authorName": "A" })),
    route("POST", "/api/v1/templates/{template}/versions/{version}/promote", Needs::Write, VERSION, None),
    get("/api/v1/templates/{template}/reviews", TEMPLATE),
    post("/api/v1/prompt-reviews", Foreign::Dangling(&["issueId", "versionId"]), |world| {
        json!({
            "versionId": world.version, "issueId": world.issue, "clarity": 1, "completeness": 1, "relevance": 1, "authorType": "human",
        })
    }),
    route("GET", "/api/v1/keys", Needs::Admin, Foreign::Unlisted, None),
    route(
        "POST",
        "/api/v1/keys",
        Needs::Admin,
        Foreign::Dangling(&["projectId"]),
        Some(|world| json!({ "name": "new", "projectId": world.project })),
    ),
    route("POST", "/api/v1/keys/{key}/rotate", Needs::Admin, KEY, None),
    route("DELETE", "/api/v1/keys/{key}", Needs::Admin, KEY, None),
    route("POST", "/webhooks/github", Needs::NoKey, Foreign::Nothing, None),
    route("POST", "/webhooks/sentry", Needs::NoKey, Foreign::Nothing, None),
    route("POST", "/webhooks/posthog", Needs::NoKey, Foreign::Nothing, None),
    route("POST", "/admin/migrate", Needs::NoKey, Foreign::Nothing, None),
    route("GET", "/metrics", Needs::NoKey, Foreign::Nothing, None),
];

/// One row of everything, in a project or in none.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) project: Option<String>,
    pub(crate) goal: String,
    pub(crate) issue: String,
    pub(crate) number: String,
    pub(crate) other_issue: String,
    pub(crate) label: String,
    pub(crate) comment: String,
    pub(crate) relation: String,
    pub(crate) signal: String,
    pub(crate) signal_issue: String,
    pub(crate) template: String,
    pub(crate) version: String,
    pub(crate) review: String,
    pub(crate) key: String,
}

impl World {
    pub(crate) async fn new(admin: &Caller, name: &str, with_project: bool) -> Self {
        let project = if with_project { Some(admin.project(name).await) } else { None };
        let create = async |path: &str, body: Value| admin.post(path, body).await.created();
        let goal = id(&create("/api/v1/goals", json!({ "title": name, "projectId": project })).await);
        let label = admin.label(name).await;
        let issue = create("/api/v1/issues", json!({ "title": name, "projectId": project, "labelIds": [label] })).await;
        let other_issue = id(&create("/api/v1/issues", json!({ "title": name, "projectId": project })).await);
        let (number, issue) = (issue["number"].to_string(), id(&issue));
        let comment = json!({ "body": name, "authorName": name, "authorType": "human" });
        let comment = id(&create(&format!("/api/v1/issues/{issue}/comments"), comment).await);
        let relation = json!({ "type": "related", "relatedIssueId": other_issue });
        let relation = id(&create(&format!("/api/v1/issues/{issue}/relations"), relation).await);
        let signal = create("/api/v1/signals", json!({ "source": name, "type": name, "projectId": project })).await;
        let template = id(&create("/api/v1/templates", json!({ "slug": name, "name": name, "projectId": project })).await);
        let version = json!({ "content": name, "authorType": "human", "authorName": name });
        let version = id(&create(&format!("/api/v1/templates/{template}/versions"), version).await);
        let review =
            json!({ "versionId": version, "issueId": issue, "clarity": 1, "completeness": 1, "relevance": 1, "authorType": "human" });
        let review = id(&create("/api/v1/prompt-reviews", review).await);
        let key = id(&create("/api/v1/keys", json!({ "name": name, "projectId": project })).await);
        if let Some(project) = &project {
            admin.patch(format!("/api/v1/projects/{project}"), json!({ "goalId": goal })).await.ok();
        }
        Self {
            project,
            goal,
            issue,
            number,
            other_issue,
            label,
            comment,
            relation,
            signal: id(&signal["signal"]),
            signal_issue: id(&signal["issue"]),
            template,
            version,
            review,
            key,
        }
    }

    /// The path of a route to the rows of this world. Without a project, that of another row in its place.
    pub(crate) fn path(&self, template: &str) -> String {
        let names = [
            ("{project}", self.project.as_ref().unwrap_or(&self.goal)),
            ("{goal}", &self.goal),
            ("{issue}", &self.issue),
            ("{label}", &self.label),
            ("{comment}", &self.comment),
            ("{relation}", &self.relation),
            ("{signal}", &self.signal),
            ("{template}", &self.template),
            ("{version}", &self.version),
            ("{key}", &self.key),
        ];
        names.iter().fold(template.to_owned(), |path, (name, id)| path.replace(name, id))
    }

    /// Every id that only the project may show.
    pub(crate) fn ids(&self) -> Vec<&str> {
        let ids = [
            &self.goal,
            &self.issue,
            &self.other_issue,
            &self.comment,
            &self.relation,
            &self.signal,
            &self.signal_issue,
            &self.template,
            &self.version,
            &self.review,
            &self.key,
        ];
        ids.into_iter().chain(&self.project).map(String::as_str).collect()
    }
}

impl Route {
    /// Calls the route for the rows of a world.
    pub(crate) async fn call(&self, caller: &Caller, world: &World) -> Answer {
        let body = self.body.map(|body| body(world));
        caller.call(self.method, &world.path(self.path), body.as_ref()).await
    }

    pub(crate) fn has_key(&self) -> bool {
        self.needs != Needs::NoKey
    }
}
