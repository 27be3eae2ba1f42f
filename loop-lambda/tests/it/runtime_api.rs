//! The API that a function's process asks for its events: long polls for the next one, answers, and errors, as Lambda has them.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use loop_http::ServeOptions;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, oneshot},
};

/// How long a function has for an event.
const LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that Lambda takes, and some more.
const LARGEST: usize = 8 << 20;

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Value),
    Error(Value),
}

/// A runtime API for one function at a time.
#[derive(Clone)]
pub(crate) struct RuntimeApi {
    address: std::net::SocketAddr,
    events: mpsc::Sender<(String, Bytes)>,
    shared: Arc<Shared>,
}

struct Shared {
    next: tokio::sync::Mutex<mpsc::Receiver<(String, Bytes)>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Outcome>>>,
    number: AtomicU64,
    asked: Notify,
}

impl RuntimeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (events, next) = mpsc::channel(16);
        let shared =
            Shared { next: tokio::sync::Mutex::new(next), waiting: Mutex::default(), number: AtomicU64::new(0), asked: Notify::new() };
        let api = Self { address: listener.local_addr().unwrap(), events, shared: Arc::new(shared) };
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_event))
            .route(
                "/2018-06-01/runtime/invocation/{id}/response",
                post(async |State(api): State<Self>, id, body| api.done(id, body, Outcome::Answer)),
            )
            .route(
                "/2018-06-01/runtime/invocation/{id}/error",
                post(async |State(api): State<Self>, id, body| api.done(id, body, Outcome::Error)),
            )
            .layer(DefaultBodyLimit::max(LARGEST))
            .with_state(api.clone());
        tokio::spawn(async move { loop_http::serve(listener, routes, &ServeOptions::default(), std::future::pending()).await });
        api
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is called with what was extracted")]
    fn done(&self, Path(id): Path<String>, body: Bytes, outcome: fn(Value) -> Outcome) -> StatusCode {
        let Some(waiting) = self.shared.waiting.lock().unwrap().remove(&id) else { return StatusCode::BAD_REQUEST };
        let Ok(body) = serde_json::from_slice(&body) else { return StatusCode::BAD_REQUEST };
        let _ = waiting.send(outcome(body));
        StatusCode::ACCEPTED
    }

    /// Has the function answer an event.
    pub(crate) async fn invoke(&self, event: &Value) -> Outcome {
        let id = format!("00000000-0000-4000-8000-{:012}", self.shared.number.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        self.shared.waiting.lock().unwrap().insert(id.clone(), answer);
        self.events.send((id, event.to_string().into())).await.unwrap();
        tokio::time::timeout(LIMIT, answered).await.expect("the function answers in time").unwrap()
    }

    /// Waits until a function asks for an event.
    pub(crate) async fn asked(&self) {
        self.shared.asked.notified().await;
    }

    /// A command as Lambda starts it, with these variables and no others.
    pub(crate) fn command(&self, program: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", self.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "loop")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        command
    }
}

async fn next_event(State(api): State<RuntimeApi>) -> Response {
    api.shared.asked.notify_one();
    let Some((id, event)) = api.shared.next.lock().await.recv().await else { return StatusCode::GONE.into_response() };
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + LIMIT;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:123456789012:function:loop".to_owned()),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0".to_owned()),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    (headers, event).into_response()
}
