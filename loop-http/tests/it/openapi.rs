//! The OpenAPI document is sound, and is about the routes there are.

use std::collections::BTreeSet;

use loop_http::{AppState, RouterOptions, ServeOptions, Webhooks};
use serde_json::{Value, json};

use crate::{
    routes::{Needs, ROUTES},
    support::{Caller, Server, no_database},
};

/// An operation of the document.
pub(crate) struct Operation<'a> {
    pub(crate) method: String,
    pub(crate) path: &'a str,
    pub(crate) says: &'a Value,
}

impl Operation<'_> {
    /// Its parameters in this place.
    pub(crate) fn parameters(&self, place: &str) -> Vec<&Value> {
        self.says["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == place).collect()
    }

    /// The schema of its body, where it is JSON.
    pub(crate) fn body(&self) -> Option<&Value> {
        self.says.pointer("/requestBody/content/application~1json/schema")
    }

    /// A path of it, to nothing that is there.
    pub(crate) fn path_to_nothing(&self) -> String {
        self.path.split('/').map(|part| if part.starts_with('{') { "nothing" } else { part }).collect::<Vec<_>>().join("/")
    }
}

pub(crate) async fn document(caller: &Caller) -> Value {
    caller.get("/openapi.json").await.ok()
}

pub(crate) fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, says) in item.as_object().unwrap() {
            operations.push(Operation { method: method.to_uppercase(), path, says });
        }
    }
    operations
}

/// What a schema or an answer refers to, or itself.
pub(crate) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{reference} is nowhere")),
        None => value,
    }
}

/// A path without the names of its parameters.
pub(crate) fn anonymous(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
}

/// Calls `look` with every value there is.
fn walk(value: &Value, look: &mut impl FnMut(&Value)) {
    look(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, look)),
        Value::Object(members) => members.values().for_each(|member| walk(member, look)),
        _ => {}
    }
}

#[tokio::test]
async fn it_is_about_every_route_and_about_nothing_else() {
    let server = Server::without_database().await;
    let document = document(&server.caller(None)).await;
    let documented: BTreeSet<_> =
        operations(&document).iter().map(|operation| (operation.method.clone(), anonymous(operation.path))).collect();
    let routes: BTreeSet<_> = ROUTES.iter().map(|route| (route.method.to_owned(), anonymous(route.path))).collect();
    assert_eq!(documented, routes);

    for route in ROUTES {
        let is_it = |operation: &Operation| operation.method == route.method && anonymous(operation.path) == anonymous(route.path);
        let operations = operations(&document);
        let operation = operations.iter().find(|operation| is_it(operation)).unwrap();
        let key = operation.says["security"] == json!([{ "apiKey": [] }]);
        assert_eq!(key, route.needs != Needs::NoKey, "{} {}", route.method, route.path);
        let forbids = operation.says["responses"]["403"] != Value::Null;
        assert_eq!(forbids, !matches!(route.needs, Needs::NoKey | Needs::Read), "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn what_is_not_configured_is_not_in_it() {
    let state = AppState::new(no_database(), Webhooks::default(), None);
    let server = Server::start(state, &RouterOptions::default(), ServeOptions::default()).await;
    let document = document(&server.caller(None)).await;
    assert_eq!(document["paths"]["/admin/migrate"], Value::Null);
    assert_ne!(document["paths"]["/webhooks/github"], Value::Null);
}

#[tokio::test]
async fn it_is_sound() {
    let server = Server::without_database().await;
    let document = document(&server.caller(None)).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["servers"], json!([{ "url": "." }]));

    let mut used = BTreeSet::new();
    walk(&document, &mut |value| {
        if let Some(reference) = value["$ref"].as_str() {
            resolve(&document, value);
            used.insert(reference.to_owned());
        }
        for text in ["description", "summary"].iter().filter_map(|name| value[*name].as_str()) {
            assert!(!text.is_empty() && !text.contains("crate::") && !text.contains("[`"), "{text}");
        }
    });
    for (name, _) in document["components"]["schemas"].as_object().unwrap() {
        assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing refers to {name}");
    }

    let tags: BTreeSet<_> = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    for operation in operations(&document) {
        let says = operation.says;
        let id = says["operationId"].as_str().unwrap();
        assert!(
            ids.insert(id) && id.starts_with(|char: char| char.is_ascii_lowercase()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
        );
        assert!(!says["summary"].as_str().unwrap().ends_with('.'), "{id}");
        assert!(says["tags"].as_array().unwrap().iter().all(|tag| tags.contains(tag.as_str().unwrap())), "{id}");
        for requirement in says["security"].as_array().unwrap() {
            assert!(requirement.as_object().unwrap().keys().all(|scheme| schemes.contains_key(scheme)), "{id}");
        }
        let in_path: Vec<_> = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let declared: Vec<_> = operation.parameters("path").iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(declared, in_path, "{id}");
        for parameter in says["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{id}: {}", parameter["name"]);
        }
        let responses = says["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{id}");
        for (status, response) in responses {
            assert_eq!(status == "500", response["$ref"] == "#/components/responses/Internal", "{id}: {status} is not among the errors");
            assert!(resolve(&document, response)["description"].is_string(), "{id}");
        }
    }

    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (property, says) in schema["properties"].as_object().into_iter().flatten() {
            let described = [says, &says["oneOf"][0]].iter().any(|schema| schema["description"].is_string());
            assert!(described || name == "IssueCounts", "{name}.{property} has no description");
        }
    }
}

/// Where a router is mounted is not its business.
#[tokio::test]
async fn it_is_the_same_wherever_the_router_is_mounted() {
    let state = || AppState::new(no_database(), Webhooks::default(), None);
    let inner = loop_http::router(state(), &RouterOptions::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = Caller::at(&listener.local_addr().unwrap().to_string());
    let outer = axum::Router::new().nest_service("/loop", inner);
    let serving = tokio::spawn(async move { loop_http::serve(listener, outer, &ServeOptions::default(), std::future::pending()).await });
    let nested = nobody.get("/loop/openapi.json").await.ok();
    serving.abort();
    let server = Server::start(state(), &RouterOptions::default(), ServeOptions::default()).await;
    assert_eq!(nested, document(&server.caller(None)).await);
}
