//! `GET /metrics`: what is counted, under which labels, and who may see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use loop_core::{LoopStore, Role, test_util::TestDb};
use loop_http::{AppState, MetricsAccess, RouterOptions, ServeOptions, Webhooks, config::BearerSecret};
use serde_json::{Value, json};

use crate::{
    signatures::Delivery,
    support::{Caller, Server, TestApp, no_database, state},
    wire::{Wire, head},
};

const TOKEN: &str = "the-token-of-the-scraper";

async fn server(state: AppState) -> Server {
    Server::start(state, &RouterOptions::default(), ServeOptions::default()).await
}

/// A server that shows its metrics to anybody, over an empty database.
async fn measured() -> (TestApp, Caller) {
    let db = TestDb::new().await;
    let server = server(state(db.store())).await;
    let app = TestApp { server, db };
    let admin = app.caller(Role::Admin, None).await;
    (app, admin)
}

/// The samples of a scrape, by name and labels as they stand.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(caller: &Caller) -> Self {
        let answer = caller.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let samples = answer.text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        };
        Self(samples.map(sample).collect())
    }

    /// The value of a sample; nothing was counted of one that is not there.
    fn value(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or_default()
    }

    #[track_caller]
    fn assert(&self, expected: &[(&str, f64)]) {
        for (sample, value) in expected {
            let near: Vec<_> =
                self.0.iter().filter(|(name, _)| name.split('{').next() == sample.split('{').next() && !name.contains("_bucket")).collect();
            assert!((self.value(sample) - value).abs() < f64::EPSILON, "{sample} is not {value}: {near:#?}");
        }
    }

    /// The names of what is there, without the parts of histograms.
    fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(|sample| sample.split('{').next().unwrap()).collect()
    }

    /// Every value that this label has anywhere.
    fn values_of(&self, label: &str) -> BTreeSet<String> {
        let start = format!("{label}=\"");
        let value = |sample: &String| Some(sample.split_once(&start)?.1.split('"').next().unwrap().to_owned());
        self.0.keys().filter_map(value).collect()
    }
}

#[tokio::test]
async fn requests_are_counted_by_template_method_and_status() {
    let (_app, admin) = measured().await;
    let issue = admin.issue("counted").await;
    for _ in 0..3 {
        admin.get(format!("/api/v1/issues/{}", issue["id"].as_str().unwrap())).await.ok();
    }
    admin.get(format!("/api/v1/issues/{}", issue["number"])).await.ok();
    assert_eq!(admin.get("/api/v1/issues/abcdefghijklmnopqrstuvwx").await.status, 404);
    assert_eq!(admin.post("/api/v1/issues", json!({ "title": "" })).await.status, 422);
    assert_eq!(admin.call("DELETE", "/api/v1/issues", None).await.status, 405);
    for path in ["/nothing", "/no/thing/{id}", "/api/v1/issuez?title=a"] {
        assert_eq!(admin.call("BREW", path, None).await.status, 404);
    }
    let scrape = Scrape::of(&admin).await;
    scrape.assert(&[
        ("loop_http_requests_total{method=\"POST\",route=\"/api/v1/issues\",status=\"201\"}", 1.0),
        ("loop_http_requests_total{method=\"GET\",route=\"/api/v1/issues/{id}\",status=\"200\"}", 4.0),
        ("loop_http_requests_total{method=\"GET\",route=\"/api/v1/issues/{id}\",status=\"404\"}", 1.0),
        ("loop_http_requests_total{method=\"POST\",route=\"/api/v1/issues\",status=\"422\"}", 1.0),
        ("loop_http_requests_total{method=\"DELETE\",route=\"/api/v1/issues\",status=\"405\"}", 1.0),
        ("loop_http_requests_total{method=\"other\",route=\"unmatched\",status=\"404\"}", 3.0),
        ("loop_http_request_duration_seconds_count{method=\"GET\",route=\"/api/v1/issues/{id}\"}", 5.0),
        ("loop_http_request_duration_seconds_bucket{method=\"GET\",route=\"/api/v1/issues/{id}\",le=\"+Inf\"}", 5.0),
        ("loop_http_errors_total{route=\"/api/v1/issues/{id}\",code=\"not_found\"}", 1.0),
        ("loop_http_errors_total{route=\"/api/v1/issues\",code=\"validation\"}", 1.0),
        ("loop_http_errors_total{route=\"/api/v1/issues\",code=\"method_not_allowed\"}", 1.0),
        ("loop_http_errors_total{route=\"unmatched\",code=\"not_found\"}", 3.0),
        // The scrape itself.
        ("loop_http_requests_in_flight", 1.0),
    ]);
    Scrape::of(&admin).await.assert(&[("loop_http_requests_total{method=\"GET\",route=\"/metrics\",status=\"200\"}", 1.0)]);
}

#[tokio::test]
async fn statements_are_measured_by_name_and_their_failures_by_kind() {
    let (app, admin) = measured().await;
    admin.issue("one").await;
    admin.get("/api/v1/issues?status=open&total=true").await.ok();
    let label = admin.label("taken").await;
    assert_eq!(admin.post("/api/v1/labels", json!({ "name": "taken", "color": "red" })).await.status, 409);
    admin.patch(format!("/api/v1/labels/{label}"), json!({ "color": "blue" })).await.ok();
    app.query("ALTER TABLE goals RENAME TO goals_away").await;
    assert_eq!(admin.get("/api/v1/goals").await.status, 503);
    // The connection that failed is not kept.
    admin.get("/api/v1/labels").await.ok();
    let scrape = Scrape::of(&admin).await;
    scrape.assert(&[
        ("loop_db_statement_duration_seconds_count{statement=\"issues.create\"}", 1.0),
        ("loop_db_statement_duration_seconds_count{statement=\"issues.list\"}", 1.0),
        ("loop_db_statement_duration_seconds_count{statement=\"issues.count\"}", 1.0),
        ("loop_db_statement_duration_seconds_count{statement=\"labels.update\"}", 1.0),
        ("loop_db_statement_duration_seconds_count{statement=\"labels.create\"}", 2.0),
        ("loop_db_statement_failures_total{statement=\"labels.create\",kind=\"conflict\"}", 1.0),
        ("loop_db_statement_failures_total{statement=\"goals.list\",kind=\"unavailable\"}", 1.0),
        ("loop_db_pool_max_connections", f64::from(u32::try_from(app.db.max_connections().min(4)).unwrap())),
        ("loop_db_pool_waiting", 0.0),
        ("loop_db_pool_connections{state=\"used\"}", 0.0),
    ]);
    assert!(scrape.value("loop_db_pool_wait_seconds_count") >= 7.0);
    assert!(scrape.value("loop_db_pool_connections{state=\"idle\"}") >= 1.0);
    // Every statement has a name, also what is put together.
    let names = scrape.values_of("statement");
    assert!(
        names.iter().all(|name| name.split_once('.').is_some_and(|(entity, what)| !entity.is_empty() && !what.is_empty())),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_away_is_counted() {
    let server = server(state(&no_database())).await;
    let nobody = server.caller(None);
    assert_eq!(nobody.get("/ready").await.status, 503);
    Scrape::of(&nobody).await.assert(&[
        ("loop_db_pool_failures_total{kind=\"unavailable\"}", 1.0),
        ("loop_db_pool_connections{state=\"idle\"}", 0.0),
        ("loop_http_errors_total{route=\"/ready\",code=\"unavailable\"}", 1.0),
    ]);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn what_waits_and_what_takes_too_long_is_counted() {
    let (app, admin) = measured().await;
    let url = app.db.url();
    let store = LoopStore::builder(url).pool_size(1).wait_timeout(Duration::from_millis(300)).statement_timeout(Duration::from_millis(100));
    let store = store.connect().await.unwrap();
    let slow = server(state(&store)).await;
    let caller = slow.caller(admin.key.as_deref());
    // Somebody has the table for themselves.
    let (locked, unlock) = (tokio::sync::oneshot::channel(), tokio::sync::oneshot::channel::<()>());
    let holder = app.db.store().clone();
    let holding = tokio::spawn(async move {
        holder
            .transaction(async |tx| {
                tx.labels().create(loop_core::NewLabel { name: "mine".parse().unwrap(), color: "red".parse().unwrap() }).await?;
                locked.0.send(()).unwrap();
                let _ = unlock.1.await;
                Ok::<_, loop_core::Error>(())
            })
            .await
    });
    locked.1.await.unwrap();
    assert_eq!(caller.post("/api/v1/labels", json!({ "name": "mine", "color": "red" })).await.status, 503);
    unlock.0.send(()).unwrap();
    holding.await.unwrap().unwrap();
    // The only connection is taken.
    let taken = store
        .transaction(async |_| {
            assert_eq!(caller.get("/api/v1/labels").await.status, 503);
            let scrape = Scrape::of(&caller).await;
            scrape.assert(&[("loop_db_pool_connections{state=\"used\"}", 1.0), ("loop_db_pool_failures_total{kind=\"timeout\"}", 1.0)]);
            Ok::<_, loop_core::Error>(())
        })
        .await;
    taken.unwrap();
    let scrape = Scrape::of(&caller).await;
    let timed_out = "loop_db_statement_failures_total{statement=\"labels.create\",kind=\"timeout\"}";
    let cancelled = "loop_db_statement_failures_total{statement=\"labels.create\",kind=\"unavailable\"}";
    // The server's limit and the client's are the same, and either may be first.
    assert!((scrape.value(timed_out) + scrape.value(cancelled) - 1.0).abs() < f64::EPSILON, "{:#?}", scrape.values_of("kind"));
}

#[tokio::test]
async fn deliveries_are_counted_by_provider_and_result() {
    let (_app, admin) = measured().await;
    let body = json!({ "action": "opened" }).to_string();
    let by_query = "/webhooks/posthog?secret=posthog-shared-secret";
    for (delivery, status) in [
        (Delivery::github("issues", "1", body.clone()), 201),
        (Delivery::github("issues", "1", body.clone()), 200),
        (Delivery::github("issues", "2", body.clone()).signed_with("wrong"), 401),
        (Delivery::github("issues", "2", body.clone()).without("x-hub-signature-256"), 401),
        (Delivery::sentry("issue", body.clone()), 201),
        (Delivery::sentry("issue", body.clone()).with("sentry-hook-signature", "00"), 401),
        (Delivery::posthog(body.clone()), 201),
        (Delivery::posthog(body.clone()).without("x-posthog-secret").to(by_query), 200),
        (Delivery::posthog(body.clone()).with("x-posthog-secret", "wrong"), 401),
        (Delivery::posthog(body.clone()).without("x-posthog-secret"), 401),
        (Delivery::posthog_signed_at("msg_1", 1_700_000_000, body.clone()), 401),
    ] {
        assert_eq!(delivery.send(&admin).await.status, status, "{delivery:?}");
    }
    let signal = json!({ "source": "monitor", "type": "outage" });
    admin.post("/api/v1/signals", &signal).await.created();
    admin.post("/api/v1/signals/batch", json!([signal, signal])).await.created();
    let scrape = Scrape::of(&admin).await;
    let deliveries = |provider: &str, result: &str| format!("loop_webhook_deliveries_total{{provider=\"{provider}\",result=\"{result}\"}}");
    for (provider, result, count) in [
        ("GitHub", "verified", 2.0),
        ("GitHub", "invalid_signature", 1.0),
        ("GitHub", "missing_signature", 1.0),
        ("Sentry", "verified", 1.0),
        ("Sentry", "invalid_signature", 1.0),
        ("PostHog", "verified", 2.0),
        ("PostHog", "invalid_secret", 1.0),
        ("PostHog", "missing_secret", 1.0),
        ("PostHog", "stale_timestamp", 1.0),
    ] {
        scrape.assert(&[(&deliveries(provider, result), count)]);
    }
    scrape.assert(&[
        ("loop_signals_total{outcome=\"ingested\"}", 6.0),
        ("loop_signals_total{outcome=\"redelivered\"}", 2.0),
        ("loop_signals_total{outcome=\"deduplicated\"}", 0.0),
    ]);
    assert!(scrape.0.contains_key("loop_signals_total{outcome=\"deduplicated\"}"));
}

#[tokio::test]
async fn deliveries_to_what_is_not_configured_are_counted() {
    let state = AppState::new(no_database(), Webhooks::default(), None).with_metrics(MetricsAccess::Anyone);
    let nobody = server(state).await.caller(None);
    for path in ["/webhooks/github", "/webhooks/sentry", "/webhooks/posthog"] {
        assert_eq!(nobody.post(path, json!({})).await.error(503, "not_configured").split(' ').nth(1), Some("webhooks"));
    }
    let sample = |provider| format!("loop_webhook_deliveries_total{{provider=\"{provider}\",result=\"not_configured\"}}");
    Scrape::of(&nobody).await.assert(&[(&sample("GitHub"), 1.0), (&sample("Sentry"), 1.0), (&sample("PostHog"), 1.0)]);
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted_once() {
    let server = server(state(&no_database())).await;
    let nobody = server.caller(None);
    let mut wire = Wire::connect(server.address).await;
    wire.send(head("POST", "/webhooks/github", None, &[("Content-Length", "10")])).await.unwrap();
    let in_flight = async |count: f64| {
        while (Scrape::of(&nobody).await.value("loop_http_requests_in_flight") - count).abs() > f64::EPSILON {
            tokio::task::yield_now().await;
        }
    };
    in_flight(2.0).await;
    drop(wire);
    in_flight(1.0).await;
    let gone = "loop_http_requests_total{method=\"POST\",route=\"/webhooks/github\",status=\"";
    let scrape = Scrape::of(&nobody).await;
    let counted: f64 = scrape.0.iter().filter(|(sample, _)| sample.starts_with(gone)).map(|(_, count)| count).sum();
    assert!((counted - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn metrics_are_for_whom_they_are_switched_on() {
    let off = server(AppState::new(no_database(), Webhooks::default(), None)).await;
    assert_eq!(off.caller(None).get("/metrics").await.error(404, "not_found"), "Not found");

    let access = MetricsAccess::Bearer(BearerSecret::new(TOKEN).unwrap());
    let server = server(state(&no_database()).with_metrics(access)).await;
    let nobody = server.caller(None);
    assert_eq!(nobody.get("/metrics").await.error(401, "unauthorized"), "Missing or malformed Authorization header");
    let wrong = nobody.with_key("the-token-of-another").get("/metrics").await;
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer"));
    assert_eq!(wrong.error(401, "unauthorized"), "Invalid metrics token");
    let scrape = Scrape::of(&nobody.with_key(TOKEN)).await;
    scrape.assert(&[("loop_http_requests_total{method=\"GET\",route=\"/metrics\",status=\"401\"}", 2.0)]);
    // Guesses are limited like those of keys.
    let mut guesses = 0;
    while nobody.with_key("the-token-of-another").get("/metrics").await.status == 401 {
        guesses += 1;
        assert!(guesses < 500);
    }
}

#[tokio::test]
async fn routers_in_one_process_count_for_themselves() {
    let db = TestDb::new().await;
    let one = server(state(db.store())).await.caller(None);
    let other = server(state(db.store())).await.caller(None);
    one.get("/ready").await.ok();
    one.get("/health").await.ok();
    let (one, other) = (Scrape::of(&one).await, Scrape::of(&other).await);
    let health = "loop_http_requests_total{method=\"GET\",route=\"/health\",status=\"200\"}";
    assert_eq!((one.value(health), other.value(health)), (1.0, 0.0));
    assert!(!one.values_of("statement").is_empty() && other.values_of("statement").is_empty());
}

const MARK: &str = "chosen-by-a-client";

/// What a client chooses must not become a label, or anybody could fill the memory of the server and of who scrapes it.
#[tokio::test]
async fn no_label_holds_what_a_client_sent() {
    let (_app, admin) = measured().await;
    for path in ["/", "/api/v1/issues/", "/api/v1/labels/", "/webhooks/", "/metrics/"] {
        admin.get(format!("{path}{MARK}/{MARK}?{MARK}={MARK}")).await;
        admin.get(format!("{path}{MARK}")).await;
    }
    admin.post("/api/v1/signals", json!({ "source": MARK, "type": MARK, "sourceId": MARK })).await.created();
    admin.with_key(MARK).get("/api/v1/issues").await;
    admin.request(MARK, "/health").header("x-request-id", MARK).header("user-agent", MARK).send().await.unwrap();
    Delivery::github(MARK, MARK, json!({ "action": MARK }).to_string()).send(&admin).await;
    let text = admin.get("/metrics").await.text;
    assert!(!text.contains(MARK) && !text.contains(admin.key.as_ref().unwrap()), "{text}");
    let before = Scrape::of(&admin).await.0.len();
    for number in 0..50 {
        admin.get(format!("/api/v1/issues/{number}/{MARK}{number}")).await;
        admin.get(format!("/api/v1/issues/{}", 1000 + number)).await;
    }
    assert!(Scrape::of(&admin).await.0.len() <= before + 40);
}

/// The dashboard that comes with the source asks for what is there, and for nothing else.
#[tokio::test]
async fn the_dashboard_shows_what_is_served() {
    let dashboard = include_str!("../../../examples/grafana/dashboard.json");
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let mut asked = BTreeSet::new();
    let panels = dashboard["panels"].as_array().unwrap();
    for expression in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten().map(|target| target["expr"].as_str().unwrap())
    {
        let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        asked.extend(words.filter(|word| word.starts_with("loop_") || word.starts_with("process_")));
    }
    assert!(asked.len() >= 15, "{asked:?}");

    let (app, admin) = measured().await;
    Delivery::github("ping", "1", "{}").send(&admin).await;
    app.query("ALTER TABLE goals RENAME TO goals_away").await;
    assert_eq!(admin.get("/api/v1/goals").await.status, 503);
    // What can only be counted where a database is away.
    let away = server(state(&no_database())).await;
    away.caller(None).get("/ready").await;
    let (scrape, away) = (Scrape::of(&admin).await, Scrape::of(&away.caller(None)).await);
    let served: BTreeSet<_> = scrape.names().into_iter().chain(away.names()).collect();
    assert!(asked.is_subset(&served), "{:?} are not served", asked.difference(&served).collect::<Vec<_>>());
    // And nothing that is served is left out of it, but for the parts of histograms.
    let part = |name: &&&str| name.ends_with("_sum") || name.ends_with("_count") || name.starts_with("process_start");
    let unseen: Vec<_> = served.difference(&asked).filter(|name| !part(name)).collect();
    assert!(unseen.is_empty(), "{unseen:?} are not shown");
}
