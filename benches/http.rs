//! A request through the whole router, beside the call of the store it comes to: what HTTP, the key and JSON cost. The same over a connection
//! that is kept, beside the router in process. And what counting and measuring costs.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use axum::{Router, body::Body};
use benches::{Bench, Delivery, Place, Server, Way, largest, nothing, twin};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{
    Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use loop_core::{
    DeliveryKey, IssueFilter, LoopStore, NewApiKey, NewIssue, PageRequest, Role,
    webhook::{GithubVerifier, Secrets, github_signal},
};
use loop_http::{AppState, MetricsAccess, RouterOptions, ServeOptions, Webhooks};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tower::ServiceExt as _;

async fn read<B: http_body::Body<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static>(response: Response<B>) -> Bytes {
    assert!(response.status().is_success(), "{}", response.status());
    axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap()
}

/// In process, without a connection.
async fn ask(router: &Router, request: Request<Body>) -> Bytes {
    read(router.clone().oneshot(request).await.unwrap()).await
}

/// Over a connection that is kept.
struct Client(Mutex<SendRequest<Body>>);

impl Client {
    /// Serves a router as the server does, and connects to it.
    async fn of(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move { loop_http::serve(listener, router, &ServeOptions::default(), std::future::pending()).await });
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(Mutex::new(sender))
    }

    async fn ask(&self, request: Request<Body>) -> Bytes {
        let mut sender = self.0.lock().await;
        sender.ready().await.unwrap();
        read(sender.send_request(request).await.unwrap()).await
    }
}

/// Three ways to the same answer: over a connection, through the router, and from the store.
struct Ways<'b, 'c> {
    bench: &'b mut Bench<'c>,
    router: Router,
    client: Client,
}

impl Ways<'_, '_> {
    fn compare<I, O>(&mut self, name: &str, request: impl Fn() -> Request<Body>, input: impl Fn() -> I, call: impl AsyncFn(I) -> O) {
        let (router, client) = (&self.router, &self.client);
        self.bench.pair(
            &format!("http/{name}"),
            &Way::new("router", &request, async |request| ask(router, request).await),
            &Way::new("store", &input, &call),
        );
        self.bench.pair(
            &format!("http/{name}_over_loopback"),
            &Way::new("connection", &request, async |request| client.ask(request).await),
            &Way::new("router", &request, async |request| ask(router, request).await),
        );
    }
}

fn http(c: &mut Criterion) {
    let bench = &mut Bench::new(c);
    let server = bench.runtime.block_on(Server::start(Place::Memory));
    let (store, key, issue) = bench.runtime.block_on(async {
        let store = server.filled("http", largest().min(10_000)).await.store().await;
        let new = NewApiKey { name: "bench".parse().unwrap(), role: Role::Write, project_id: None, expires_at: None };
        let key = format!("Bearer {}", store.api_keys().create(new).await.unwrap().plaintext.reveal());
        let id = store.raw("SELECT 'i' || left(md5('1'), 23)").await.unwrap()[0][0].as_ref().unwrap().parse().unwrap();
        (store, key, id)
    });
    let github = GithubVerifier::new(Secrets::new([Delivery::SECRET]).unwrap());
    let state = AppState::new(store.clone(), Webhooks { github: Some(github), ..Webhooks::default() }, None);
    let router = loop_http::router(state.clone(), &RouterOptions::default());
    let client = bench.runtime.block_on(Client::of(router.clone()));
    let request = |method: &str, path: &str, body: Body| {
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost").header(AUTHORIZATION, &key);
        request.header(CONTENT_TYPE, "application/json").body(body).unwrap()
    };
    let get = |path: String| move || request("GET", &path, Body::empty());

    let metrics = loop_http::router(state.with_metrics(MetricsAccess::Anyone), &RouterOptions::default());
    for (name, path) in [("health", "/health".to_owned()), ("issue_detail", format!("/api/v1/issues/{issue}"))] {
        let request = get(path);
        bench.pair(
            &format!("http/{name}_with_metrics"),
            &Way::new("metrics", &request, async |request| ask(&metrics, request).await),
            &Way::new("plain", &request, async |request| ask(&router, request).await),
        );
    }

    let store: &LoopStore = &store;
    let mut ways = Ways { bench, router, client };
    let detail = get(format!("/api/v1/issues/{issue}"));
    ways.compare("issue_detail", detail, nothing, async |()| store.issues().detail(&issue).await.unwrap());
    let (filter, page) = (IssueFilter::default(), PageRequest::first());
    let list = get("/api/v1/issues".to_owned());
    ways.compare("list_50", list, nothing, async |()| store.issues().list(&filter, &page).await.unwrap());
    let create = || request("POST", "/api/v1/issues", Body::from(r#"{"title": "The login page is blank"}"#));
    let new = || NewIssue::titled("The login page is blank".parse().unwrap());
    ways.compare("create_issue", create, new, async |new| store.issues().create(new).await.unwrap());

    let delivery = Delivery::of_github(1 << 10);
    let signal = github_signal(&delivery.headers, &delivery.body).unwrap().into_signal().unwrap();
    let webhook = || {
        let mut request = Request::post("/webhooks/github").header(HOST, "localhost").body(Body::from(delivery.body.clone())).unwrap();
        request.headers_mut().extend(delivery.headers.clone());
        request.headers_mut().insert("x-github-delivery", twin::id().parse().unwrap());
        request
    };
    let signal = || {
        let mut signal = signal.clone();
        signal.delivery = Some(DeliveryKey::named(&twin::id()));
        signal
    };
    ways.compare("webhook_github_1KB", webhook, signal, async |signal| store.signals().ingest(signal).await.unwrap());
}

criterion_group!(benches, http);
criterion_main!(benches);
