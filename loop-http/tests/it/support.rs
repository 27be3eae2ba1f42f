//! A server to talk to, and callers that talk to it.

use std::{borrow::Borrow, net::SocketAddr, time::Duration};

use loop_core::{
    LoopStore, NewApiKey, Role, Timestamp,
    test_util::TestDb,
    webhook::{GithubVerifier, PosthogVerifier, Secrets, SentryVerifier},
};
use loop_http::{AppState, MetricsAccess, RouterOptions, ServeOptions, Webhooks, config::BearerSecret};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

pub(crate) use crate::answer::{Answer, assert_changed, assert_row, id, ids, is_id, is_time};

pub(crate) const GITHUB_SECRET: &str = "github secret, the old one";
pub(crate) const GITHUB_NEW_SECRET: &str = "github secret, the new one";
pub(crate) const SENTRY_SECRET: &str = "sentry-client-secret";
pub(crate) const POSTHOG_SECRET: &str = "posthog-shared-secret";
pub(crate) const POSTHOG_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const ADMIN_SECRET: &str = "open-sesame";

/// All three providers, two of them with two secrets.
pub(crate) fn webhooks() -> Webhooks {
    Webhooks {
        github: Some(GithubVerifier::new(Secrets::new([GITHUB_SECRET, GITHUB_NEW_SECRET]).unwrap())),
        sentry: Some(SentryVerifier::new(Secrets::new([SENTRY_SECRET]).unwrap())),
        posthog: Some(PosthogVerifier::new(Secrets::new([POSTHOG_SECRET, POSTHOG_KEY]).unwrap()).unwrap()),
        ..Webhooks::default()
    }
}

/// The routes over a store, with every provider, the admin secret and metrics configured.
pub(crate) fn state(store: &LoopStore) -> AppState {
    AppState::new(store.clone(), webhooks(), BearerSecret::new(ADMIN_SECRET)).with_metrics(MetricsAccess::Anyone)
}

/// A store whose database does not answer, for what needs none.
pub(crate) fn no_database() -> LoopStore {
    LoopStore::builder("postgres://nobody@127.0.0.1:1/nothing?sslmode=disable").build().unwrap()
}

/// A running server. It ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<bool>,
}

impl Server {
    pub(crate) async fn start(state: AppState, router: &RouterOptions, options: ServeOptions) -> Self {
        Self::serve(loop_http::router(state, router), options).await
    }

    pub(crate) async fn serve(router: axum::Router, options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            loop_http::serve(listener, router, &options, stopped).await
        });
        Self { address, stop, serving }
    }

    /// A server with the usual settings, for what needs no database.
    pub(crate) async fn without_database() -> Self {
        Self::start(state(&no_database()), &RouterOptions::default(), ServeOptions::default()).await
    }

    pub(crate) fn caller(&self, key: Option<&str>) -> Caller {
        let client = reqwest::Client::builder().timeout(Duration::from_mins(1)).build().unwrap();
        Caller { client, base: format!("http://{}", self.address), key: key.map(str::to_owned) }
    }

    /// Tells it to stop, and waits until it has. Whether every request was finished.
    pub(crate) async fn stop(self) -> bool {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap()
    }
}

/// A server over a database of its own.
pub(crate) struct TestApp {
    pub(crate) server: Server,
    pub(crate) db: TestDb,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::over(TestDb::new().await).await
    }

    pub(crate) async fn over(db: TestDb) -> Self {
        let server = Server::start(state(db.store()), &RouterOptions::default(), ServeOptions::default()).await;
        Self { server, db }
    }

    /// A server over an empty database, and a caller who may do everything.
    pub(crate) async fn with_admin() -> (Self, Caller) {
        let app = Self::start().await;
        let admin = app.caller(Role::Admin, None).await;
        (app, admin)
    }

    /// A caller with a key of this role, bound to this project if there is one.
    pub(crate) async fn caller(&self, role: Role, project: Option<&str>) -> Caller {
        self.server.caller(Some(&self.key(role, project, None).await))
    }

    /// A new key in plain text.
    pub(crate) async fn key(&self, role: Role, project: Option<&str>, expires_at: Option<Timestamp>) -> String {
        let project_id = project.map(|project| project.parse().unwrap());
        let new = NewApiKey { name: "a test's".parse().unwrap(), role, project_id, expires_at };
        self.db.store().api_keys().create(new).await.unwrap().plaintext.reveal().to_owned()
    }

    /// A caller without a key.
    pub(crate) fn nobody(&self) -> Caller {
        self.server.caller(None)
    }

    /// What a query answers, as text: the first column of every row.
    pub(crate) async fn query(&self, sql: &str) -> Vec<String> {
        let rows = self.db.store().raw(sql).await.unwrap();
        rows.into_iter().map(|row| row.into_iter().next().flatten().unwrap_or_default()).collect()
    }
}

/// Somebody who calls the API.
#[derive(Clone)]
pub(crate) struct Caller {
    client: reqwest::Client,
    base: String,
    pub(crate) key: Option<String>,
}

impl Caller {
    /// Somebody without a key who calls what listens at this address.
    pub(crate) fn at(address: &str) -> Self {
        Self { client: reqwest::Client::new(), base: format!("http://{address}"), key: None }
    }

    /// The same caller under another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let request = self.request(method, path);
        send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    pub(crate) async fn get(&self, path: impl AsRef<str>) -> Answer {
        self.call("GET", path.as_ref(), None).await
    }

    pub(crate) async fn post(&self, path: impl AsRef<str>, body: impl Borrow<Value>) -> Answer {
        self.call("POST", path.as_ref(), Some(body.borrow())).await
    }

    pub(crate) async fn patch(&self, path: impl AsRef<str>, body: impl Borrow<Value>) -> Answer {
        self.call("PATCH", path.as_ref(), Some(body.borrow())).await
    }

    pub(crate) async fn put(&self, path: impl AsRef<str>) -> Answer {
        self.call("PUT", path.as_ref(), None).await
    }

    pub(crate) async fn delete(&self, path: impl AsRef<str>) -> Answer {
        self.call("DELETE", path.as_ref(), None).await
    }

    /// Posts these bytes as they are.
    pub(crate) async fn post_raw(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        send(self.request("POST", path).header(CONTENT_TYPE, content_type).body(body)).await
    }

    /// The ids of a list, in its order.
    pub(crate) async fn ids(&self, path: impl AsRef<str>) -> Vec<String> {
        ids(&self.get(path).await.ok())
    }

    pub(crate) async fn project(&self, name: &str) -> String {
        id(&self.post("/api/v1/projects", json!({ "name": name })).await.created())
    }

    pub(crate) async fn issue(&self, title: &str) -> Value {
        self.post("/api/v1/issues", json!({ "title": title })).await.created()
    }

    pub(crate) async fn label(&self, name: &str) -> String {
        id(&self.post("/api/v1/labels", json!({ "name": name, "color": "#abc" })).await.created())
    }

    pub(crate) async fn template(&self, slug: &str) -> String {
        id(&self.post("/api/v1/templates", json!({ "slug": slug, "name": slug })).await.created())
    }
}

pub(crate) async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}
