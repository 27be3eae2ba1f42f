//! The compiled function, behind a runtime API, over a real database.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use loop_core::test_util::{Line, TestDb};
use serde_json::{Value, json};

use crate::{
    adapter::{ADMIN_SECRET, POSTHOG_SECRET, admin_key, config},
    event::{GATEWAYS, GITHUB_SECRET, Gateway, Request},
    runtime_api::{Outcome, RuntimeApi},
    scenario::{Invoke, JSON, play},
};

const FUNCTION: &str = env!("CARGO_BIN_EXE_loop-lambda");

/// A running function. It ends with the test.
struct Function {
    api: RuntimeApi,
    process: Child,
}

impl Function {
    async fn start(database_url: &str) -> Self {
        let api = RuntimeApi::start().await;
        let process = api.command(FUNCTION, &variables(database_url)).stderr(Stdio::null()).spawn().unwrap();
        // From here on it is warm.
        api.asked().await;
        Self { api, process }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Invoke for Function {
    async fn invoke(&mut self, event: &Value) -> Value {
        match self.api.invoke(event).await {
            Outcome::Answer(answer) => answer,
            Outcome::Error(error) => panic!("a function error: {error}"),
        }
    }
}

fn variables(database_url: &str) -> [(&str, &str); 4] {
    [
        ("DATABASE_URL", database_url),
        ("GITHUB_WEBHOOK_SECRET", GITHUB_SECRET),
        ("POSTHOG_WEBHOOK_SECRET", POSTHOG_SECRET),
        ("LOOP_ADMIN_SECRET", ADMIN_SECRET),
    ]
}

fn delivery(id: &str) -> Request {
    Request::github(id, JSON, r#"{"action":"opened"}"#)
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn every_kind_of_event_is_answered() {
    let db = TestDb::new().await;
    let key = admin_key(db.store()).await;
    let mut function = Function::start(db.url()).await;
    for gateway in GATEWAYS {
        play(&mut function, gateway, &format!("{gateway:?}"), &key).await;
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn what_is_no_event_of_http_is_an_error_of_the_function_which_lives_on() {
    let db = TestDb::new().await;
    let mut function = Function::start(db.url()).await;
    let queue = json!({ "Records": [{ "messageId": "1", "eventSource": "aws:sqs", "body": "{}" }] });
    for event in [json!({}), json!([]), json!(null), json!("text"), queue] {
        let Outcome::Error(error) = function.api.invoke(&event).await else { panic!("{event} was answered") };
        assert!(error["errorMessage"].is_string(), "{error}");
        assert_eq!(function.send(&delivery(&event.to_string()), Gateway::Http).await.status, 201);
    }
}

/// Not a test: the process of the one below, which is the function with a route that panics.
#[tokio::test]
async fn a_function_that_panics() {
    if std::env::args().any(|argument| argument == "--nocapture") && std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        let config = config();
        let store = loop_core::LoopStore::builder("postgres://nobody@127.0.0.1:1/nothing").build().unwrap();
        let panicking = Router::new().route("/panic", get(async || -> &'static str { panic!("on purpose") }));
        let router = loop_http::router(config.state(store), &config.router).merge(loop_http::around(panicking, &config.router));
        loop_lambda::run(router).await.unwrap();
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_function_lives_on() {
    let api = RuntimeApi::start().await;
    let this = std::env::current_exe().unwrap();
    let mut command = api.command(this.to_str().unwrap(), &[]);
    command.args(["function::a_function_that_panics", "--exact", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut function = Function { api, process: command.spawn().unwrap() };
    for gateway in GATEWAYS {
        assert_eq!(function.send(&Request::new("GET", "/panic"), gateway).await.error(500), "Internal server error");
        assert_eq!(function.send(&Request::new("GET", "/health"), gateway).await.status, 200);
    }
}

/// What a platform does between two requests, and a database meanwhile.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn connections_that_were_lost_while_the_function_was_frozen_fail_no_request() {
    let db = TestDb::new().await;
    let mut function = Function::start(db.direct_url()).await;
    let end_others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                      AND backend_type = 'client backend' AND application_name = 'loop'";
    for number in 0..5 {
        assert_eq!(function.send(&delivery(&format!("before-{number}")), Gateway::Http).await.status, 201);
        function.signal("-STOP");
        // Longer than the function trusts a connection, however short its sleep was.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let ended = db.store().raw(end_others).await.unwrap();
        assert!(!ended.is_empty(), "the function has a connection");
        function.signal("-CONT");
        assert_eq!(function.send(&delivery(&format!("after-{number}")), Gateway::Http).await.status, 201);
    }
}

/// The same where nobody tells the function that its connection is gone.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn connections_that_fell_silent_while_the_function_was_frozen_fail_no_request() {
    let db = TestDb::new().await;
    let line = Line::to(db.url()).await;
    let mut function = Function::start(line.url()).await;
    assert_eq!(function.send(&delivery("before"), Gateway::FunctionUrl).await.status, 201);
    function.signal("-STOP");
    line.silence(true);
    tokio::time::sleep(Duration::from_millis(150)).await;
    function.signal("-CONT");
    let begin = Instant::now();
    let (delivery, restore) = (delivery("after"), async {
        // The network loses what is sent on the old connection, and takes new ones.
        tokio::time::sleep(Duration::from_millis(500)).await;
        line.silence(false);
    });
    let (answer, ()) = tokio::join!(function.send(&delivery, Gateway::FunctionUrl), restore);
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_database_that_is_away_is_worth_another_try() {
    let db = TestDb::new().await;
    let line = Line::to(db.url()).await;
    line.cut(true);
    let mut function = Function::start(line.url()).await;
    for gateway in GATEWAYS {
        let answer = function.send(&delivery(&format!("{gateway:?}")), gateway).await;
        assert_eq!((answer.status, &answer.headers["retry-after"]), (503, &json!("2")));
        assert_eq!(function.send(&Request::new("GET", "/health"), gateway).await.status, 200);
    }
    line.cut(false);
    for gateway in GATEWAYS {
        assert_eq!(function.send(&delivery(&format!("{gateway:?}")), gateway).await.status, 201);
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn the_schema_is_migrated_by_whoever_has_the_secret() {
    let db = TestDb::unmigrated().await;
    let mut functions = [Function::start(db.url()).await, Function::start(db.url()).await];
    assert_eq!(functions[0].send(&delivery("early"), Gateway::Rest).await.status, 503, "no migration within a request");
    let not_ready = functions[0].send(&Request::new("GET", "/ready"), Gateway::Rest).await;
    assert_eq!(not_ready.json(503)["code"], "not_migrated");
    let migrate = Request::new("POST", "/admin/migrate").with("Authorization", &format!("Bearer {ADMIN_SECRET}"));
    let [one, other] = &mut functions;
    let (one, other) = tokio::join!(one.send(&migrate, Gateway::Rest), other.send(&migrate, Gateway::Rest));
    let mut applied = [one, other].map(|answer| answer.json(200)["applied"].as_array().unwrap().len());
    applied.sort_unstable();
    assert!(applied[0] == 0 && applied[1] > 0, "{applied:?}");
    assert!(functions[0].send(&migrate, Gateway::Rest).await.json(200)["applied"].as_array().unwrap().is_empty());
    assert_eq!(functions[1].send(&delivery("early"), Gateway::Rest).await.status, 201);
}

/// The first request on a fresh connection and each one after it.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_webhook_is_one_round_trip_to_the_database() {
    let db = TestDb::new().await;
    let line = Line::to(db.direct_url()).await;
    line.delay(Duration::from_millis(5));
    let mut function = Function::start(line.url()).await;
    assert_eq!(function.send(&delivery("0"), Gateway::Http).await.status, 201);
    assert_eq!((line.connections(), line.round_trips()), (1, 2), "one to connect, without a password, and one for the statement");
    for number in 1..5 {
        assert_eq!(function.send(&delivery(&number.to_string()), Gateway::Http).await.status, 201);
        assert_eq!(line.round_trips(), 1);
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(function.send(&delivery("rested"), Gateway::Http).await.status, 201);
    assert_eq!((line.connections(), line.round_trips()), (1, 2), "it is asked whether it still works");
}

#[tokio::test]
async fn wrong_settings_end_the_process_with_a_line_each() {
    let api = RuntimeApi::start().await;
    for (variables, expected) in [
        (&[][..], &["loop-lambda: DATABASE_URL: must be set: a function has no disk to keep a database on"][..]),
        (
            &[("DATABASE_URL", "postgres://u:hunter2@h/d?sslmode=sometimes"), ("LOOP_POOL_SIZE", "many")],
            &[
                "loop-lambda: LOOP_POOL_SIZE: must be a whole number from 1 to 1000",
                "loop-lambda: DATABASE_URL: connection string: sslmode must be",
            ],
        ),
        (
            &[("DATABASE_URL", "postgres://u:hunter2@h/d?sslmode=require&sslrootcert=/dev/null")],
            &["loop-lambda: DATABASE_URL: sslrootcert: the file holds no certificate"],
        ),
    ] {
        let mut process = api.command(FUNCTION, variables).stderr(Stdio::piped()).spawn().unwrap();
        let mut shown = String::new();
        process.stderr.take().unwrap().read_to_string(&mut shown).unwrap();
        assert!(!process.wait().unwrap().success());
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{shown}");
        assert!(lines.iter().zip(expected).all(|(line, expected)| line.starts_with(expected)), "{shown}");
        assert!(!shown.contains("hunter2"));
    }
}
