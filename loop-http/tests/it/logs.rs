//! What reaches the logs, when everything is logged: nothing that is secret, and nothing of a payload.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::{Process, database, run, texts, variables},
    signatures::Delivery,
    support::{Answer, GITHUB_SECRET, POSTHOG_KEY, POSTHOG_SECRET, SENTRY_SECRET, send},
};

const PAYLOAD: &str = "the-payload-text";
const TITLE: &str = "the-title-text";
const ADMIN_SECRET: &str = "admin-secret-of-the-logs";

/// Sends what a day brings, and answers every secret that was in it.
async fn a_day(server: &Process, key: &str) -> Vec<String> {
    let client = reqwest::Client::new();
    let mut secrets: Vec<_> =
        [GITHUB_SECRET, SENTRY_SECRET, POSTHOG_SECRET, POSTHOG_KEY, ADMIN_SECRET, PAYLOAD, TITLE, key].map(str::to_owned).to_vec();
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
    for (method, path, key, body) in [
        ("POST", "/api/v1/issues", key, Some(json!({ "title": TITLE, "signalPayload": { "text": PAYLOAD } }))),
        ("POST", "/api/v1/issues", key, Some(json!({ "title": format!("{TITLE}\0"), "description": PAYLOAD, "parentId": "zz" }))),
        ("POST", "/api/v1/labels", key, Some(json!({ "name": TITLE, "color": "red" }))),
        ("POST", "/api/v1/labels", key, Some(json!({ "name": TITLE, "color": "red" }))),
        ("GET", "/api/v1/issues?q=the-payload-text&projectId=the-payload-text", key, None),
        ("GET", "/api/v1/issues", &unknown, None),
        ("POST", "/admin/migrate", ADMIN_SECRET, None),
        ("POST", "/admin/migrate", "admin-secret-that-is-wrong", None),
    ] {
        call(method, path, key, body).await;
    }
    secrets.extend([unknown, "admin-secret-that-is-wrong".to_owned()]);

    let body = json!({ "text": PAYLOAD }).to_string();
    let by_query = format!("/webhooks/posthog?secret={POSTHOG_SECRET}");
    for delivery in [
        Delivery::github("issues", "1", body.clone()),
        Delivery::github("issues", "2", body.clone()).signed_with("wrong"),
        Delivery::github("issues", "3", format!("{{\"{PAYLOAD}")),
        Delivery::sentry("issue", body.clone()),
        Delivery::sentry("issue", format!("{{\"{PAYLOAD}\\u0000\":1}}")),
        Delivery::posthog(body.clone()),
        Delivery::posthog(body.clone()).without("x-posthog-secret").to(&by_query),
        Delivery::posthog(body.clone()).with("x-posthog-secret", "a-wrong-posthog-secret"),
        Delivery::posthog_signed("msg_1", body),
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

#[tokio::test]
async fn nothing_secret_is_logged() {
    let db = database(true).await;
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
        assert_eq!(ended.stdout, "");
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
