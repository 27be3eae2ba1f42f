//! Requests that nobody thought of: each is answered, and none with a fault of the server's.
//!
//! `loop_core::test_util::arbitrary` says how many are tried.

use std::fmt::Debug;

use axum::{Router, body::Body};
use http::{HeaderName, HeaderValue, Request, Response, header};
use loop_core::{
    Role,
    test_util::arbitrary::{check, header_value, json, near_json},
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{
    routes::{Needs, ROUTES, Route, World},
    support::{TestApp, state},
};

/// Every field of every body.
const FIELDS: &[&str] = &[
    "name",
    "description",
    "status",
    "health",
    "goalId",
    "title",
    "metric",
    "targetValue",
    "currentValue",
    "unit",
    "projectId",
    "type",
    "priority",
    "parentId",
    "labelIds",
    "signalSource",
    "signalPayload",
    "hypothesis",
    "statement",
    "confidence",
    "evidence",
    "validationCriteria",
    "prediction",
    "agentSessionId",
    "agentSummary",
    "commits",
    "sha",
    "message",
    "url",
    "author",
    "timestamp",
    "pullRequests",
    "number",
    "state",
    "mergedAt",
    "body",
    "authorName",
    "authorType",
    "relatedIssueId",
    "color",
    "source",
    "severity",
    "payload",
    "sourceId",
    "tags",
    "fingerprint",
    "signals",
    "slug",
    "conditions",
    "specificity",
    "content",
    "changelog",
    "versionId",
    "issueId",
    "clarity",
    "completeness",
    "relevance",
    "feedback",
    "role",
    "expiresAt",
    "graceSeconds",
];

/// Every parameter of every list.
const PARAMETERS: &[&str] = &[
    "status",
    "type",
    "priority",
    "projectId",
    "labelId",
    "parentId",
    "q",
    "createdAfter",
    "createdBefore",
    "sort",
    "source",
    "severity",
    "issueId",
    "metadata",
    "health",
    "goalId",
    "slug",
    "limit",
    "offset",
    "cursor",
    "total",
    "secret",
    "project",
];

/// What is right for some field or parameter.
const WORDS: &[&str] = &[
    "open",
    "triage",
    "resolved",
    "active",
    "on_track",
    "bug",
    "critical",
    "high",
    "human",
    "blocks",
    "admin",
    "read",
    "true",
    "1",
    "200",
    "0",
    "-1",
    "4294967295",
    "-createdAt",
    "priority",
    "2026-01-31T12:00:00.000Z",
    "9999-12-31T23:59:59.999Z",
    "0001-01-01T00:00:00Z",
    "cf2k3zv8o1x9y7w5u3s1q0pb",
    "one or \"two",
    "-- - -a \"",
    "{\"a\": 1e-9999}",
    "{}",
    "LWNyZWF0ZWRBdHwxfGFi",
];

/// A server without the wire, the rows that routes are about, and what may do everything.
struct Target {
    runtime: tokio::runtime::Runtime,
    app: TestApp,
    router: Router,
    world: World,
    bearer: HeaderValue,
}

impl Target {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (app, world, key) = runtime.block_on(async {
            let (app, admin) = TestApp::with_admin().await;
            let world = World::new(&admin, "world", true).await;
            let key = app.key(Role::Admin, None, None).await;
            (app, world, key)
        });
        let router = loop_http::router(state(app.db.store()), &loop_http::RouterOptions::default());
        Self { runtime, app, router, world, bearer: HeaderValue::try_from(format!("Bearer {key}")).unwrap() }
    }

    /// Sends a request to a route, if it can be made at all, and sees that its answer is no fault of the server's.
    fn send(&self, route: &Route, query: &str, headers: &[(HeaderName, HeaderValue)], body: Vec<u8>) {
        let path = self.world.path(route.path);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let mut request = Request::builder().method(route.method).uri(&target).header(header::AUTHORIZATION, &self.bearer);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let told = format!("{} {target} {headers:?} {}", route.method, String::from_utf8_lossy(&body));
        let Ok(request) = request.body(Body::from(body)) else { return };
        let answer: Response<_> = self.runtime.block_on(self.router.clone().oneshot(request)).unwrap();
        assert!(answer.status().as_u16() < 500, "{told}: {}", answer.status());
    }

    /// Whether it still works.
    fn end(self) {
        let Self { runtime, app, world, router: _, bearer } = self;
        runtime.block_on(async {
            let caller = app.nobody().with_key(bearer.to_str().unwrap().trim_start_matches("Bearer "));
            caller.get(format!("/api/v1/issues/{}", world.other_issue)).await.ok();
            drop(app);
        });
    }
}

/// The routes that do this, and leave the rows that they are about.
fn routes(methods: &[&str]) -> Vec<&'static Route> {
    ROUTES.iter().filter(|route| methods.contains(&route.method)).collect()
}

impl Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(WORDS).prop_map(str::to_owned), 1 => "\\PC{0,20}", 1 => any::<String>(), 1 => "[a-z0-9,]{0,1200}"]
}

fn query() -> impl Strategy<Value = String> {
    let encode = |text: String| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = (select(PARAMETERS), word()).prop_map(move |(name, value)| format!("{name}={}", encode(value)));
    let metadata = json(FIELDS).prop_map(move |json| format!("metadata={}", encode(json)));
    // What a query string may hold, escapes that are none or no UTF-8 included.
    let raw = "[!$-;=?-Z_a-z~%&+]{0,40}";
    vec(prop_oneof![6 => pair, 1 => metadata, 2 => raw], 0..5).prop_map(|pairs| pairs.join("&"))
}

#[test]
fn every_list_is_asked_with_anything() {
    let target = Target::new();
    check(1500, &(select(routes(&["GET"])), query()), |(route, query)| target.send(route, &query, &[], Vec::new()));
    target.end();
}

/// A body that is right for the route but for some fields, and some that are no bodies at all.
fn body() -> impl Strategy<Value = (Vec<(&'static str, String)>, Option<Vec<u8>>)> {
    let value = prop_oneof![3 => json(FIELDS), 3 => word().prop_map(|word| Value::from(word).to_string())];
    (vec((select(FIELDS), value), 0..4), prop::option::weighted(0.2, near_json(FIELDS)))
}

#[test]
fn every_body_is_read() {
    let target = Target::new();
    let json_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let routes = routes(&["POST", "PATCH"]).into_iter().filter(|route| route.needs != Needs::NoKey).collect::<Vec<_>>();
    check(1500, &(select(routes), body()), |(route, (fields, raw))| {
        let right = route.body.map_or_else(|| serde_json::json!({}), |body| body(&target.world));
        let raw = raw.unwrap_or_else(|| {
            // The fields of a body, or of the one item of a batch, as texts: a tree of values could not hold them all.
            let (batch, right) = right.as_array().map_or((false, &right), |items| (true, &items[0]));
            let mut members: std::collections::BTreeMap<&str, String> = std::collections::BTreeMap::new();
            for (name, value) in right.as_object().into_iter().flatten() {
                members.insert(name, value.to_string());
            }
            members.extend(fields);
            let members: Vec<_> = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let object = format!("{{{}}}", members.join(","));
            if batch { format!("[{object}]") } else { object }.into_bytes()
        });
        target.send(route, "", &json_type, raw);
    });
    target.end();
}

#[test]
fn every_header_is_read() {
    let target = Target::new();
    let names = vec![
        header::IF_MATCH,
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        header::ORIGIN,
        header::ACCEPT_ENCODING,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("x-request-id"),
    ];
    let tags = "(W/)?\"?[0-9]{0,20}\"?( ?, ?\"[0-9a-z]{0,3}\"){0,3}|\\*".prop_map(|text| HeaderValue::try_from(text).unwrap());
    let headers = vec((select(names), prop_oneof![1 => header_value(0..300), 2 => tags]), 0..4);
    check(1000, &(select(routes(&["GET", "POST", "PATCH", "PUT"])), headers), |(route, headers)| {
        let body = route.body.map_or_else(Vec::new, |body| body(&target.world).to_string().into_bytes());
        let json_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let headers: Vec<_> = headers.into_iter().chain([json_type]).collect();
        target.send(route, "", &headers, body);
    });
    target.end();
}

/// Deliveries that were signed, so that they are read.
#[test]
fn every_delivery_is_taken_in_or_refused() {
    const EVENTS: &[&str] = &["issues", "push", "workflow_run", "ping", "check_run", "release", "x", ""];
    let target = Target::new();
    let inputs = (near_json(FIELDS), select(EVENTS), query(), header_value(0..60));
    check(500, &inputs, |(body, event, query, name)| {
        let code = crate::signatures::hex_mac(crate::support::GITHUB_SECRET, &body);
        let sentry = crate::signatures::hex_mac(crate::support::SENTRY_SECRET, &body);
        let headers = [
            ("x-hub-signature-256", HeaderValue::try_from(format!("sha256={code}")).unwrap()),
            ("sentry-hook-signature", HeaderValue::try_from(sentry).unwrap()),
            ("x-posthog-secret", HeaderValue::from_static(crate::support::POSTHOG_SECRET)),
            ("x-github-event", HeaderValue::from_static(event)),
            ("x-github-delivery", name.clone()),
            ("idempotency-key", name),
            ("content-type", HeaderValue::from_static("application/json")),
        ];
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)).collect();
        for route in ROUTES.iter().filter(|route| route.path.starts_with("/webhooks/")) {
            target.send(route, &query, &headers, body.clone());
        }
    });
    target.end();
}
