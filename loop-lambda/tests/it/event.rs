//! Events as the gateways send them, and what they make of an answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use sha2::Sha256;

pub(crate) const GITHUB_SECRET: &str = "the secret of the webhook";

/// What sends events to a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gateway {
    /// API Gateway's REST APIs, with a stage that is not in the path of the event.
    Rest,
    /// API Gateway's HTTP APIs, on the stage without a name.
    Http,
    /// The same on a stage that is in the path of the event.
    HttpStage,
    LoadBalancer,
    /// The same with lists of values.
    LoadBalancerLists,
    FunctionUrl,
}

pub(crate) const GATEWAYS: [Gateway; 6] =
    [Gateway::Rest, Gateway::Http, Gateway::HttpStage, Gateway::LoadBalancer, Gateway::LoadBalancerLists, Gateway::FunctionUrl];

/// The name of every stage that has one. It begins like a path of Loop's.
pub(crate) const STAGE: &str = "api";

/// What a client sends.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: String,
    path: String,
    /// As it is written in the URL.
    query: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    base64: bool,
}

impl Request {
    /// A request for this path and query.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = vec![("Host".to_owned(), "loop.example.com".to_owned())];
        Self { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), headers, body: None, base64: false }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self.with("Content-Type", content_type)
    }

    /// With the body in base64, as gateways send what they take for binary.
    pub(crate) fn binary(mut self) -> Self {
        self.base64 = true;
        self
    }

    /// A signed delivery of GitHub's.
    pub(crate) fn github(delivery: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let mut mac = Hmac::<Sha256>::new_from_slice(GITHUB_SECRET.as_bytes()).unwrap();
        mac.update(&body);
        Self::new("POST", "/webhooks/github")
            .with("X-GitHub-Event", "issues")
            .with("X-GitHub-Delivery", delivery)
            .with("X-Hub-Signature-256", &format!("sha256={}", faster_hex::hex_string(&mac.finalize().into_bytes())))
            .body(content_type, body)
    }

    /// The event that a gateway makes of it.
    pub(crate) fn event(&self, gateway: Gateway) -> Value {
        let body = self.body.as_ref().map(|body| {
            if self.base64 { STANDARD.encode(body) } else { String::from_utf8(body.clone()).expect("what is no text is sent as binary") }
        });
        let mut event = match gateway {
            Gateway::Rest => self.rest(),
            Gateway::Http | Gateway::FunctionUrl => self.http("$default", ""),
            Gateway::HttpStage => self.http(STAGE, &format!("/{STAGE}")),
            Gateway::LoadBalancer => self.load_balancer(false),
            Gateway::LoadBalancerLists => self.load_balancer(true),
        };
        event["body"] = json!(body);
        event["isBase64Encoded"] = json!(self.base64);
        event
    }

    /// Names and values of the query, decoded or as they are.
    fn parameters(&self, decode: bool) -> Vec<(String, String)> {
        let text = |text: &str| if decode { percent_decode_str(text).decode_utf8().unwrap().into_owned() } else { text.to_owned() };
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (text(name), text(value))).collect()
    }

    fn rest(&self) -> Value {
        let parameters = self.parameters(true);
        json!({
            "resource": "/{proxy+}",
            "path": self.path,
            "httpMethod": self.method,
            "headers": last(&self.headers),
            "multiValueHeaders": lists(&self.headers),
            "queryStringParameters": if parameters.is_empty() { Value::Null } else { last(&parameters) },
            "multiValueQueryStringParameters": if parameters.is_empty() { Value::Null } else { lists(&parameters) },
            "pathParameters": { "proxy": self.path.trim_start_matches('/') },
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "wt6mne2s9k",
                "resourceId": "us4z18",
                "resourcePath": "/{proxy+}",
                "path": format!("/{STAGE}{}", self.path),
                "stage": STAGE,
                "protocol": "HTTP/1.1",
                "domainName": "wt6mne2s9k.execute-api.eu-central-1.amazonaws.com",
                "domainPrefix": "wt6mne2s9k",
                "requestId": "41b45ea3-70b5-11e6-b7bd-69b5aaebc7d9",
                "extendedRequestId": "JKJaXmPLvHcESHA=",
                "requestTime": "09/Apr/2015:12:34:56 +0000",
                "requestTimeEpoch": 1_428_582_896_000_i64,
                "httpMethod": self.method,
                "identity": {
                    "cognitoIdentityPoolId": null, "accountId": null, "cognitoIdentityId": null, "caller": null, "accessKey": null,
                    "sourceIp": "192.0.2.1", "cognitoAuthenticationType": null, "cognitoAuthenticationProvider": null, "userArn": null,
                    "userAgent": "curl", "user": null
                }
            }
        })
    }

    fn http(&self, stage: &str, prefix: &str) -> Value {
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            let joined =
                headers.get(&name.to_lowercase()).and_then(Value::as_str).map_or_else(|| value.clone(), |first| format!("{first},{value}"));
            headers.insert(name.to_lowercase(), json!(joined));
        }
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": format!("{prefix}{}", self.path),
            "rawQueryString": self.query,
            "headers": headers,
            "queryStringParameters": joined(&self.parameters(true)),
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "r3pmxmplak",
                "domainName": "r3pmxmplak.execute-api.eu-central-1.amazonaws.com",
                "domainPrefix": "r3pmxmplak",
                "http": {
                    "method": self.method, "path": format!("{prefix}{}", self.path), "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                    "userAgent": "curl"
                },
                "requestId": "JKJaXmPLvHcESHA=",
                "routeKey": "$default",
                "stage": stage,
                "time": "10/Mar/2020:05:16:23 +0000",
                "timeEpoch": 1_583_817_383_220_i64
            }
        })
    }

    fn load_balancer(&self, as_lists: bool) -> Value {
        let mut headers: Vec<(String, String)> = self.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        headers.push(("x-forwarded-for".to_owned(), "192.0.2.1".to_owned()));
        headers.push(("x-forwarded-port".to_owned(), "443".to_owned()));
        headers.push(("x-forwarded-proto".to_owned(), "https".to_owned()));
        // It passes a query on as it came.
        let parameters = self.parameters(false);
        let mut event = json!({
            "requestContext": {
                "elb": { "targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/loop/49e9d65c45c6791a" }
            },
            "httpMethod": self.method,
            "path": self.path,
        });
        if as_lists {
            event["multiValueHeaders"] = lists(&headers);
            event["multiValueQueryStringParameters"] = lists(&parameters);
        } else {
            event["headers"] = last(&headers);
            event["queryStringParameters"] = last(&parameters);
        }
        event
    }
}

fn lists(pairs: &[(String, String)]) -> Value {
    let mut lists = Map::new();
    for (name, value) in pairs {
        match lists.entry(name.clone()).or_insert_with(|| json!([])) {
            Value::Array(values) => values.push(json!(value)),
            _ => unreachable!(),
        }
    }
    Value::Object(lists)
}

fn last(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect())
}

fn joined(pairs: &[(String, String)]) -> Value {
    let Value::Object(lists) = lists(pairs) else { unreachable!() };
    let join = |values: &Value| values.as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    Value::Object(lists.iter().map(|(name, values)| (name.clone(), json!(join(values)))).collect())
}

/// What a gateway sends to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) headers: Map<String, Value>,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn new(answer: &Value, gateway: Gateway) -> Self {
        let body = answer["body"].as_str().unwrap_or_default();
        let text = match answer["isBase64Encoded"].as_bool() {
            Some(true) => String::from_utf8(STANDARD.decode(body).unwrap()).unwrap(),
            _ => body.to_owned(),
        };
        // A gateway looks at the kind that it knows.
        let headers = match gateway {
            Gateway::Rest | Gateway::LoadBalancerLists => {
                let lists = answer["multiValueHeaders"].as_object().unwrap();
                lists.iter().map(|(name, values)| (name.clone(), values[0].clone())).collect()
            }
            _ => answer["headers"].as_object().unwrap().clone(),
        };
        Self { status: answer["statusCode"].as_u64().unwrap(), headers, text }
    }

    #[track_caller]
    pub(crate) fn json(&self, status: u64) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_str(&self.text).unwrap()
    }

    #[track_caller]
    pub(crate) fn error(&self, status: u64) -> String {
        self.json(status)["error"].as_str().unwrap().to_owned()
    }
}
