//! The configuration, read from made-up environments.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use loop_core::StatementMode;
use loop_http::{Config, MetricsAccess, ServeOptions, Webhooks};

fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    Config::from_variables(|name| variables.get(name).map(|value| (*value).to_owned())).map_err(|error| error.0)
}

#[test]
fn everything_has_a_default() {
    let config = read(&[]).unwrap();
    assert_eq!((config.host, config.port), (IpAddr::from([127, 0, 0, 1]), 5667));
    assert_eq!((config.database.url, config.database.data_dir), (None, PathBuf::from("./.loop")));
    assert_eq!((config.database.pool_size, config.database.statement_mode, config.database.schema), (None, None, None));
    assert!(config.webhooks.github.is_none() && config.webhooks.sentry.is_none() && config.webhooks.posthog.is_none());
    assert_eq!(config.webhooks.body_limit, Webhooks::DEFAULT_BODY_LIMIT);
    assert!(config.admin_secret.is_none() && config.github_example.is_none());
    assert!(config.router.cors_origins.is_empty());
    assert_eq!(config.serve.max_connections, ServeOptions::default().max_connections);
    assert!(!config.serve.http2 && config.metrics.is_none());
    assert_eq!((config.log.as_str(), config.log_json), ("info", false));
    assert!(config.collector.is_none());
}

#[test]
fn everything_can_be_chosen() {
    let config = read(&[
        ("DATABASE_URL", "postgres://loop:secret@db.example.com/loop?sslmode=disable"),
        ("LOOP_DATA_DIR", "/var/lib/loop"),
        ("LOOP_POOL_SIZE", " 25 "),
        ("LOOP_STATEMENT_MODE", "prepared"),
        ("LOOP_SCHEMA", "tenant_1"),
        ("LOOP_HOST", "::"),
        ("PORT", "0"),
        ("GITHUB_WEBHOOK_SECRET", "new, old"),
        ("SENTRY_CLIENT_SECRET", "s"),
        ("POSTHOG_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,shared"),
        ("LOOP_WEBHOOK_BODY_LIMIT", "26214400"),
        ("LOOP_ADMIN_SECRET", "open-sesame"),
        ("LOOP_CORS_ORIGINS", "https://app.example.com, http://localhost:3000"),
        ("LOOP_MAX_CONNECTIONS", "10"),
        ("LOOP_HTTP2", "true"),
        ("LOOP_METRICS", "on"),
        ("LOOP_LOG", "warn,loop_http=debug"),
        ("LOOP_LOG_FORMAT", "json"),
        ("LOOP_ROW_SECURITY", "true"),
        ("LOOP_UNGROUPED_SOURCES", "github, cron"),
        ("LOOP_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1, 2001:db8::/32"),
        ("LOOP_KEY_REQUESTS_PER_MINUTE", "600"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example.com/tenant"),
        ("OTEL_SERVICE_NAME", "loop-eu"),
    ])
    .unwrap();
    assert_eq!((config.host, config.port), ("::".parse().unwrap(), 0));
    assert_eq!(config.database.data_dir, PathBuf::from("/var/lib/loop"));
    assert_eq!((config.database.pool_size, config.database.statement_mode), (Some(25), Some(StatementMode::Prepared)));
    assert_eq!(config.database.schema.as_deref(), Some("tenant_1"));
    assert!(config.webhooks.github.is_some() && config.webhooks.sentry.is_some() && config.webhooks.posthog.is_some());
    assert_eq!(config.webhooks.body_limit, 25 << 20);
    assert!(config.admin_secret.is_some());
    assert_eq!(config.github_example.as_ref().unwrap().reveal(), "new");
    assert_eq!(config.router.cors_origins, ["https://app.example.com", "http://localhost:3000"]);
    assert_eq!((config.serve.max_connections, config.serve.http2), (10, true));
    assert_eq!((config.log.as_str(), config.log_json), ("warn,loop_http=debug", true));
    assert_eq!(
        (config.database.row_security, config.database.ungrouped_sources),
        (Some(true), vec!["github".to_owned(), "cron".to_owned()])
    );
    let proxies: Vec<_> = config.limits.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    assert_eq!(config.limits.key_requests_per_minute, std::num::NonZeroU32::new(600));
    assert!(matches!(config.metrics, Some(MetricsAccess::Anyone)));
    let collector = config.collector.unwrap();
    assert_eq!((collector.endpoint.as_str(), collector.service_name.as_str()), ("https://collector.example.com/tenant", "loop-eu"));
    let token = read(&[("LOOP_METRICS", "a-token-of-the-scraper")]).unwrap();
    assert!(matches!(token.metrics, Some(MetricsAccess::Bearer(_))));
    assert!(read(&[("LOOP_METRICS", "off")]).unwrap().metrics.is_none());
    for (mode, expected) in [("unnamed", Some(StatementMode::Unnamed)), ("auto", None)] {
        assert_eq!(read(&[("LOOP_STATEMENT_MODE", mode)]).unwrap().database.statement_mode, expected);
    }
}

/// Every variable that can be wrong, each with a value that is, and what is said of it.
const WRONG: &[(&str, &str, &str)] = &[
    ("LOOP_POOL_SIZE", "zero-pool", "must be a whole number from 1 to 1000"),
    ("LOOP_STATEMENT_MODE", "sometimes", "must be prepared, unnamed or auto"),
    ("LOOP_SCHEMA", "no schema", "must be 1 to 63 letters, digits, underscores and hyphens"),
    ("LOOP_HOST", "localhost", "must be an IP address such as 127.0.0.1 or 0.0.0.0"),
    ("PORT", "65536", "must be a port number from 0 to 65535"),
    ("GITHUB_WEBHOOK_SECRET", "hush,,quiet", "a secret must not be empty"),
    ("SENTRY_CLIENT_SECRET", "   ", "at least one secret is needed"),
    ("POSTHOG_WEBHOOK_SECRET", "whsec_c2hvcnQ=", "a signing key must be at least 24 bytes long"),
    ("LOOP_WEBHOOK_BODY_LIMIT", "99999999", "must be a number of bytes from 1024 to 26214400"),
    ("LOOP_ADMIN_SECRET", "two words", "must be a secret of printable ASCII characters without spaces"),
    ("LOOP_CORS_ORIGINS", "https://a.example.com/path", "must be origins such as https://app.example.com with commas between them, or *"),
    ("LOOP_MAX_CONNECTIONS", "-5", "must be a whole number from 1 to 1000000"),
    ("LOOP_HTTP2", "perhaps", "must be true or false"),
    ("LOOP_METRICS", "enabled", "must be off, on, or a token of at least 16 printable ASCII characters without spaces"),
    ("LOOP_LOG", "loop=noisy=very", "must be a level such as info, or directives such as warn,loop_http=debug"),
    ("LOOP_LOG_FORMAT", "yaml", "must be text or json"),
    ("LOOP_ROW_SECURITY", "on-ish", "must be true or false"),
    ("LOOP_UNGROUPED_SOURCES", "github,,cron", "must be sources such as github with commas between them"),
    ("LOOP_TRUSTED_PROXIES", "10.0.0.0/33", "must be addresses or networks such as 10.0.0.0/8 with commas between them"),
    ("LOOP_KEY_REQUESTS_PER_MINUTE", "none-at-all", "must be a whole number from 1 to 4294967295"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "hush@collector:4318", "must be an address such as http://localhost:4318"),
];

#[test]
fn every_wrong_variable_has_a_line_and_none_is_repeated() {
    let url = ("DATABASE_URL", "mysql://root:hunter2@localhost/loop");
    let all: Vec<_> = WRONG.iter().map(|(name, value, _)| (*name, *value)).chain([url]).collect();
    let lines = read(&all).unwrap_err();
    let mut expected: Vec<_> = WRONG.iter().map(|(name, _, reason)| format!("{name}: {reason}")).collect();
    let shown = lines.join("\n");
    let (of_url, mut sorted): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.starts_with("DATABASE_URL: "));
    assert_eq!(of_url.len(), 1);
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    for value in ["hunter2", "hush", "c2hvcnQ", "two words", "zero-pool", "sometimes"] {
        assert!(!shown.contains(value), "{shown}");
    }
    for (name, value, reason) in WRONG {
        assert_eq!(read(&[(name, value)]).unwrap_err(), [format!("{name}: {reason}")]);
    }
}

#[test]
fn a_mistyped_level_does_not_silence_the_log() {
    for wrong in ["inof", "warning", "verbose", "info,debgu", "loop_http"] {
        assert_eq!(read(&[("LOOP_LOG", wrong)]).unwrap_err().len(), 1, "{wrong}");
    }
    for right in ["WARN", "off", "info,loop_http=debug", "warn,loop_core=trace", "[request]=debug"] {
        assert_eq!(read(&[("LOOP_LOG", right)]).unwrap().log, right);
    }
}

#[test]
fn an_empty_variable_is_no_variable() {
    let names = WRONG.iter().map(|(name, ..)| (*name, "")).chain([("LOOP_DATA_DIR", "")]);
    let config = read(&names.collect::<Vec<_>>()).unwrap();
    assert_eq!((config.port, config.log.as_str(), config.database.url), (5667, "info", None));
    assert!(config.webhooks.github.is_none() && config.admin_secret.is_none());
    // All but this one: a secret that was not filled in must not start an empty database.
    assert_eq!(read(&[("DATABASE_URL", "")]).unwrap_err(), ["DATABASE_URL: must not be empty; leave it out for the embedded database"]);
}

#[test]
fn connection_strings_are_checked_before_they_are_used() {
    for url in [
        "postgres://",
        "localhost",
        "postgres://u:hunter2@h/d?sslmode=sometimes",
        "postgres://u:hunter2@h/d?connection_limit=0",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h/d?sslrootcert=/no/such/file",
    ] {
        let lines = read(&[("DATABASE_URL", url)]).unwrap_err();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("DATABASE_URL: ") && !lines[0].contains("hunter2"), "{lines:?}");
    }
}

#[test]
fn secrets_are_not_in_debug() {
    let config = read(&[
        ("DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("GITHUB_WEBHOOK_SECRET", "hunter3"),
        ("SENTRY_CLIENT_SECRET", "hunter4"),
        ("POSTHOG_WEBHOOK_SECRET", "hunter5"),
        ("LOOP_ADMIN_SECRET", "hunter6"),
        ("LOOP_METRICS", "hunter7-and-more-of-it"),
    ])
    .unwrap();
    let state = config.state(crate::support::no_database());
    for shown in [format!("{config:?}"), format!("{config:#?}"), format!("{state:?}")] {
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
