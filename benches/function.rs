//! The compiled function, from the start of its process to its answers: what a cold start is made of, and what a warm request takes.
//!
//! `cargo bench -p benches --bench function` builds the function as it is deployed and runs it behind a runtime API on this machine, over a
//! throwaway PostgreSQL that asks for a password. Tried by `cargo test`, it does each once, with the function as it is built for tests.

#[path = "../loop-lambda/tests/it/runtime_api.rs"]
#[expect(clippy::unwrap_used, reason = "it is the tests' own")]
mod runtime_api;

use std::{
    error::Error,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use benches::Delivery;
use loop_core::{
    LoopStore,
    test_util::{Line, TestServer},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use self::runtime_api::{Outcome, RuntimeApi};

type Failure = Box<dyn Error>;

const PASSWORD: &str = "a password";

/// Nobody is there.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nothing?sslmode=disable";

/// A process of the function. It ends with this value.
struct Function {
    api: RuntimeApi,
    process: Child,
    /// From the start of the process until it asked for an event.
    began: Duration,
}

impl Function {
    async fn start(program: &str, database_url: &str) -> Result<Self, Failure> {
        let api = RuntimeApi::start().await;
        let variables = [("DATABASE_URL", database_url), ("GITHUB_WEBHOOK_SECRET", Delivery::SECRET), ("LOOP_LOG", "off")];
        let mut command = api.command(program, &variables);
        let begin = Instant::now();
        let process = command.stderr(Stdio::inherit()).spawn()?;
        api.asked().await;
        Ok(Self { api, process, began: begin.elapsed() })
    }

    /// How long a webhook takes that was never here before.
    async fn webhook(&self, number: usize) -> Result<Duration, Failure> {
        let event = event(&format!("{}-{number}", self.process.id()))?;
        let begin = Instant::now();
        let outcome = self.api.invoke(&event).await;
        let taken = begin.elapsed();
        match outcome {
            Outcome::Answer(answer) if answer["statusCode"] == 201 => Ok(taken),
            Outcome::Answer(other) | Outcome::Error(other) => Err(other.to_string().into()),
        }
    }

    /// The most memory it ever had, in KiB, where the system tells.
    fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A delivery of GitHub's, as a function URL passes it on.
fn event(delivery: &str) -> Result<Value, Failure> {
    let Delivery { headers: signed, body, .. } = Delivery::of_github(1024);
    let mut headers = serde_json::Map::new();
    for (name, value) in &signed {
        headers.insert(name.to_string(), value.to_str()?.into());
    }
    headers.insert("x-github-delivery".to_owned(), delivery.into());
    Ok(json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/webhooks/github", "rawQueryString": "", "headers": headers,
        "requestContext": {
            "accountId": "anonymous", "apiId": "a", "domainName": "a.lambda-url.eu-central-1.on.aws", "domainPrefix": "a", "requestId": "r",
            "routeKey": "$default", "stage": "$default", "time": "10/Mar/2020:05:16:23 +0000", "timeEpoch": 1_583_817_383_220_i64,
            "http": { "method": "POST", "path": "/webhooks/github", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl" }
        },
        "body": String::from_utf8(body)?, "isBase64Encoded": false
    }))
}

/// A server with TLS and passwords, and what to connect by.
struct Database {
    _server: TestServer,
    _authority: tempfile::NamedTempFile,
    plain: String,
    tls: String,
}

impl Database {
    async fn start() -> Result<Self, Failure> {
        let mut server = TestServer::new();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &issuer)?;
        server.write("server.crt", &certificate.pem());
        server.write("server.key", &key.serialize_pem());
        server.write("pg_hba.conf", "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
        server.start(&["ssl=on"]);
        let store = LoopStore::connect(&server.url()).await?;
        store.migrate().await?;
        store.raw(&format!("ALTER ROLE postgres PASSWORD '{PASSWORD}'")).await?;
        let authority = tempfile::NamedTempFile::new()?;
        fs::write(authority.path(), issuer.pem())?;
        let common =
            format!("hostaddr=127.0.0.1 host=localhost port={} user=postgres password='{PASSWORD}' dbname=postgres", server.port());
        let tls = format!("{common} sslmode=require sslrootcert={}", authority.path().display());
        Ok(Self { _server: server, _authority: authority, plain: format!("{common} sslmode=disable"), tls })
    }
}

/// Builds the function, and tells where it is.
fn build(profile: &str) -> Result<PathBuf, Failure> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "loop-lambda", "--profile", profile, "--message-format=json"])
        .stderr(Stdio::inherit())
        .output()?;
    let messages = String::from_utf8(output.stdout)?;
    let mut programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    programs.next_back().ok_or_else(|| "the function was not built".into())
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn percentile(sorted: &[Duration], part: usize) -> String {
    format!("{:8.2} ms", sorted[(sorted.len() - 1) * part / 100].as_secs_f64() * 1000.0)
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    percentile(&times, 50)
}

/// What several starts and first answers took.
async fn cold(program: &str, name: &str, url: &str, count: usize) -> Result<(), Failure> {
    let (mut began, mut answered, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let function = Function::start(program, url).await?;
        let first = function.webhook(0).await?;
        began.push(function.began);
        answered.push(first);
        both.push(function.began + first);
    }
    println!("cold, {name}: begins, connected   {}", median(began));
    println!("cold, {name}: first webhook       {}", median(answered));
    println!("cold, {name}: both                {}", median(both));
    Ok(())
}

async fn warm(program: &str, name: &str, url: &str, count: usize) -> Result<(), Failure> {
    let function = Function::start(program, url).await?;
    let mut times = Vec::new();
    for number in 0..count {
        times.push(function.webhook(number).await?);
    }
    times.sort_unstable();
    println!("warm, {name}: webhook, p50        {}", percentile(&times, 50));
    println!("warm, {name}: webhook, p99        {}", percentile(&times, 99));
    if let Some(kibibytes) = function.memory() {
        println!("warm, {name}: most memory         {:8.1} MiB", mebibytes(kibibytes << 10));
    }
    Ok(())
}

async fn round_trips(program: &str, url: &str) -> Result<(), Failure> {
    let line = Line::to(url).await;
    // What is sent together is answered when all of it has left.
    line.delay(Duration::from_millis(5));
    let function = Function::start(program, line.url()).await?;
    let begun = line.round_trips();
    function.webhook(0).await?;
    let first = line.round_trips();
    function.webhook(1).await?;
    println!(
        "round trips to the database: {begun} to connect with a password, {first} for the first webhook, {} for a warm one",
        line.round_trips()
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (profile, starts, requests) = if benches::is_test() { ("dev", 1, 1) } else { ("lambda", 30, 3000) };
    let program = build(profile)?;
    println!("the function's program: {:.1} MiB", mebibytes(fs::metadata(&program)?.len()));
    let program = program.to_str().ok_or("the program is not named in UTF-8")?;

    let mut alone = Vec::new();
    for _ in 0..starts {
        alone.push(Function::start(program, NOWHERE).await?.began);
    }
    println!("cold, no database: begins            {}", median(alone));
    let database = Database::start().await?;
    for (name, url) in [("plain", &database.plain), ("TLS  ", &database.tls)] {
        cold(program, name, url, starts).await?;
        warm(program, name, url, requests).await?;
    }
    round_trips(program, &database.plain).await
}
