//! The configuration: every variable of the environment that is read, in one place.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use ctutils::CtEq as _;
use http::HeaderValue;
use ipnet::IpNet;
use loop_core::{
    Error, LoopStore, StatementMode, StoreBuilder,
    webhook::{GithubVerifier, PosthogVerifier, SecretError, Secrets, SentryVerifier},
};
use sha2::{Digest as _, Sha256};
use tracing_subscriber::filter::LevelFilter;

use crate::{AppState, LimitOptions, Logs, MetricsAccess, RouterOptions, ServeOptions, Webhooks};

/// The settings of the server.
#[derive(Debug)]
pub struct Config {
    /// Where the data is.
    pub database: Database,
    /// The address to listen on (`LOOP_HOST`, 127.0.0.1).
    pub host: IpAddr,
    /// The port to listen on (`PORT`, 5667); 0 for any that is free.
    pub port: u16,
    /// How webhooks are taken in.
    pub webhooks: Webhooks,
    /// What opens `POST /admin/migrate` (`LOOP_ADMIN_SECRET`).
    pub admin_secret: Option<BearerSecret>,
    /// The first of GitHub's secrets, to sign the example that is shown at a first start.
    pub github_example: Option<ExampleSecret>,
    /// Whom limits count, and how much a key may ask.
    pub limits: LimitOptions,
    /// What is around the routes.
    pub router: RouterOptions,
    /// The limits of the server.
    pub serve: ServeOptions,
    /// Who may read `GET /metrics` (`LOOP_METRICS`); absent: there is no such route.
    pub metrics: Option<MetricsAccess>,
    /// What is logged (`LOOP_LOG`, `info`): a level, or directives as `tracing` has them.
    pub log: String,
    /// Whether logs are JSON (`LOOP_LOG_FORMAT=json`) and not text.
    pub log_json: bool,
    /// Where spans go (`OTEL_EXPORTER_OTLP_ENDPOINT`), in a build with the feature `otlp`.
    pub collector: Option<Collector>,
}

/// A collector of spans, which speaks OTLP over HTTP.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Its address, before `/v1/traces`.
    pub endpoint: String,
    /// What this service is called there (`OTEL_SERVICE_NAME`, `loop`).
    pub service_name: String,
}

/// Where the data is.
pub struct Database {
    /// The connection string (`DATABASE_URL`); absent: a PostgreSQL inside the process.
    pub url: Option<String>,
    /// The directory of the PostgreSQL inside the process (`LOOP_DATA_DIR`, `./.loop`).
    pub data_dir: PathBuf,
    /// The most connections (`LOOP_POOL_SIZE`).
    pub pool_size: Option<usize>,
    /// How statements travel (`LOOP_STATEMENT_MODE`).
    pub statement_mode: Option<StatementMode>,
    /// The schema the tables are in (`LOOP_SCHEMA`).
    pub schema: Option<String>,
    /// Whether the database guards each project's rows itself (`LOOP_ROW_SECURITY`).
    pub row_security: Option<bool>,
    /// The sources whose signals each open an issue of their own (`LOOP_UNGROUPED_SOURCES`).
    pub ungrouped_sources: Vec<String>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connection string holds a password.
        f.debug_struct("Database").field("data_dir", &self.data_dir).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Database {
    /// A store over the database that the connection string names.
    ///
    /// # Errors
    ///
    /// As [`loop_core::StoreBuilder::build`].
    pub fn store(&self, url: &str) -> Result<LoopStore, Error> {
        self.builder(url).build()
    }

    /// The settings of a store over the database that the connection string names.
    pub fn builder(&self, url: &str) -> StoreBuilder {
        let mut builder = LoopStore::builder(url).ungrouped_sources(&self.ungrouped_sources);
        if let Some(size) = self.pool_size {
            builder = builder.pool_size(size);
        }
        if let Some(mode) = self.statement_mode {
            builder = builder.statement_mode(mode);
        }
        if let Some(schema) = &self.schema {
            builder = builder.schema(schema);
        }
        if let Some(on) = self.row_security {
            builder = builder.row_security(on);
        }
        builder
    }
}

/// What opens a route that is no caller's, such as `POST /admin/migrate`, as its SHA-256.
#[derive(Clone)]
pub struct BearerSecret([u8; 32]);

impl BearerSecret {
    /// The secret with this text. `None` for the empty one, which would open to everybody, and for one that no header can carry: it must be
    /// of printable ASCII characters without spaces.
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether this is the secret, in a time that does not depend on how much of it is right.
    pub(crate) fn is(&self, text: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(text).into();
        digest.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for BearerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerSecret")
    }
}

/// A secret to sign an example with. Not shown by `Debug`.
#[derive(Clone)]
pub struct ExampleSecret(String);

impl ExampleSecret {
    /// The secret's text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ExampleSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExampleSecret")
    }
}

/// What is wrong with the configuration: a line for each problem.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    ///
    /// Every variable that has a wrong value, each with what is wrong. The values themselves are not repeated.
    pub fn from_env() -> Result<Self, ConfigError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        let variables = |name: &str| match std::env::var(name) {
            Ok(value) => Some(Ok(value)),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => Some(Err(())),
        };
        Self::read(variables)
    }

    /// Reads variables from anywhere.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_variables(variables: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::read(|name| variables(name).map(Ok))
    }

    fn read(variables: impl Fn(&str) -> Option<Result<String, ()>>) -> Result<Self, ConfigError> {
        let mut reader = Reader { variables, wrong: Vec::new() };
        let defaults = (RouterOptions::default(), ServeOptions::default());
        let config = Self {
            database: Database {
                url: reader.database_url(),
                data_dir: reader.text("LOOP_DATA_DIR").unwrap_or_else(|| "./.loop".to_owned()).into(),
                pool_size: reader.check("LOOP_POOL_SIZE", "a whole number from 1 to 1000", |text| {
                    text.parse().ok().filter(|size| (1..=1000).contains(size))
                }),
                statement_mode: reader
                    .check("LOOP_STATEMENT_MODE", "prepared, unnamed or auto", |text| match text {
                        "prepared" => Some(Some(StatementMode::Prepared)),
                        "unnamed" => Some(Some(StatementMode::Unnamed)),
                        "auto" => Some(None),
                        _ => None,
                    })
                    .flatten(),
                schema: reader.check("LOOP_SCHEMA", "1 to 63 letters, digits, underscores and hyphens", |text| {
                    let plain = text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                    plain.then(|| text.to_owned())
                }),
                row_security: reader.parse("LOOP_ROW_SECURITY", "true or false"),
                ungrouped_sources: reader
                    .check("LOOP_UNGROUPED_SOURCES", "sources such as github with commas between them", |text| {
                        text.split(',').map(|source| Some(source.trim().to_owned()).filter(|source| !source.is_empty())).collect()
                    })
                    .unwrap_or_default(),
            },
            host: reader.parse("LOOP_HOST", "an IP address such as 127.0.0.1 or 0.0.0.0").unwrap_or(IpAddr::from([127, 0, 0, 1])),
            port: reader.parse("PORT", "a port number from 0 to 65535").unwrap_or(5667),
            webhooks: Webhooks {
                github: reader.verifier("GITHUB_WEBHOOK_SECRET", |secrets| Ok(GithubVerifier::new(secrets))),
                sentry: reader.verifier("SENTRY_CLIENT_SECRET", |secrets| Ok(SentryVerifier::new(secrets))),
                posthog: reader.verifier("POSTHOG_WEBHOOK_SECRET", PosthogVerifier::new),
                body_limit: reader
                    .check("LOOP_WEBHOOK_BODY_LIMIT", "a number of bytes from 1024 to 26214400", |text| {
                        text.parse().ok().filter(|bytes| (1 << 10..=25 << 20).contains(bytes))
                    })
                    .unwrap_or(Webhooks::DEFAULT_BODY_LIMIT),
            },
            admin_secret: reader.check("LOOP_ADMIN_SECRET", "a secret of printable ASCII characters without spaces", BearerSecret::new),
            github_example: reader
                .text("GITHUB_WEBHOOK_SECRET")
                .and_then(|text| text.split(',').next().map(|first| ExampleSecret(first.trim().to_owned()))),
            limits: LimitOptions {
                trusted_proxies: reader
                    .check("LOOP_TRUSTED_PROXIES", "addresses or networks such as 10.0.0.0/8 with commas between them", |text| {
                        text.split(',').map(|part| network(part.trim())).collect()
                    })
                    .unwrap_or_default(),
                key_requests_per_minute: reader.parse("LOOP_KEY_REQUESTS_PER_MINUTE", "a whole number from 1 to 4294967295"),
            },
            router: RouterOptions {
                cors_origins: reader
                    .check("LOOP_CORS_ORIGINS", "origins such as https://app.example.com with commas between them, or *", origins)
                    .unwrap_or_default(),
                ..defaults.0
            },
            serve: ServeOptions {
                max_connections: reader
                    .check("LOOP_MAX_CONNECTIONS", "a whole number from 1 to 1000000", |text| {
                        text.parse().ok().filter(|count| (1..=1_000_000).contains(count))
                    })
                    .unwrap_or(defaults.1.max_connections),
                http2: reader.parse("LOOP_HTTP2", "true or false").unwrap_or(defaults.1.http2),
                ..defaults.1
            },
            metrics: reader
                .check("LOOP_METRICS", "off, on, or a token of at least 16 printable ASCII characters without spaces", |text| match text {
                    "off" => Some(None),
                    "on" => Some(Some(MetricsAccess::Anyone)),
                    // Longer than any word that somebody may take for a switch.
                    token if token.len() >= 16 => BearerSecret::new(token).map(|token| Some(MetricsAccess::Bearer(token))),
                    _ => None,
                })
                .flatten(),
            log: reader
                .check("LOOP_LOG", "a level such as info, or directives such as warn,loop_http=debug", |text| {
                    // A word that is no level would be read as the name of a target, and everything else be silent.
                    let level = |part: &str| part.contains(['=', '[']) || part.trim().parse::<LevelFilter>().is_ok();
                    let understood = text.split(',').all(level) && tracing_subscriber::EnvFilter::builder().parse(text).is_ok();
                    understood.then(|| text.to_owned())
                })
                .unwrap_or_else(|| "info".to_owned()),
            log_json: reader
                .check("LOOP_LOG_FORMAT", "text or json", |text| match text {
                    "text" => Some(false),
                    "json" => Some(true),
                    _ => None,
                })
                .unwrap_or(false),
            collector: reader.collector(),
        };
        // What the store would refuse, it is asked for here, so that it stands beside the rest.
        if let Some(url) = &config.database.url
            && let Err(error) = config.database.builder(url).check()
        {
            reader.wrong.push(format!("DATABASE_URL: {error}"));
        }
        if reader.wrong.is_empty() { Ok(config) } else { Err(ConfigError(reader.wrong)) }
    }

    /// Begins to write logs, to standard error: what a command answers is on standard output. Does nothing where logs are written already.
    /// Panics are logged from then on, by the place they come from.
    /// With a collector it must be called on a runtime of tokio's, and what it answers be ended there.
    pub fn init_logs(&self) -> Logs {
        Logs::begin(self)
    }

    /// What the routes share, over this store.
    pub fn state(&self, store: LoopStore) -> AppState {
        let (webhooks, admin_secret) = (self.webhooks.clone(), self.admin_secret.clone());
        let state = AppState::with_limits(store, webhooks, admin_secret, self.limits.clone());
        match &self.metrics {
            Some(access) => state.with_metrics(access.clone()),
            None => state,
        }
    }
}

/// A network, or an address as the network that holds it alone.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn origins(text: &str) -> Option<Vec<HeaderValue>> {
    let origin = |text: &str| {
        let text = text.trim();
        let plain = text == "*"
            || text.split_once("://").is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains('/'));
        HeaderValue::from_str(text).ok().filter(|_| plain)
    };
    text.split(',').map(origin).collect()
}

/// Reads variables, and notes what is wrong with them.
struct Reader<V> {
    variables: V,
    wrong: Vec<String>,
}

impl<V: Fn(&str) -> Option<Result<String, ()>>> Reader<V> {
    /// A variable's text. An empty variable counts as absent, as shells and compose files make them.
    fn text(&mut self, name: &str) -> Option<String> {
        let Ok(text) = (self.variables)(name)? else {
            self.wrong.push(format!("{name}: must be UTF-8"));
            return None;
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// The one variable that may not be empty: a secret that was not filled in must not start an empty database of its own.
    fn database_url(&mut self) -> Option<String> {
        if (self.variables)("DATABASE_URL").is_some_and(|text| text.is_ok_and(|text| text.trim().is_empty())) {
            self.wrong.push("DATABASE_URL: must not be empty; leave it out for the embedded database".to_owned());
            return None;
        }
        self.text("DATABASE_URL")
    }

    fn collector(&mut self) -> Option<Collector> {
        let service_name = self.text("OTEL_SERVICE_NAME").unwrap_or_else(|| "loop".to_owned());
        let endpoint = self.check("OTEL_EXPORTER_OTLP_ENDPOINT", "an address such as http://localhost:4318", |text| {
            let address = text.parse::<http::Uri>().ok()?;
            let known = matches!(address.scheme_str(), Some("http" | "https")) && address.query().is_none();
            // A password belongs into OTEL_EXPORTER_OTLP_HEADERS, which is not shown.
            (known && address.authority().is_some_and(|authority| !authority.as_str().contains('@'))).then(|| text.to_owned())
        })?;
        Some(Collector { endpoint, service_name })
    }

    fn check<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let value = read(text.trim());
        if value.is_none() {
            self.wrong.push(format!("{name}: must be {expected}"));
        }
        value
    }

    fn parse<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        self.check(name, expected, |text| text.parse().ok())
    }

    fn verifier<T>(&mut self, name: &str, make: impl FnOnce(Secrets) -> Result<T, SecretError>) -> Option<T> {
        let text = self.text(name)?;
        Secrets::from_comma_separated(&text).and_then(make).inspect_err(|error| self.wrong.push(format!("{name}: {error}"))).ok()
    }
}
