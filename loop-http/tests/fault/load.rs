//! Clients that write without a pause, and remember what they were told.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    account::{Account, Told},
    postgres::SECRET,
};

/// Longer than any request may take. One that takes longer hangs.
const HANGS: Duration = Duration::from_secs(50);
/// What a client waits after it was not served, so that thousands of refusals do not take the time of everything else.
const PAUSE: Duration = Duration::from_millis(50);

/// How many signals a batch has.
pub(crate) const BATCH: usize = 5;

/// A write: every number is another one, about something that no other is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Write {
    Issue(usize),
    Signal(usize),
    Batch(usize),
    Webhook(usize),
}

impl Write {
    pub(crate) fn new(number: usize) -> Self {
        match number % 4 {
            0 => Self::Issue(number),
            1 => Self::Signal(number),
            2 => Self::Batch(number),
            _ => Self::Webhook(number),
        }
    }
}

/// Who writes.
#[derive(Clone)]
pub(crate) struct Writer {
    client: reqwest::Client,
    key: String,
    /// Where the server listens, which changes when it is started again.
    address: Arc<Mutex<String>>,
}

impl Writer {
    pub(crate) fn new(address: &str, key: &str) -> Self {
        let client = reqwest::Client::builder().timeout(HANGS).no_proxy().build().unwrap();
        Self { client, key: key.to_owned(), address: Arc::new(Mutex::new(address.to_owned())) }
    }

    /// Writes to another address from now on.
    pub(crate) fn turn_to(&self, address: &str) {
        address.clone_into(&mut self.address.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address.lock().unwrap_or_else(PoisonError::into_inner));
        self.client.request(method.parse().unwrap(), url).bearer_auth(&self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.request("GET", path).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Writes once.
    pub(crate) async fn write(&self, write: Write) -> Told {
        let signal = |name: String| json!({ "source": "load", "type": "fault", "sourceId": name, "payload": { "message": name } });
        let request = match write {
            Write::Issue(number) => self.request("POST", "/api/v1/issues").json(&json!({ "title": format!("issue {number}") })),
            Write::Signal(number) => self.request("POST", "/api/v1/signals").json(&signal(format!("signal {number}"))),
            Write::Batch(number) => {
                let signals: Vec<Value> = (0..BATCH).map(|place| signal(format!("batch {number}.{place}"))).collect();
                self.request("POST", "/api/v1/signals/batch").json(&json!({ "signals": signals }))
            }
            Write::Webhook(number) => self.webhook(number),
        };
        send(request).await
    }

    fn webhook(&self, number: usize) -> RequestBuilder {
        let body = json!({
            "action": "opened",
            "issue": { "number": number, "title": format!("webhook {number}") },
            "repository": { "full_name": format!("faults/{number}") },
            "sender": { "login": "faults" },
        });
        let body = body.to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        self.request("POST", "/webhooks/github")
            .header("content-type", "application/json")
            .header("x-github-event", "issues")
            .header("x-github-delivery", format!("delivery-{number}"))
            .header("x-hub-signature-256", format!("sha256={}", faster_hex::hex_string(&mac.finalize().into_bytes())))
            .body(body)
    }
}

async fn send(request: RequestBuilder) -> Told {
    match request.send().await {
        Ok(answer) => told(answer).await,
        Err(error) if error.is_timeout() => Told::Wrong(format!("no answer within {HANGS:?}")),
        Err(error) if error.is_connect() => Told::Away,
        Err(_) => Told::Nothing,
    }
}

async fn told(answer: Response) -> Told {
    let (status, retry_after) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
    let body = match answer.bytes().await {
        Ok(body) => serde_json::from_slice::<Value>(&body).unwrap_or(Value::Null),
        // It broke off before it was whole.
        Err(error) => return if error.is_timeout() { Told::Wrong("an answer hangs".to_owned()) } else { Told::Nothing },
    };
    match status {
        200 | 201 => Told::Done(ids(&body)),
        503 if retry_after => Told::Refused,
        _ => Told::Wrong(format!("{status} (Retry-After: {retry_after}): {body}")),
    }
}

/// The ids of the issues and signals in an answer.
fn ids(body: &Value) -> Vec<String> {
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let both = |value: &Value| [id(&value["signal"]), id(&value["issue"])];
    match body {
        Value::Object(fields) if fields.contains_key("signal") => both(body).to_vec(),
        Value::Object(fields) if fields.contains_key("data") => body["data"].as_array().unwrap().iter().flat_map(both).collect(),
        body => vec![id(body)],
    }
}

/// Clients at work.
pub(crate) struct Load {
    pub(crate) writer: Writer,
    stopped: Arc<AtomicBool>,
    acknowledged: watch::Receiver<usize>,
    refused: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Account>>,
    name: &'static str,
}

impl Load {
    /// Starts that many clients.
    pub(crate) fn start(name: &'static str, clients: usize, writer: Writer) -> Self {
        Self::start_from(0, name, clients, writer)
    }

    /// Starts that many clients, whose first write has this number.
    pub(crate) fn start_from(first: usize, name: &'static str, clients: usize, writer: Writer) -> Self {
        let (stopped, numbers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(first)));
        let (count, acknowledged) = watch::channel(0);
        let refused = Arc::new(AtomicUsize::new(0));
        let client = || {
            let (writer, stopped, numbers) = (writer.clone(), Arc::clone(&stopped), Arc::clone(&numbers));
            let (count, refused) = (count.clone(), Arc::clone(&refused));
            tokio::spawn(async move {
                let mut account = Account::default();
                while !stopped.load(Ordering::SeqCst) {
                    let (write, sent) = (Write::new(numbers.fetch_add(1, Ordering::SeqCst)), Instant::now());
                    let told = writer.write(write).await;
                    if matches!(told, Told::Done(_)) {
                        count.send_modify(|count| *count += 1);
                    } else {
                        refused.fetch_add(usize::from(matches!(told, Told::Refused)), Ordering::SeqCst);
                        tokio::time::sleep(PAUSE).await;
                    }
                    account.note(write, sent, told);
                }
                account
            })
        };
        let clients = (0..clients).map(|_| client()).collect();
        Self { writer, stopped, acknowledged, refused, clients, name }
    }

    /// Waits until so many more writes were acknowledged.
    pub(crate) async fn acknowledges(&mut self, more: usize) {
        let target = *self.acknowledged.borrow() + more;
        let waited = tokio::time::timeout(HANGS, self.acknowledged.wait_for(|count| *count >= target)).await;
        waited.unwrap_or_else(|_| panic!("{}: no {more} more writes within {HANGS:?}", self.name)).unwrap();
    }

    /// How many writes were refused so far.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// Has every client finish what it is at, and puts their accounts together.
    pub(crate) async fn stop(self) -> Account {
        self.stopped.store(true, Ordering::SeqCst);
        let mut all = Account::of(self.name);
        for client in self.clients {
            all.add(client.await.unwrap());
        }
        all
    }
}
