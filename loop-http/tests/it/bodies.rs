//! Bodies that are not JSON, not said to be JSON, or too large.

use serde_json::{Value, json};

use crate::{
    support::{Answer, Caller, Server, TestApp, send},
    wire::{Wire, head},
};

const MIB: usize = 1 << 20;

async fn post(caller: &Caller, body: impl Into<reqwest::Body>) -> Answer {
    caller.post_raw("/api/v1/issues", "application/json", body).await
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    let (_app, admin) = TestApp::with_admin().await;
    for body in [
        "",
        " ",
        "{",
        "{\"title\": \"a\"",
        "{\"title\": \"a\"} {}",
        "{\"title\": \"a\",}",
        "{title: 1}",
        "{'title': 1}",
        "\u{feff}{}",
        "nul",
        "{\"title\": \"\u{1}\"}",
        "{\"title\": \"\\ud800\"}",
        "{\"title\": \"\\x\"}",
        "{\"a\": 01}",
        "{\"a\": NaN}",
        "{\"a\": 1e999}",
        "title=a",
    ] {
        let error = post(&admin, body).await.error(400, "invalid_json");
        assert!(error.starts_with("The body is not JSON: "), "{body}: {error}");
    }
    assert!(admin.ids("/api/v1/issues").await.is_empty());
}

#[tokio::test]
async fn what_is_not_utf_8_is_refused() {
    let (_app, admin) = TestApp::with_admin().await;
    for bytes in [&b"{\"title\": \"\xff\"}"[..], b"{\"title\": \"\xed\xa0\x80\"}", b"\xfe\xff\x00{\x00}", b"{\"title\": \"caf\xe9\"}"] {
        assert_eq!(post(&admin, bytes).await.error(400, "invalid_json"), "The body is not UTF-8");
    }
}

#[tokio::test]
async fn a_field_that_is_given_twice_is_refused() {
    let (_app, admin) = TestApp::with_admin().await;
    let once = "Must be given once";
    let wrong = post(&admin, r#"{"title": "a", "title": "b", "zz": 1, "zz": 2}"#).await.field_errors();
    assert_eq!((&wrong["title"], &wrong["zz"]), (&vec![once.to_owned()], &vec![once.to_owned(), "Unknown field".to_owned()]));
    post(&admin, r#"{"title": "a", "commits": [{"sha": "a", "message": "m", "sha": "b"}]}"#).await.wrong(&[("commits[0].sha", once)]);
    // What is kept as it came is not looked into: PostgreSQL keeps the last.
    post(&admin, r#"{"title": "a", "signalPayload": {"x": 1, "x": 2}}"#).await.created();
}

#[tokio::test]
async fn a_long_list_of_wrong_things_gets_a_short_answer() {
    let (_app, admin) = TestApp::with_admin().await;
    let body = format!(r#"{{"title": "a", "commits": [{}]}}"#, vec!["0"; 200_000].join(","));
    let details = post(&admin, body).await.json()["details"].clone();
    assert_eq!(details["formErrors"], json!(["More than 1000 fields are wrong"]));
    assert_eq!(details["fieldErrors"].as_object().unwrap().len(), 1000);
}

#[tokio::test]
async fn json_that_is_no_object_is_refused() {
    let (_app, admin) = TestApp::with_admin().await;
    for body in ["[]", "null", "7", "\"title\"", "true", "[{\"title\": \"a\"}]"] {
        let answer = post(&admin, body).await;
        assert_eq!(answer.error(422, "validation"), "Validation error");
        assert_eq!(answer.json()["details"], json!({ "formErrors": ["Must be a JSON object"], "fieldErrors": {} }), "{body}");
    }
}

#[tokio::test]
async fn nesting_has_a_limit() {
    let (_app, admin) = TestApp::with_admin().await;
    let nested = |depth: usize| format!("{{\"title\": \"a\", \"signalPayload\": {}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth));
    post(&admin, nested(120)).await.created();
    for depth in [128, 10_000, 150_000] {
        let error = post(&admin, nested(depth)).await.error(400, "invalid_json");
        assert!(error.starts_with("The body is not JSON: recursion limit exceeded"), "{error}");
    }
    post(&admin, "[".repeat(MIB)).await.error(400, "invalid_json");
}

#[tokio::test]
async fn only_what_is_said_to_be_json_is_taken() {
    let (_app, admin) = TestApp::with_admin().await;
    let body = "{\"title\": \"a\"}";
    for json in ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8", "application/json ; x=\"y\""] {
        admin.post_raw("/api/v1/issues", json, body).await.created();
    }
    let other =
        ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "application/json-patch+json", "json", "text/json", ""];
    for other in other {
        let error = admin.post_raw("/api/v1/issues", other, body).await.error(415, "unsupported_media_type");
        assert_eq!(error, "The content type must be application/json", "{other}");
    }
    let without = send(admin.request("POST", "/api/v1/issues").body(body)).await;
    without.error(415, "unsupported_media_type");
}

/// A body of exactly this many bytes that would create an issue.
fn issue_of(bytes: usize) -> String {
    let body = "{\"title\": \"a\"}";
    format!("{body}{}", " ".repeat(bytes - body.len()))
}

fn assert_too_large(status: u16, body: &Value) {
    assert_eq!(status, 413);
    assert_eq!(body, &json!({ "error": "The body is larger than 1048576 bytes", "code": "payload_too_large" }));
}

#[tokio::test]
async fn a_mebibyte_is_taken_and_not_a_byte_more() {
    let (_app, admin) = TestApp::with_admin().await;
    post(&admin, issue_of(MIB)).await.created();
    for bytes in [MIB + 1, 3 * MIB, 20 * MIB] {
        let answer = post(&admin, issue_of(bytes)).await;
        assert_too_large(answer.status, &answer.json());
    }
    let rotate = format!("/api/v1/keys/{}/rotate", admin.ids("/api/v1/keys").await[0]);
    for path in ["/api/v1/signals/batch", &rotate] {
        let answer = admin.post_raw(path, "application/json", issue_of(MIB + 1)).await;
        assert_too_large(answer.status, &answer.json());
    }
    assert_eq!(admin.ids("/api/v1/issues").await.len(), 1);
}

/// One chunk after the other, and the last, empty one.
fn chunks(body: &str) -> String {
    let chunks = body.as_bytes().chunks(60_000).map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), str::from_utf8(chunk).unwrap()));
    chunks.collect::<String>() + "0\r\n\r\n"
}

#[tokio::test]
async fn a_client_that_writes_all_before_it_reads_sees_the_answer() {
    let (app, admin) = TestApp::with_admin().await;
    let json = ("Content-Type", "application/json");
    for bytes in [MIB + 1, 8 * MIB] {
        let (length, body) = (bytes.to_string(), issue_of(bytes));
        for (framing, body) in [(("Content-Length", length.as_str()), body.clone()), (("Transfer-Encoding", "chunked"), chunks(&body))] {
            let mut wire = Wire::connect(app.server.address).await;
            wire.send(head("POST", "/api/v1/issues", admin.key.as_deref(), &[json, framing])).await.unwrap();
            wire.send(body).await.unwrap();
            let answer = wire.answer().await.unwrap();
            assert_too_large(answer.status, &answer.json());
        }
    }
    // Whatever else is refused before the body is read.
    let large = issue_of(8 * MIB);
    for (path, key, status) in [
        ("/api/v1/issues", None, 401),
        ("/api/v1/issues", Some("loop_x"), 401),
        ("/api/v1/nothing", None, 404),
        ("/health", None, 405),
        ("/webhooks/github", None, 413),
        ("/admin/migrate", None, 401),
    ] {
        let mut wire = Wire::connect(app.server.address).await;
        let length = large.len().to_string();
        wire.send(head("POST", path, key, &[json, ("Content-Length", &length)])).await.unwrap();
        wire.send(&large).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().status, status, "{path}");
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_at_once() {
    let (app, admin) = TestApp::with_admin().await;
    let json = ("Content-Type", "application/json");
    for expect in ["100-continue", "100-Continue"] {
        let mut wire = Wire::connect(app.server.address).await;
        let headers = [json, ("Content-Length", "999999999"), ("Expect", expect)];
        wire.send(head("POST", "/api/v1/issues", admin.key.as_deref(), &headers)).await.unwrap();
        let answer = wire.answer().await.unwrap();
        assert_too_large(answer.status, &answer.json());

        let body = "{\"title\": \"a\"}";
        let mut wire = Wire::connect(app.server.address).await;
        let headers = [json, ("Content-Length", "14"), ("Expect", expect)];
        wire.send(head("POST", "/api/v1/issues", admin.key.as_deref(), &headers)).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().status, 100);
        wire.send(body).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().status, 201);

        // Who may not send it at all is not asked for it.
        let mut wire = Wire::connect(app.server.address).await;
        wire.send(head("POST", "/api/v1/issues", None, &headers)).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().status, 401);
    }
}

#[tokio::test]
async fn a_chunked_body_is_one_body() {
    let (app, admin) = TestApp::with_admin().await;
    let headers = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
    let mut wire = Wire::connect(app.server.address).await;
    wire.send(head("POST", "/api/v1/issues", admin.key.as_deref(), &headers)).await.unwrap();
    for piece in ["{\"ti", "tle\": \"", "caf\u{e9}", "\"}"] {
        wire.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await.unwrap();
    }
    wire.send("0\r\n\r\n").await.unwrap();
    assert_eq!(wire.answer().await.unwrap().json()["title"], "café");
}

#[tokio::test]
async fn a_body_that_breaks_off_creates_nothing() {
    let (app, admin) = TestApp::with_admin().await;
    let headers = [("Content-Type", "application/json"), ("Content-Length", "1000")];
    let mut wire = Wire::connect(app.server.address).await;
    wire.send(head("POST", "/api/v1/issues", admin.key.as_deref(), &headers)).await.unwrap();
    wire.send("{\"title\": \"a\"}").await.unwrap();
    drop(wire);
    assert!(admin.ids("/api/v1/issues").await.is_empty());
    let server = Server::without_database().await;
    server.caller(None).get("/health").await.ok();
}

#[tokio::test]
async fn every_wrong_part_of_a_nested_field_is_named() {
    let (_app, admin) = TestApp::with_admin().await;
    let body = json!({
        "title": "t",
        "hypothesis": { "statement": "", "confidence": 2, "zz": 1 },
        "commits": [{ "sha": "s", "message": "m" }, { "message": 1 }, ["s", "m"]],
        "pullRequests": {},
    });
    let wrong = admin.post("/api/v1/issues", body).await.field_errors();
    let wrong: Vec<_> = wrong.iter().map(|(name, reasons)| (name.as_str(), reasons.join(" "))).collect();
    let expected = [
        ("commits[1].message", "Must be a string"),
        ("commits[1].sha", "Required"),
        ("commits[2]", "Must be a JSON object"),
        ("hypothesis.confidence", "Must be a number from 0 to 1"),
        ("hypothesis.statement", "Must not be empty"),
        ("hypothesis.validationCriteria", "Required"),
        ("hypothesis.zz", "Unknown field"),
        ("pullRequests", "Must be a list"),
    ];
    assert_eq!(wrong, expected.map(|(name, reason)| (name, reason.to_owned())));
}

#[tokio::test]
async fn a_key_cannot_be_made_that_opens_nothing() {
    let (_app, admin) = TestApp::with_admin().await;
    let wrong = admin.post("/api/v1/keys", json!({ "name": "k", "expiresAt": "2001-01-01T00:00:00Z" })).await.field_errors();
    assert_eq!(wrong.into_iter().collect::<Vec<_>>(), [("expiresAt".to_owned(), vec!["Must be in the future".to_owned()])]);
}

#[tokio::test]
async fn an_object_has_only_so_many_fields() {
    let (_app, admin) = TestApp::with_admin().await;
    let fields = |count: usize| {
        let mut object = json!({ "title": "one" });
        for place in 1..count {
            object[format!("f{place}")] = json!(1);
        }
        object
    };
    let many = admin.post("/api/v1/issues", fields(1001)).await;
    assert_eq!(many.status, 422);
    assert!(many.text.contains("Must have at most 1000 fields") && many.text.len() < 500, "{}", many.text);
    // So many are named one by one.
    let known = admin.post("/api/v1/issues", fields(1000)).await;
    assert!(known.status == 422 && known.text.contains("f999"));
    // What a payload holds is its sender's.
    let payload = fields(5000);
    admin.post("/api/v1/signals", json!({ "source": "s", "type": "t", "payload": payload })).await.created();
}
