//! Opening connections: which host, how long it may take, and what a refusal means.

use std::{
    error::Error as StdError,
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tokio_postgres::{
    Config, SimpleQueryMessage,
    config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs},
    error::SqlState,
};

use super::{
    client::Client,
    tls::{self, Opened, Tls},
};
use crate::{
    Error,
    error::{Chain, TimedOut, pooled},
};

/// How long asking the server to stop a statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement has to begin that stands behind one that was cancelled.
const BETWEEN_CANCELS: Duration = Duration::from_millis(200);

/// How long a server that has no connection left at this moment is given.
const CROWDED: Duration = Duration::from_millis(100);

/// The style of intervals that sessions of our own are asked to have. No statement reads an interval. But the server reports it while it
/// connects, and so tells, at no cost, whether the session's settings reached it, or a pooler left them out.
pub(crate) const INTERVAL_STYLE: &str = "iso_8601";

/// Opens connections to whichever host serves.
pub(crate) struct Connector {
    /// Each host by itself: the driver would let one that accepts and then says nothing take all the time.
    hosts: Vec<Config>,
    order: Order,
    tls: Tls,
    /// How long one host may take, with all its addresses.
    limit: Duration,
    /// What the session is, where it is ours.
    session: Option<Session>,
}

/// A session of our own, as it was asked for in the connection's first message.
pub(crate) struct Session {
    pub(crate) schema: Option<String>,
    pub(crate) read_only: bool,
}

/// Which host is asked first.
enum Order {
    InTurn,
    Random,
    /// The one that served last: only one can be the primary.
    Last(AtomicUsize),
}

impl Connector {
    pub(crate) fn new(config: &Config, tls: Tls, connect_timeout: Duration, session: Option<Session>) -> Self {
        let hosts = hosts(config);
        let order = match (config.get_load_balance_hosts(), config.get_target_session_attrs()) {
            (LoadBalanceHosts::Random, _) => Order::Random,
            (_, TargetSessionAttrs::ReadWrite) => Order::Last(AtomicUsize::new(0)),
            _ => Order::InTurn,
        };
        // Each address has its time to be reached, and what comes after that as much again.
        Self { hosts, order, tls, limit: connect_timeout.saturating_mul(2), session }
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when what is configured is what keeps every host from being used, else [`Error::Unavailable`].
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let first = match &self.order {
            Order::InTurn => 0,
            Order::Random => random(self.hosts.len()),
            Order::Last(place) => place.load(Ordering::Relaxed),
        };
        let mut refusals = Vec::new();
        for turn in 0..self.hosts.len() {
            let place = (first + turn) % self.hosts.len();
            match self.connect_to(&self.hosts[place]).await {
                Ok(client) => {
                    if let Order::Last(last) = &self.order {
                        last.store(place, Ordering::Relaxed);
                    }
                    return Ok(client);
                }
                Err(error) => refusals.push((place, error)),
            }
        }
        Err(self.refused_by_all(refusals))
    }

    async fn connect_to(&self, host: &Config) -> Result<Client, Error> {
        let mut opened = self.open(host).await;
        // A server that has none left at this moment is asked once more.
        if let Err(Refusal::Driver(error)) = &opened
            && error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
        {
            sleep(CROWDED).await;
            opened = self.open(host).await;
        }
        let Opened { client, interval_style, serving } = match opened {
            Ok(opened) => opened,
            Err(Refusal::Driver(error)) => return Err(explain(error, host, self.session.is_some())),
            Err(Refusal::Silent) => return Err(Error::unavailable(TimedOut(self.limit))),
        };
        let client = Client::new(client, serving);
        if let Some(session) = &self.session {
            if interval_style.is_some_and(|style| style != INTERVAL_STYLE) {
                return Err(pooled(FORGOTTEN));
            }
            let settled = timeout(self.limit, session.settle(&client, host)).await;
            settled.map_err(|_| Error::unavailable(TimedOut(self.limit)))??;
        }
        Ok(client)
    }

    async fn open(&self, host: &Config) -> Result<Opened, Refusal> {
        timeout(self.limit, self.tls.connect(host)).await.map_err(|_| Refusal::Silent)?.map_err(Refusal::Driver)
    }

    /// The one error that speaks for all hosts.
    fn refused_by_all(&self, mut refusals: Vec<(usize, Error)>) -> Error {
        if refusals.len() > 1 && refusals.iter().any(|(_, error)| error.is_retryable()) {
            let reasons = refusals.iter().map(|(place, error)| format!("{}: {}", name(&self.hosts[*place]), Chain(error))).collect();
            return Error::unavailable(NoHost(reasons));
        }
        refusals.pop().map_or_else(|| Error::unavailable(NoHost(Vec::new())), |(_, error)| error)
    }

    /// Closes a connection, and has the server stop what it is doing for it. It is asked twice: at its first use, a statement stands behind
    /// the one that prepares it, and both wait for the same locks. What ends the first, this or the server's own limit, lets the second begin.
    pub(crate) async fn cancel(&self, client: Client) {
        // A pooler closes its own connection to the server, where the statement's own limit ends what is still under way. It is not asked to
        // stop it: PgBouncer (up to 1.24 at least, its issue 801) may end itself over one who asks and does not wait, as the driver does.
        if self.session.is_none() {
            return;
        }
        let token = client.cancel_token();
        let ask = || timeout(CANCEL_TIMEOUT, self.tls.cancel(&token));
        let _ = ask().await;
        drop(client);
        sleep(BETWEEN_CANCELS).await;
        let _ = ask().await;
    }
}

impl Session {
    /// Makes sure of what must not be otherwise: a round trip, where there is such.
    async fn settle(&self, client: &Client, host: &Config) -> Result<(), Error> {
        // The style of intervals may be the one setting that a pooler keeps. In another schema the tables would be somebody else's.
        if let Some(schema) = &self.schema {
            let answer = client.simple_query("SHOW search_path").await.map_err(Error::unavailable)?;
            let path = answer.iter().find_map(|message| if let SimpleQueryMessage::Row(row) = message { row.get(0) } else { None });
            if path != Some(&format!("\"{schema}\"")) {
                return Err(pooled(FORGOTTEN));
            }
        }
        // The server may be promoted while the session lasts.
        if self.read_only && host.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
            client.batch_execute("SET default_transaction_read_only = on").await.map_err(Error::unavailable)?;
        }
        Ok(())
    }
}

/// What is said of a pooler that does not say so itself.
const FORGOTTEN: &str = "something between here and the server leaves out the settings of a session";

enum Refusal {
    Driver(tokio_postgres::Error),
    Silent,
}

/// What each of several hosts said.
#[derive(Debug)]
struct NoHost(Vec<String>);

impl fmt::Display for NoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no host serves: {}", self.0.join("; "))
    }
}

impl StdError for NoHost {}

/// A number below `count`, which is not 0.
fn random(count: usize) -> usize {
    getrandom::u32().map_or(0, |number| number as usize % count)
}

/// The host of a configuration that has one.
fn name(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    format!("{host}:{}", config.get_ports().first().unwrap_or(&5432))
}

/// The configuration of each host by itself. The driver checks the numbers of hosts and ports while it connects, so what does not fit is
/// left as it is, for the driver to say so.
fn hosts(config: &Config) -> Vec<Config> {
    // A connection string without a name of a host is refused before.
    let (names, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    if ![0, names.len()].contains(&addresses.len()) || ![0, 1, names.len()].contains(&ports.len()) {
        return vec![config.clone()];
    }
    let one = |(place, host): (usize, &Host)| {
        let mut one = without_hosts(config);
        match host {
            Host::Tcp(name) => one.host(name),
            // PostgreSQL has no TLS on these, whatever is asked for.
            #[cfg(unix)]
            Host::Unix(path) => one.host_path(path).ssl_mode(SslMode::Disable),
        };
        if let Some(address) = addresses.get(place) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(place).or_else(|| ports.first()) {
            one.port(*port);
        }
        one
    };
    names.iter().enumerate().map(one).collect()
}

/// The same configuration without its hosts. The driver has no way to take them out.
fn without_hosts(config: &Config) -> Config {
    let mut bare = Config::new();
    if let Some(user) = config.get_user() {
        bare.user(user);
    }
    if let Some(password) = config.get_password() {
        bare.password(password);
    }
    if let Some(name) = config.get_dbname() {
        bare.dbname(name);
    }
    if let Some(options) = config.get_options() {
        bare.options(options);
    }
    if let Some(name) = config.get_application_name() {
        bare.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        bare.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        bare.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        bare.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        bare.keepalives_retries(retries);
    }
    bare.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .load_balance_hosts(config.get_load_balance_hosts());
    bare
}

/// What keeps a connection from being made, and will in a moment too, is a setting; the rest is the database's state.
fn explain(error: tokio_postgres::Error, host: &Config, own_session: bool) -> Error {
    if let Some(db) = error.as_db_error() {
        let (code, message) = (db.code().code(), db.message());
        // PgBouncer names the parameter, RDS Proxy the option.
        if message.contains("startup parameter") || message.contains("command-line options") {
            if own_session {
                return pooled(message);
            }
            return Error::configuration("connection string", format!("the pooler does not take its options: {message}"));
        }
        // Who the user is and what it may connect to.
        let unknown = message.starts_with("no such ") || message.ends_with(" does not exist");
        let refused = code.starts_with("28") || code.starts_with("3D") || *db.code() == SqlState::INSUFFICIENT_PRIVILEGE;
        // A setting in the options that there is not, or that cannot have this value.
        let misspelt = [SqlState::UNDEFINED_OBJECT, SqlState::INVALID_PARAMETER_VALUE, SqlState::SYNTAX_ERROR].contains(db.code());
        // PgBouncer gives its own code to what the server said, too.
        if refused || misspelt || (*db.code() == SqlState::PROTOCOL_VIOLATION && unknown) {
            return Error::configuration("connection string", message);
        }
        return Error::unavailable(error);
    }
    if let Some((setting, reason)) = tls::complaint(&error) {
        return Error::configuration(setting, reason);
    }
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    // The driver keeps its kinds of errors to itself; only their texts tell them apart.
    match error.to_string().as_str() {
        "error performing TLS handshake" if cause == "server does not support TLS" => {
            Error::configuration("sslmode", "TLS is required, and the server does not offer it")
        }
        "error performing TLS handshake" if host.get_ssl_negotiation() == tokio_postgres::config::SslNegotiation::Direct => {
            Error::configuration("sslnegotiation", format!("the server did not take TLS directly, which needs PostgreSQL 17 ({cause})"))
        }
        "authentication error" | "invalid configuration" => Error::configuration("connection string", cause),
        _ => Error::unavailable(error),
    }
}
