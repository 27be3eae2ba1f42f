//! The service in this process, on events.

use std::{path::PathBuf, process::Command};

use lambda_http::{Context, LambdaEvent, request::LambdaRequest};
use loop_core::{LoopStore, NewApiKey, Role, test_util::TestDb};
use loop_http::Config;
use serde_json::Value;
use tower::{Service, ServiceExt as _};

use crate::{
    event::{GATEWAYS, GITHUB_SECRET, Gateway, Request},
    scenario::{Invoke, play},
};

pub(crate) const POSTHOG_SECRET: &str = "a+b&/c=";
pub(crate) const ADMIN_SECRET: &str = "open-sesame";

/// The service itself.
struct InProcess<S>(S);

impl<S: Service<LambdaEvent<LambdaRequest>, Response: serde::Serialize, Error: std::fmt::Debug>> Invoke for InProcess<S> {
    async fn invoke(&mut self, event: &Value) -> Value {
        let request: LambdaRequest = serde_json::from_value(event.clone()).unwrap();
        let answer = self.0.ready().await.unwrap().call(LambdaEvent::new(request, Context::default())).await.unwrap();
        serde_json::to_value(answer).unwrap()
    }
}

pub(crate) fn config() -> Config {
    let variables = |name: &str| match name {
        "GITHUB_WEBHOOK_SECRET" => Some(GITHUB_SECRET.to_owned()),
        "POSTHOG_WEBHOOK_SECRET" => Some(POSTHOG_SECRET.to_owned()),
        "LOOP_ADMIN_SECRET" => Some(ADMIN_SECRET.to_owned()),
        _ => None,
    };
    Config::from_variables(variables).unwrap()
}

fn in_process(store: &LoopStore) -> impl Invoke {
    let config = config();
    InProcess(loop_lambda::service(loop_http::router(config.state(store.clone()), &config.router)))
}

pub(crate) async fn admin_key(store: &LoopStore) -> String {
    let new = NewApiKey { name: "admin".parse().unwrap(), role: Role::Admin, project_id: None, expires_at: None };
    store.api_keys().create(new).await.unwrap().plaintext.reveal().to_owned()
}

#[tokio::test]
async fn every_kind_of_event_is_answered() {
    let db = TestDb::new().await;
    let key = admin_key(db.store()).await;
    let mut function = in_process(db.store());
    for gateway in GATEWAYS {
        play(&mut function, gateway, &format!("{gateway:?}"), &key).await;
    }
}

/// The address that counts is the one the gateway saw, whatever a client says of itself.
#[tokio::test]
async fn clients_are_told_apart_by_what_the_gateway_saw() {
    let db = TestDb::new().await;
    for gateway in GATEWAYS {
        let mut function = in_process(db.store());
        let wrong = Request::new("POST", "/admin/migrate").with("Authorization", "Bearer wrong");
        let mut statuses = Vec::new();
        for number in 0..70 {
            let address = format!("198.51.100.{number}");
            let lie = wrong.clone().with("X-Forwarded-For", &address).with("Forwarded", &format!("for={address}"));
            statuses.push(function.send(&lie, gateway).await.status);
        }
        assert_eq!((statuses[0], statuses[69]), (401, 429), "{gateway:?}");
        // Another client is not held to it.
        let text = wrong.event(gateway).to_string().replace("192.0.2.1", "192.0.2.2");
        let other = function.invoke(&serde_json::from_str(&text).unwrap()).await;
        assert_eq!(other["statusCode"], 401, "{gateway:?}");
    }
}

#[tokio::test]
async fn what_is_no_host_harms_nobody() {
    let db = TestDb::new().await;
    let mut function = in_process(db.store());
    for gateway in GATEWAYS {
        for host in ["", "a b", "[", "a:b:c", "exa<mple", "user@host", "ü.example", "a/b?c#d"] {
            let health = Request::new("GET", "/health").without("Host").with("Host", host).with("X-Forwarded-Proto", "java script");
            assert_eq!(function.send(&health, gateway).await.status, 200, "{gateway:?} {host}");
        }
    }
}

#[tokio::test]
async fn what_is_no_path_and_no_query_harms_nobody() {
    let db = TestDb::new().await;
    let mut function = in_process(db.store());
    for gateway in GATEWAYS {
        for path in [":x", "*", "", "@host", "health", "/a?b", "/a#b"] {
            let mut event = Request::new("GET", "/health").event(gateway);
            for name in ["path", "rawPath"] {
                if event[name].is_string() {
                    event[name] = path.into();
                }
            }
            let expected = if path == "health" { 200 } else { 404 };
            assert_eq!(function.invoke(&event).await["statusCode"], expected, "{gateway:?} {path}");
        }
    }
    // A wrong limit is named by the route, so the query has arrived there.
    for (query, status) in
        [("limit=\"1\"", 422), ("limit=<1>", 422), ("limit= ", 422), ("limit=\u{1}", 422), ("limit=1#2", 422), ("limit=%31", 200)]
    {
        let key = admin_key(db.store()).await;
        for gateway in [Gateway::Http, Gateway::HttpStage, Gateway::FunctionUrl] {
            let mut event = Request::new("GET", "/api/v1/issues").with("Authorization", &format!("Bearer {key}")).event(gateway);
            event["rawQueryString"] = query.into();
            assert_eq!(function.invoke(&event).await["statusCode"], status, "{gateway:?} {query}");
        }
    }
}

/// HTTP APIs can send what REST APIs do, but for the path, where they leave the stage.
#[tokio::test]
async fn the_older_form_of_events_is_understood() {
    let db = TestDb::new().await;
    let mut function = in_process(db.store());
    let key = admin_key(db.store()).await;
    let mut get = async |resource: &str, path: &str, captured: Option<&str>, path_of_context: &str| {
        let mut event = Request::new("GET", "/").with("Authorization", &format!("Bearer {key}")).event(Gateway::Rest);
        event["resource"] = resource.into();
        event["path"] = path.into();
        event["pathParameters"] = captured.map_or(Value::Null, |captured| serde_json::json!({ "proxy": captured }));
        event["requestContext"]["path"] = path_of_context.into();
        function.invoke(&event).await["statusCode"].as_u64().unwrap()
    };
    // The stage is called `api`, as the first segment of most routes is.
    assert_eq!(get("/{proxy+}", "/api/health", Some("health"), "/api/health").await, 200);
    assert_eq!(get("/{proxy+}", "/api/api/v1/issues", Some("api/v1/issues"), "/api/api/v1/issues").await, 200);
    assert_eq!(get("$default", "/api/api/v1/issues", None, "/api/api/v1/issues").await, 200);
    // A REST API: at its own address, and at a domain that is mapped to the stage.
    assert_eq!(get("/{proxy+}", "/api/v1/issues", Some("api/v1/issues"), "/api/api/v1/issues").await, 200);
    assert_eq!(get("/{proxy+}", "/api/v1/issues", Some("api/v1/issues"), "/api/v1/issues").await, 200);
    assert_eq!(get("/api/v1/issues", "/api/v1/issues", None, "/api/v1/issues").await, 200);
    assert_eq!(get("/{proxy+}", "/apiary/health", Some("apiary/health"), "/apiary/health").await, 404);
}

#[tokio::test]
async fn load_balancers_may_keep_the_port_of_the_client() {
    let db = TestDb::new().await;
    for seen in ["192.0.2.1:4711", "[2001:db8::1]:4711", "2001:db8::1"] {
        let mut function = in_process(db.store());
        let mut event = Request::new("POST", "/admin/migrate").with("Authorization", "Bearer wrong").event(Gateway::LoadBalancer);
        let mut statuses = Vec::new();
        for number in 0..70 {
            event["headers"]["x-forwarded-for"] = format!("198.51.100.{number}, {seen}").into();
            statuses.push(function.invoke(&event).await["statusCode"].clone());
        }
        assert_eq!((&statuses[0], &statuses[69]), (&401.into(), &429.into()), "{seen}");
    }
}

/// The events that come with the crate, of gateways that were asked for something else than Loop.
#[tokio::test]
async fn events_of_others_are_answered_in_order() {
    let db = TestDb::new().await;
    let mut function = in_process(db.store());
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(event) = serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()) else { continue };
        if serde_json::from_value::<LambdaRequest>(event.clone()).is_err() {
            continue;
        }
        let answer = function.invoke(&event).await;
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!((&answer["statusCode"], &body["error"]), (&404.into(), &"Not found".into()), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} of them were events");
}

/// Where the source of `lambda_http` is.
fn fixtures() -> PathBuf {
    let cargo = |args: &[&str]| {
        let output = Command::new(env!("CARGO")).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let version = String::from_utf8(cargo(&["-vV"])).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // What other platforms need is not there.
    let metadata = cargo(&["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host]);
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == "lambda_http").unwrap();
    PathBuf::from(package["manifest_path"].as_str().unwrap()).with_file_name("tests").join("data")
}

#[test]
fn a_stage_is_taken_out_where_it_is_and_nowhere_else() {
    // What the gateways do by themselves: this is about what the tests send.
    let request = Request::new("GET", "/api/v1/issues");
    assert_eq!(request.event(Gateway::Rest)["path"], "/api/v1/issues");
    assert_eq!(request.event(Gateway::HttpStage)["rawPath"], "/api/api/v1/issues");
    assert_eq!(request.event(Gateway::Http)["rawPath"], "/api/v1/issues");
}
