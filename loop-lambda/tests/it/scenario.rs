//! What must hold for every kind of event, whoever hands it to the function.

use serde_json::{Value, json};

use crate::event::{Answer, Gateway, Request, STAGE};

pub(crate) const JSON: &str = "application/json";

/// Whoever hands events to the function.
pub(crate) trait Invoke {
    async fn invoke(&mut self, event: &Value) -> Value;

    async fn send(&mut self, request: &Request, gateway: Gateway) -> Answer {
        Answer::new(&self.invoke(&request.event(gateway)).await, gateway)
    }
}

/// Sends what a client sends through one kind of gateway. The name keeps deliveries of several runs apart; the key opens everything.
pub(crate) async fn play(function: &mut impl Invoke, gateway: Gateway, name: &str, key: &str) {
    let api = |method: &str, target: &str| Request::new(method, target).with("Authorization", &format!("Bearer {key}"));

    let health = function.send(&Request::new("GET", "/health"), gateway).await.json(200);
    assert_eq!((&health["ok"], &health["service"]), (&json!(true), &json!("loop")), "{gateway:?}");
    assert_eq!(function.send(&Request::new("GET", "/ready"), gateway).await.status, 200);
    assert_eq!(function.send(&Request::new("GET", "/nowhere"), gateway).await.error(404), "Not found");
    // A path that has the stage's name for its first part, or begins like it, is a path all the same.
    for path in [format!("/{STAGE}"), format!("/{STAGE}ary"), format!("/{STAGE}/{STAGE}/v1/issues")] {
        assert_eq!(function.send(&Request::new("GET", &path), gateway).await.error(404), "Not found", "{path}");
    }
    assert_eq!(function.send(&Request::new("DELETE", "/health"), gateway).await.status, 405);

    // The bytes that were signed are the bytes that are verified, as text and as binary.
    let text = r#"{"action":"opened","issue":{"title":"Café ☕"},"repository":{"full_name":"acme/shop"},"sender":{"login":"octocat"}}"#;
    let form = format!("payload={}", form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>());
    let form_type = "application/x-www-form-urlencoded";
    for (kind, delivery) in [
        ("text", Request::github(&format!("{name}-text"), JSON, text)),
        ("binary", Request::github(&format!("{name}-binary"), JSON, text).binary()),
        ("form", Request::github(&format!("{name}-form"), form_type, form).binary()),
    ] {
        let first = function.send(&delivery, gateway).await.json(201);
        assert_eq!(first["issue"]["title"], "GitHub: issues on acme/shop by octocat", "{gateway:?} {kind}");
        assert_eq!(first["signal"]["metadata"]["rawPayload"]["issue"]["title"], "Café ☕");
        let again = function.send(&delivery, gateway).await.json(200);
        assert_eq!((&again["issue"]["id"], &again["signal"]["id"]), (&first["issue"]["id"], &first["signal"]["id"]));
    }
    let signed = Request::github(&format!("{name}-wrong"), JSON, text);
    let changed = signed.clone().without("X-Hub-Signature-256").with("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(64)));
    assert_eq!(function.send(&changed, gateway).await.error(401), "Invalid GitHub signature");
    assert_eq!(function.send(&signed.clone().without("X-Hub-Signature-256"), gateway).await.error(401), "Missing GitHub signature");
    // A header that is there twice is there twice; what passes one value on hides that.
    if gateway != Gateway::LoadBalancer {
        let twice = signed.with("X-Hub-Signature-256", "sha256=00");
        assert_eq!(function.send(&twice, gateway).await.error(401), "Invalid GitHub signature", "{gateway:?}");
    }
    let not_text = Request::github(&format!("{name}-latin"), JSON, b"{\"a\":\"\xe9\"}".to_vec()).binary();
    assert_eq!(function.send(&not_text, gateway).await.error(400), "The body is not UTF-8");
    let oversized = Request::github(&format!("{name}-large"), JSON, format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20)));
    assert_eq!(function.send(&oversized, gateway).await.status, 413);

    // A secret with characters that mean something in a query.
    for (written, status) in [("a%2Bb%26%2Fc%3D", 201), ("a%252Bb%2526", 401)] {
        let body = json!({ "gateway": name, "written": written }).to_string();
        let posthog = Request::new("POST", &format!("/webhooks/posthog?secret={written}")).body(JSON, body);
        assert_eq!(function.send(&posthog, gateway).await.status, status, "{gateway:?} {written}");
    }

    // Queries with several values, and with characters that are escaped.
    let label = api("POST", "/api/v1/labels").body(JSON, json!({ "name": format!("{name} a&b"), "color": "#abc" }).to_string());
    let label = function.send(&label, gateway).await.json(201)["id"].as_str().unwrap().to_owned();
    let title = format!("{name}: 100% of ünïcode & more");
    let new = json!({ "title": title, "labelIds": [label], "priority": "high" }).to_string();
    let issue = function.send(&api("POST", "/api/v1/issues").body(JSON, new), gateway).await.json(201);
    let searched: String = form_urlencoded::byte_serialize("ünïcode".as_bytes()).collect();
    let found = api("GET", &format!("/api/v1/issues?labelId={label}&q={searched}&priority=high%2Clow&total=true&limit=5"));
    let found = function.send(&found, gateway).await.json(200);
    assert_eq!((&found["total"], &found["data"][0]["id"]), (&json!(1), &issue["id"]), "{gateway:?}");
    let unknown = function.send(&api("GET", "/api/v1/issues?q=a&nope=1"), gateway).await.json(422);
    assert!(unknown["details"]["fieldErrors"]["nope"].is_array(), "{unknown}");
    if gateway != Gateway::LoadBalancer {
        let twice = function.send(&api("GET", "/api/v1/issues?limit=1&limit=2"), gateway).await;
        assert_eq!(twice.status, 422, "{gateway:?}: {}", twice.text);
    }

    let path = format!("/api/v1/issues/{}", issue["number"]);
    let body = json!({ "status": "resolved" }).to_string();
    assert_eq!(function.send(&api("PATCH", &path).body(JSON, body), gateway).await.json(200)["status"], "resolved");
    let deleted = function.send(&api("DELETE", &path), gateway).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(function.send(&Request::new("GET", &path), gateway).await.status, 401);
}
