use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Pool, RecyclingMethod, Runtime, Timeouts};

use super::{Inner, LoopStore, connection_string, tls::Tls};
use crate::Error;

/// How statements travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementMode {
    /// Prepared once per connection under a name: the fastest, where the connection is the store's own.
    Prepared,
    /// Without a name, parsed each time: the only mode that works behind a pooler that gives every transaction another connection.
    Unnamed,
}

/// How long a connection is silent before the system makes sure of it.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(30);

/// The settings of a store.
#[derive(Clone)]
pub struct StoreBuilder {
    connection_string: String,
    pool_size: Option<usize>,
    statement_mode: Option<StatementMode>,
    schema: Option<String>,
    connect_timeout: Duration,
    wait_timeout: Duration,
    statement_timeout: Duration,
}

impl std::fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The connection string holds a password.
        f.debug_struct("StoreBuilder").field("pool_size", &self.pool_size).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl StoreBuilder {
    /// The pool's size where neither the builder nor the connection string says one.
    pub const DEFAULT_POOL_SIZE: usize = 10;

    pub(crate) fn new(connection_string: &str) -> Self {
        Self {
            connection_string: connection_string.to_owned(),
            pool_size: None,
            statement_mode: None,
            schema: None,
            connect_timeout: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
        }
    }

    /// The most connections to open, 10 unless said otherwise.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool_size = Some(size);
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

    /// How long connecting may take, 5 seconds unless said otherwise.
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

    /// Makes the store. Connections are opened when they are needed, so the database may still be away.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] when a setting cannot be used; it names the setting.
    pub fn build(self) -> Result<LoopStore, Error> {
        let parsed = connection_string::parse(&self.connection_string)?;
        for warning in &parsed.warnings {
            tracing::warn!("connection string: {warning}");
        }
        let mode = self.statement_mode.unwrap_or(parsed.mode);
        // A schema that comes with the string, as Prisma writes it, is not reason enough to refuse the string.
        let dropped = parsed.schema.as_ref().filter(|_| self.schema.is_none() && mode == StatementMode::Unnamed);
        if dropped.is_some_and(|schema| schema != "public") {
            tracing::warn!("connection string: the setting schema has no effect behind a transaction pooler and was left out");
        }
        let schema = if dropped.is_some() { None } else { self.schema.or(parsed.schema) };
        // What PostgreSQL counts in milliseconds, as an `int`; none at all would be no limit.
        if self.statement_timeout < Duration::from_millis(1) || i32::try_from(self.statement_timeout.as_millis()).is_err() {
            return Err(configuration("statement timeout", "must be from a millisecond to 24 days"));
        }
        let pool_size = self.pool_size.or(parsed.pool_size).unwrap_or(Self::DEFAULT_POOL_SIZE);
        if pool_size == 0 {
            return Err(configuration("pool size", "must be at least 1"));
        }
        let mut config = parsed.config;
        if config.get_application_name().is_none() {
            config.application_name("loop");
        }
        config.connect_timeout(*config.get_connect_timeout().unwrap_or(&self.connect_timeout));
        // The driver's own two hours are longer than what is between here and there remembers a silent connection.
        if !parsed.keepalives_idle {
            config.keepalives_idle(KEEPALIVES_IDLE);
        }
        #[cfg(target_os = "linux")]
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(self.statement_timeout);
        }
        session_options(&mut config, mode, schema.as_deref(), self.statement_timeout)?;
        let tls = Tls::new(&parsed.tls)?;
        let manager = tls.manager(config, RecyclingMethod::Fast);
        let pool = Pool::builder(manager)
            .max_size(pool_size)
            .timeouts(Timeouts {
                wait: Some(self.wait_timeout),
                // Several addresses may be tried in turn, each with its own time.
                create: Some(self.connect_timeout.saturating_mul(3)),
                recycle: Some(self.connect_timeout),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| configuration("pool", &error.to_string()))?;
        Ok(LoopStore { inner: Arc::new(Inner { pool, mode, statement_timeout: self.statement_timeout, schema, tls }), scope: None })
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
}

/// What every session begins with. It is said in the connection's first message, at no cost, which transaction poolers refuse: behind
/// those, the store's own timeouts are the only ones.
fn session_options(
    config: &mut tokio_postgres::Config,
    mode: StatementMode,
    schema: Option<&str>,
    statement_timeout: Duration,
) -> Result<(), Error> {
    if let Some(schema) = schema {
        let plain = |char: char| char.is_ascii_alphanumeric() || ['_', '-'].contains(&char);
        if schema.is_empty() || schema.len() > 63 || !schema.chars().all(plain) {
            return Err(configuration("schema", "must be 1 to 63 letters, digits, underscores and hyphens"));
        }
        if mode == StatementMode::Unnamed {
            return Err(configuration(
                "schema",
                "cannot be chosen behind a transaction pooler; set search_path for the role or the database",
            ));
        }
    }
    if mode == StatementMode::Prepared {
        let mut options = config.get_options().map_or_else(String::new, |options| format!("{options} "));
        // The triggers must see what was committed while they waited for a lock, whatever the role or the database has for a default.
        options =
            format!("{options}-c statement_timeout={} -c default_transaction_isolation=read\\ committed", statement_timeout.as_millis());
        if let Some(schema) = schema {
            options = format!("{options} -c search_path=\"{schema}\"");
        }
        config.options(options);
    }
    Ok(())
}

fn configuration(setting: &'static str, reason: &str) -> Error {
    Error::Configuration { setting, reason: reason.to_owned() }
}
