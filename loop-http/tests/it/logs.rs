//! What reaches the logs, when everything is logged: nothing that is secret, and nothing of a payload.

use loop_core::{
    LoopStore,
    test_util::{TestDb, TestServer},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::{Process, released, run, texts, variables},
    signatures::Delivery,
    support::{Answer, GITHUB_SECRET, POSTHOG_KEY, POSTHOG_SECRET, SENTRY_SECRET, send},
};

const FORM: &str = "application/x-www-form-urlencoded";
const PAYLOAD: &str = "the-payload-text";
const TITLE: &str = "the-title-text";
const ADMIN_SECRET: &str = "admin-secret-of-the-logs";
const METRICS_TOKEN: &str = "metrics-token-of-the-logs";
const PASSWORD: &str = "password-of-the-database";
/// A title that the database of these tests refuses, and tells of with the whole row.
const REFUSED: &str = "a-title-that-is-refused";

/// Sends what a day brings, and answers every secret that was in it.
async fn a_day(server: &Process, key: &str) -> Vec<String> {
    let client = reqwest::Client::new();
    let mut secrets: Vec<_> =
        [GITHUB_SECRET, SENTRY_SECRET, POSTHOG_SECRET, POSTHOG_KEY, ADMIN_SECRET, METRICS_TOKEN, PAYLOAD, TITLE, REFUSED, PASSWORD, key]
            .map(str::to_owned)
            .to_vec();
    let call = async |method: &str, path: &str, key: &str, body: Option<Value>| -> Answer {
        let request = client.request(method.parse().unwrap(), server.url(path)).bearer_auth(key);
        send(if let Some(body) = body { request.json(&body) } else { request }).await
    };
    let mut answer = call("POST", "/api/v1/keys", key, Some(json!({ "name": "new" }))).await.created();
    for _ in 0..2 {
        secrets.push(answer["key"].as_str().unwrap().to_owned());
        let rotate = format!("/api/v1/keys/{}/rotate", answer["id"].as_str().unwrap());
        answer = call("POST", &rotate, key, Some(json!({ "graceSeconds": 60 }))).await.ok();
    }
    let unknown = format!("loop_{}", "B".repeat(43));
    let signal = json!({ "source": TITLE, "type": TITLE, "sourceId": TITLE, "payload": { TITLE: PAYLOAD }, "tags": [PAYLOAD] });
    for (method, path, key, body) in [
        ("POST", "/api/v1/issues", key, Some(json!({ "title": TITLE, "signalPayload": { "text": PAYLOAD } }))),
        ("POST", "/api/v1/issues", key, Some(json!({ "title": format!("{TITLE}\0"), "description": PAYLOAD, "parentId": "zz" }))),
        ("POST", "/api/v1/labels", key, Some(json!({ "name": TITLE, "color": "red" }))),
        ("POST", "/api/v1/labels", key, Some(json!({ "name": TITLE, "color": "red" }))),
        ("GET", "/api/v1/issues?q=the-payload-text&projectId=the-payload-text", key, None),
        ("GET", "/api/v1/issues", &unknown, None),
        ("POST", "/admin/migrate", ADMIN_SECRET, None),
        ("POST", "/admin/migrate", "admin-secret-that-is-wrong", None),
        ("GET", "/metrics", METRICS_TOKEN, None),
        ("GET", "/metrics", "metrics-token-that-is-wrong", None),
        ("POST", "/api/v1/issues", key, Some(json!({ PAYLOAD: TITLE, "title": [TITLE], "status": TITLE }))),
        ("POST", "/api/v1/issues", key, Some(json!({ "title": REFUSED, "description": PAYLOAD }))),
        ("POST", "/api/v1/signals", key, Some(signal.clone())),
        ("POST", "/api/v1/signals/batch", key, Some(json!([signal, signal, { "source": TITLE }]))),
        ("POST", "/api/v1/signals/batch", key, Some(json!([signal, signal]))),
        ("GET", "/api/v1/signals?source=the-title-text&metadata=%7B%22rawPayload%22%3A%22the-payload-text%22%7D", key, None),
        ("GET", "/api/v1/issues?cursor=the-payload-text", key, None),
        ("POST", "/api/v1/templates", key, Some(json!({ "slug": TITLE, "name": TITLE, "conditions": { TITLE: PAYLOAD } }))),
        ("POST", "/api/v1/templates", key, Some(json!({ "slug": TITLE, "name": TITLE }))),
        ("POST", "/api/v1/projects", key, Some(json!({ "name": TITLE, "description": PAYLOAD }))),
        ("DELETE", "/health", key, Some(json!({ TITLE: PAYLOAD }))),
        ("POST", "/nothing", key, Some(json!({ TITLE: PAYLOAD }))),
    ] {
        call(method, path, key, body).await;
    }
    secrets.extend([unknown, "admin-secret-that-is-wrong".to_owned(), "metrics-token-that-is-wrong".to_owned()]);

    // What is not even JSON, or too long, and headers that nobody asks for.
    for body in [format!("{{\"{PAYLOAD}"), format!("{{\"title\":\"{TITLE}\",\"title\":{PAYLOAD}}}"), PAYLOAD.repeat(100_000)] {
        let request = client.post(server.url("/api/v1/issues")).bearer_auth(key).header("content-type", "application/json").body(body);
        send(request.header("cookie", PAYLOAD).header("x-request-id", format!("{PAYLOAD} {TITLE}")).header("traceparent", TITLE)).await;
    }
    send(client.get(server.url("/api/v1/issues")).basic_auth(TITLE, Some(PAYLOAD)).header("referer", PAYLOAD).header("user-agent", TITLE))
        .await;

    let body = json!({ "text": PAYLOAD }).to_string();
    let by_query = format!("/webhooks/posthog?secret={POSTHOG_SECRET}");
    for delivery in [
        Delivery::github("issues", "1", body.clone()),
        Delivery::github("issues", "2", body.clone()).signed_with("wrong"),
        Delivery::github("issues", "3", format!("{{\"{PAYLOAD}")),
        Delivery::github("issues", "4", format!("payload=%7B%22a%22%3A%22{PAYLOAD}%22%7D")).with("content-type", FORM),
        Delivery::github("issues", "5", format!("payload={PAYLOAD}")).with("content-type", FORM),
        Delivery::sentry("issue", body.clone()),
        Delivery::sentry("issue", body.clone()).with("sentry-hook-signature", &"0123456789abcdef".repeat(4)),
        Delivery::sentry("issue", format!("{{\"{PAYLOAD}\\u0000\":1}}")),
        Delivery::posthog(body.clone()),
        Delivery::posthog(body.clone()).without("x-posthog-secret").to(&by_query),
        Delivery::posthog(body.clone()).with("x-posthog-secret", "a-wrong-posthog-secret"),
        Delivery::posthog(body.clone()).without("x-posthog-secret").to("/webhooks/posthog?secret=a-wrong-posthog-secret"),
        Delivery::posthog_signed("msg_1", body.clone()),
        Delivery::posthog_signed_at("msg_2", 1_700_000_000, body),
    ] {
        let mut request = client.post(server.url(&delivery.path)).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(*name, value);
            if name.ends_with("signature") || name.contains("signature-256") {
                secrets.push(value.rsplit(['=', ',']).find(|part| part.len() > 20).unwrap().to_owned());
            }
        }
        send(request).await;
    }
    secrets.push("a-wrong-posthog-secret".to_owned());
    secrets
}

fn settings() -> Vec<(&'static str, &'static str)> {
    vec![
        ("LOOP_LOG", "trace"),
        ("GITHUB_WEBHOOK_SECRET", GITHUB_SECRET),
        ("SENTRY_CLIENT_SECRET", SENTRY_SECRET),
        ("POSTHOG_WEBHOOK_SECRET", "posthog-shared-secret,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("LOOP_ADMIN_SECRET", ADMIN_SECRET),
        ("LOOP_METRICS", METRICS_TOKEN),
    ]
}

#[track_caller]
fn assert_hidden(logs: &str, secrets: &[String]) {
    for secret in secrets {
        if let Some(line) = logs.lines().find(|line| line.contains(secret)) {
            panic!("{secret} is in the log: {}", line.chars().take(500).collect::<String>());
        }
    }
    assert!(logs.contains("answered"), "nothing was logged");
}

/// Has the database refuse a title, in words that hold the row.
async fn refuse(store: &LoopStore) {
    store.raw(&format!("ALTER TABLE issues ADD CONSTRAINT nothing_refused CHECK (title <> '{REFUSED}')")).await.unwrap();
}

/// A database for the binary alone, which refuses a title.
async fn refusing() -> TestDb {
    let db = TestDb::new().await;
    refuse(db.store()).await;
    released(db).await
}

#[tokio::test]
async fn nothing_secret_is_logged() {
    let db = refusing().await;
    let mut variables = variables(&db);
    variables.extend(settings());
    let (key, _) = texts(&run(&["keys", "create", "--name", "t", "--role", "admin"], &variables));
    for format in ["text", "json"] {
        let mut variables = variables.clone();
        variables.push(("LOOP_LOG_FORMAT", format));
        let dir = TempDir::new().unwrap();
        let server = Process::serve(&variables, dir.path());
        let secrets = a_day(&server, key.trim()).await;
        let ended = server.stop();
        assert_hidden(&ended.stderr, &secrets);
        assert!(ended.stderr.contains("a request failed") && ended.stderr.contains("SQLSTATE 23514"), "nothing was refused");
        assert_eq!(ended.stdout, "");
    }
}

/// A database that asks for a password, goes away and comes back with another.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn nothing_secret_is_logged_when_the_database_is_away() {
    let mut postgres = TestServer::new();
    postgres.write("pg_hba.conf", "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
    postgres.start(&[]);
    let store = LoopStore::connect(&postgres.url()).await.unwrap();
    store.migrate().await.unwrap();
    store.raw(&format!("CREATE ROLE app SUPERUSER LOGIN PASSWORD '{PASSWORD}'")).await.unwrap();
    refuse(&store).await;
    store.close();
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:{}/postgres?sslmode=disable&connect_timeout=2", postgres.port());
    let mut variables = settings();
    variables.push(("DATABASE_URL", &url));
    let (key, _) = texts(&run(&["keys", "create", "--name", "t", "--role", "admin"], &variables));
    let dir = TempDir::new().unwrap();
    let server = Process::serve(&variables, dir.path());
    let secrets = a_day(&server, key.trim()).await;
    let ask = async || {
        let client = reqwest::Client::new();
        for _ in 0..5 {
            let title = json!({ "title": TITLE, "description": PAYLOAD });
            send(client.post(server.url("/api/v1/issues")).bearer_auth(key.trim()).json(&title)).await;
            send(client.get(server.url("/ready"))).await;
        }
    };
    postgres.kill();
    ask().await;
    postgres.start(&[]);
    ask().await;
    let store = LoopStore::connect(&postgres.url()).await.unwrap();
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
    store.raw(&format!("ALTER ROLE app PASSWORD 'another'; {others}")).await.unwrap();
    ask().await;
    let ended = server.stop();
    assert_hidden(&ended.stderr, &secrets);
    assert!(ended.stderr.contains("a request failed") && ended.stderr.contains("password authentication failed"), "{}", ended.stderr);
    // Nor when the password is wrong from the beginning.
    let server = Process::serve(&variables, dir.path());
    assert_eq!(send(reqwest::Client::new().get(server.url("/ready"))).await.status, 503);
    let ended = server.stop();
    assert!(ended.stderr.contains("a request failed"));
    assert_hidden(&ended.stderr, &secrets);
}

/// A line of the log of the kind `json`, of which all of a request have its id.
fn request_of(line: &Value) -> Option<&str> {
    let request = line["spans"].as_array()?.iter().find(|span| span["name"] == "request")?;
    request["request_id"].as_str()
}

#[tokio::test]
async fn every_line_of_a_request_has_its_id() {
    let db = refusing().await;
    let mut variables = variables(&db);
    let (key, _) = texts(&run(&["keys", "create", "--name", "t", "--role", "admin"], &variables));
    variables.push(("LOOP_LOG_FORMAT", "json"));
    // Where nothing but errors are logged, too, beside the line that says where the server listens.
    for level in ["debug", "error,loop_http::commands=info"] {
        let mut variables = variables.clone();
        variables.push(("LOOP_LOG", level));
        let dir = TempDir::new().unwrap();
        let server = Process::serve(&variables, dir.path());
        let refused =
            reqwest::Client::new().post(server.url("/api/v1/issues")).header("x-request-id", "of-the-refused").bearer_auth(key.trim());
        let refused = send(refused.json(&json!({ "title": REFUSED }))).await;
        assert_eq!((refused.status, refused.header("x-request-id")), (500, Some("of-the-refused")));
        let ended = server.stop();
        let lines: Vec<Value> = ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
        let of_it: Vec<_> = lines.iter().filter(|line| request_of(line) == Some("of-the-refused")).collect();
        let failed: Vec<_> = of_it.iter().filter(|line| line["message"] == "a request failed").collect();
        assert!(failed.len() == 1 && failed[0]["error"].as_str().unwrap().contains("nothing_refused"), "{of_it:#?}");
        if level == "debug" {
            let ran = of_it.iter().find(|line| line["message"] == "a statement ran").unwrap();
            let statement = &ran["span"];
            assert_eq!((&statement["name"], &statement["otel.name"]), (&json!("statement"), &json!("api_keys.authenticate")));
            assert_eq!(statement["rows"], 1);
            assert!(statement["travel"].is_string() && ran["elapsed_ms"].as_f64().unwrap() > 0.0);
            assert!(of_it.iter().any(|line| line["message"] == "a statement failed" && line["span"]["otel.name"] == "issues.create"));
            assert!(of_it.iter().any(|line| line["message"] == "waited for a connection" && line["waited_ms"].is_number()));
            assert!(of_it.iter().any(|line| line["message"] == "answered" && line["status"] == 500));
        }
    }
}

#[cfg(feature = "embedded")]
#[tokio::test]
async fn nothing_secret_is_logged_by_the_embedded_database() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut variables = settings();
    variables.push(("LOOP_DATA_DIR", data.to_str().unwrap()));
    let (key, log) = texts(&run(&["keys", "create", "--name", "t", "--role", "admin"], &variables));
    assert!(!log.contains(key.trim()));
    let server = Process::serve(&variables, dir.path());
    let secrets = a_day(&server, key.trim()).await;
    let ended = server.stop();
    assert_hidden(&ended.stderr, &secrets);
    assert!(!ended.stdout.contains("loop_"), "{}", ended.stdout);
}
