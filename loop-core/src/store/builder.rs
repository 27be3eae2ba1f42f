use std::{sync::Arc, time::Duration};

use deadpool::{
    Runtime,
    managed::{QueueMode, Timeouts},
};
use tokio_postgres::config::{SslNegotiation, TargetSessionAttrs};

#[cfg(feature = "tls")]
use super::connection_string::SslMode;
use super::{
    Inner, LoopStore,
    connection_string::{self, TlsSettings},
    connector::{Connector, INTERVAL_STYLE, Session},
    key_cache::KeyCache,
    loader::Loader,
    pool::{Manager, Pool},
    tls::Tls,
};
use crate::{Actor, Error, time_limit};

/// How statements travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementMode {
    /// Prepared once per connection under a name: the fastest, where the connection is the store's own.
    Prepared,
    /// Without a name, parsed each time: the only mode that works behind a pooler that gives every transaction another connection. Each
    /// statement is a transaction of its own that begins with the settings it needs, in the same round trip.
    Unnamed,
}

/// How long a connection is silent before the system makes sure of it.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(30);

/// How long a transaction may wait for its own client. A function that was frozen for good in the middle of one, or a machine that lost its
/// network, must not hold its locks until the server notices, which may take hours.
const IDLE_IN_TRANSACTION: Duration = Duration::from_mins(1);

/// The settings of a store.
#[derive(Clone)]
pub struct StoreBuilder {
    connection_string: String,
    replica: Option<String>,
    pool_size: Option<usize>,
    default_pool_size: usize,
    statement_mode: Option<StatementMode>,
    schema: Option<String>,
    connect_timeout: Duration,
    wait_timeout: Duration,
    statement_timeout: Duration,
    verify_after: Duration,
    ungrouped_sources: Vec<String>,
    row_security: Option<bool>,
    #[cfg(feature = "tls")]
    tls_config: Option<rustls::ClientConfig>,
}

impl std::fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The connection string holds a password.
        f.debug_struct("StoreBuilder").field("pool_size", &self.pool_size).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl StoreBuilder {
    /// The pool's size where nothing says one.
    pub const DEFAULT_POOL_SIZE: usize = 10;

    pub(crate) fn new(connection_string: &str) -> Self {
        Self {
            connection_string: connection_string.to_owned(),
            replica: None,
            pool_size: None,
            default_pool_size: Self::DEFAULT_POOL_SIZE,
            statement_mode: None,
            schema: None,
            connect_timeout: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            verify_after: Duration::from_secs(1),
            ungrouped_sources: Vec::new(),
            row_security: None,
            #[cfg(feature = "tls")]
            tls_config: None,
        }
    }

    /// A replica that lags behind the database, for what asks for it by [`LoopStore::replica`]. The other settings are for its connections
    /// too. Its connection string may name the same hosts as the other one, with `target_session_attrs=read-only`.
    pub fn replica(mut self, connection_string: impl Into<String>) -> Self {
        self.replica = Some(connection_string.into());
        self
    }

    /// The most connections to open, whatever the connection string says.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool_size = Some(size);
        self
    }

    /// The most connections to open where neither [`pool_size`](Self::pool_size) nor the connection string says how many: 10 unless said
    /// otherwise.
    pub fn default_pool_size(mut self, size: usize) -> Self {
        self.default_pool_size = size;
        self
    }

    /// How statements travel. Unless said otherwise: prepared, but unnamed where the connection string points at a known pooler.
    pub fn statement_mode(mut self, mode: StatementMode) -> Self {
        self.statement_mode = Some(mode);
        self
    }

    /// The schema the tables are in, the user's default one unless said otherwise.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// How long connecting to an address may take, 5 seconds unless the connection string or this says otherwise. What follows (TLS,
    /// authentication) may take as long again.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long to wait for a connection to come free, 5 seconds unless said otherwise.
    pub fn wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = timeout;
        self
    }

    /// How long one statement may take, 10 seconds unless said otherwise.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Has the database itself guard each project's rows, behind the conditions of the statements: it is told with every statement which project
    /// the store is bound to, and shows and takes nothing else, whatever the statement says. [`LoopStore::migrate`] switches the guard on in the
    /// database. The user must not be a superuser, who passes every guard: [`LoopStore::migration_status`] tells whether it holds. Off by
    /// default; `row_security=true` in the connection string switches it on, too.
    pub fn row_security(mut self, on: bool) -> Self {
        self.row_security = Some(on);
        self
    }

    /// Has every signal of these sources open an issue of its own, whatever fingerprint it has. Without, signals of one fingerprint go to one
    /// issue until that is resolved or closed.
    pub fn ungrouped_sources(mut self, sources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.ungrouped_sources = sources.into_iter().map(Into::into).collect();
        self
    }

    /// How long a connection may have been idle before it is asked whether it still works, and replaced if it does not answer within a
    /// second: 1 second unless said otherwise. The question is a round trip. A function that may be frozen between any two requests asks
    /// sooner than a server.
    pub fn verify_after(mut self, idle: Duration) -> Self {
        self.verify_after = idle;
        self
    }

    /// TLS as this configuration has it, in place of what the connection string says of certificates. TLS is then required, and the
    /// configuration decides which server is trusted.
    #[cfg(feature = "tls")]
    pub fn tls_config(mut self, config: rustls::ClientConfig) -> Self {
        self.tls_config = Some(config);
        self
    }

    /// Whether the settings can be used, as far as that shows without the work of [`build`](Self::build): files of certificates are there,
    /// but not read, and nothing is connected to.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when a setting cannot be used; it names the setting.
    pub fn check(&self) -> Result<(), Error> {
        let replica = self.replica.as_ref().map(|text| (text, true));
        for (text, read_only) in replica.into_iter().chain([(&self.connection_string, false)]) {
            let TlsSettings { mode: _, root_cert, system_roots: _, client_cert, client_key } = self.settings(text, read_only)?.tls;
            for (setting, file) in [("sslrootcert", root_cert), ("sslcert", client_cert), ("sslkey", client_key)] {
                if let Some(Err(error)) = file.map(std::fs::File::open) {
                    return Err(Error::configuration(setting, error));
                }
            }
        }
        Ok(())
    }

    /// Makes the store. Connections are opened when they are needed, so the database may still be away.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when a setting cannot be used, or a file of certificates cannot be read; it names the setting.
    /// [`Error::Unavailable`] when the system has no thread left for what watches [limits](crate::time_limit).
    pub fn build(self) -> Result<LoopStore, Error> {
        time_limit::start().map_err(Error::unavailable)?;
        let replica = self.replica.as_deref().map(|text| self.settings(text, true)?.open(&self, None)).transpose()?;
        let inner = self.settings(&self.connection_string, false)?.open(&self, replica)?;
        Ok(LoopStore { inner, scope: None, actor: Arc::new(Actor::app(None).to_string()), observer: None })
    }

    /// Makes the store, and makes sure that the database answers.
    ///
    /// # Errors
    ///
    /// As [`LoopStore::connect`].
    pub async fn connect(self) -> Result<LoopStore, Error> {
        let store = self.build()?;
        store.ping().await?;
        Ok(store)
    }

    /// What this and the connection string say together.
    fn settings(&self, connection_string: &str, read_only: bool) -> Result<Settings, Error> {
        let parsed = connection_string::parse(connection_string)?;
        let mode = self.statement_mode.unwrap_or(parsed.mode);
        let schema = self.schema.clone().or(parsed.schema);
        let plain = |char: char| char.is_ascii_alphanumeric() || ['_', '-'].contains(&char);
        if schema.as_ref().is_some_and(|schema| schema.is_empty() || schema.len() > 63 || !schema.chars().all(plain)) {
            return Err(Error::configuration("schema", "must be 1 to 63 letters, digits, underscores and hyphens"));
        }
        // What PostgreSQL counts in milliseconds, as an `int`; none at all would be no limit.
        if self.statement_timeout < Duration::from_millis(1) || i32::try_from(self.statement_timeout.as_millis()).is_err() {
            return Err(Error::configuration("statement timeout", "must be from a millisecond to 24 days"));
        }
        let pool_size = self.pool_size.or(parsed.pool_size).unwrap_or(self.default_pool_size);
        if pool_size == 0 {
            return Err(Error::configuration("pool size", "must be at least 1"));
        }
        let mut config = parsed.config;
        if read_only && config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite {
            return Err(Error::configuration("target_session_attrs", "asks for the primary, in the connection string of a replica"));
        }
        #[cfg(feature = "tls")]
        if self.tls_config.is_some() {
            if parsed.tls.mode() == SslMode::Disable {
                return Err(Error::configuration("sslmode", "is disable, and there is a configuration of TLS"));
            }
            config.ssl_mode(SslMode::VerifyFull.driver());
        }
        if config.get_ssl_negotiation() == SslNegotiation::Direct && config.get_ssl_mode() == tokio_postgres::config::SslMode::Prefer {
            let reason = "direct begins with TLS, so it needs sslmode=require, verify-ca or verify-full";
            return Err(Error::configuration("sslnegotiation", reason));
        }
        if config.get_application_name().is_none() {
            config.application_name("loop");
        }
        let connect_timeout = *config.get_connect_timeout().unwrap_or(&self.connect_timeout);
        config.connect_timeout(connect_timeout);
        // The driver's own two hours are longer than what is between here and there remembers a silent connection.
        if !parsed.keepalives_idle {
            config.keepalives_idle(KEEPALIVES_IDLE);
        }
        #[cfg(target_os = "linux")]
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(self.statement_timeout);
        }
        let row_security = self.row_security.unwrap_or(parsed.row_security);
        Ok(Settings {
            config,
            connect_timeout,
            tls: parsed.tls,
            mode,
            schema,
            pool_size,
            read_only,
            row_security,
            warnings: parsed.warnings,
        })
    }
}

/// The settings of one pool.
struct Settings {
    config: tokio_postgres::Config,
    connect_timeout: Duration,
    tls: TlsSettings,
    mode: StatementMode,
    schema: Option<String>,
    pool_size: usize,
    read_only: bool,
    row_security: bool,
    warnings: Vec<String>,
}

impl Settings {
    fn open(mut self, builder: &StoreBuilder, replica: Option<Arc<Inner>>) -> Result<Arc<Inner>, Error> {
        for warning in &self.warnings {
            tracing::warn!("connection string: {warning}");
        }
        let own_session = self.mode == StatementMode::Prepared;
        let limit = builder.statement_timeout.as_millis();
        let local = if own_session {
            self.session_options(limit);
            None
        } else {
            // The settings let only plain characters into the name.
            let search_path = self.schema.as_ref().map_or_else(String::new, |schema| format!("; SET LOCAL search_path TO \"{schema}\""));
            let idle = IDLE_IN_TRANSACTION.as_millis();
            Some(format!(
                "SET LOCAL statement_timeout TO {limit}; SET LOCAL idle_in_transaction_session_timeout TO {idle}; SET LOCAL jit TO off; \
                 SET LOCAL max_parallel_workers_per_gather TO 0{search_path}"
            ))
        };
        let access = if self.read_only { " READ ONLY" } else { "" };
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED{access}");
        let begin = match &local {
            Some(local) => Some(format!("{begin}; {local}")),
            None => self.row_security.then_some(begin),
        };
        #[cfg(feature = "tls")]
        let tls = builder.tls_config.clone().map_or_else(|| Tls::new(&self.tls), |config| Ok(Tls::with_config(config)))?;
        #[cfg(not(feature = "tls"))]
        let tls = Tls::new(&self.tls)?;
        let session = own_session.then(|| Session { schema: self.schema.clone(), read_only: self.read_only });
        let connector = Connector::new(&self.config, tls, self.connect_timeout, session);
        // The connector and the manager have limits of their own for all they do.
        let timeouts = Timeouts { wait: Some(builder.wait_timeout), create: None, recycle: None };
        let pool = Pool::builder(Manager::new(connector, builder.verify_after))
            .max_size(self.pool_size)
            // Those that few callers go round are few and warm: no caller need ask first whether one still works.
            .queue_mode(QueueMode::Lifo)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::configuration("pool", error))?;
        Ok(Arc::new(Inner {
            pool,
            loader: Loader::default(),
            mode: self.mode,
            statement_timeout: builder.statement_timeout,
            schema: self.schema,
            local,
            begin,
            row_security: self.row_security,
            read_only: self.read_only,
            replica,
            ungrouped_sources: builder.ungrouped_sources.clone(),
            keys: KeyCache::default(),
            migrating: tokio::sync::Mutex::new(()),
        }))
    }

    /// What every session of our own begins with. It is said in the connection's first message, at no cost, which transaction poolers
    /// refuse.
    fn session_options(&mut self, limit: u128) {
        let mut options = self.config.get_options().map_or_else(String::new, |options| format!("{options} "));
        // The triggers must see what was committed while they waited for a lock, whatever the role or the database has for a default. To
        // compile a statement takes longer than any of these runs: a large batch would take seconds. To start workers for one does, too.
        options = format!(
            "{options}-c statement_timeout={limit} -c idle_in_transaction_session_timeout={} \
             -c default_transaction_isolation=read\\ committed -c jit=off -c max_parallel_workers_per_gather=0 \
             -c IntervalStyle={INTERVAL_STYLE}",
            IDLE_IN_TRANSACTION.as_millis()
        );
        if let Some(schema) = &self.schema {
            options = format!("{options} -c search_path=\"{schema}\"");
        }
        // Where the driver is to look for a server that only reads, this would make every server one: there it is said once that was found.
        if self.read_only && self.config.get_target_session_attrs() != TargetSessionAttrs::ReadOnly {
            options = format!("{options} -c default_transaction_read_only=on");
        }
        self.config.options(options);
    }
}
