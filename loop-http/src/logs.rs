//! Logs, and with the feature `otlp` spans for a collector beside them.

use std::{io::IsTerminal as _, panic::PanicHookInfo};

use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt as _, LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt,
};

#[cfg(feature = "otlp")]
use crate::otlp::Exporter;
use crate::{Config, lines::Lines};

/// What [`Config::init_logs`] began.
#[derive(Debug, Default)]
pub struct Logs {
    #[cfg(feature = "otlp")]
    exporter: Option<Exporter>,
}

impl Logs {
    /// Begins to write logs, to standard error: what a command answers is on standard output. Does nothing where logs are written already, as
    /// a host that mounts the router may do.
    pub(crate) fn begin(config: &Config) -> Self {
        // `tokio-postgres` writes each statement with its parameters. What it writes does not reach `tracing` today, and must not if one of the
        // other crates ever builds a bridge, whatever level is asked for.
        let no_parameters = Targets::new().with_default(LevelFilter::TRACE).with_target("tokio_postgres", LevelFilter::INFO);
        let lines = lines(config.log_json).with_filter(EnvFilter::new(&config.log).and(no_parameters));
        let subscriber = tracing_subscriber::registry().with(lines);
        #[cfg(feature = "otlp")]
        if let Some(collector) = &config.collector {
            return match Exporter::begin(collector) {
                Ok((spans, exporter)) => {
                    let begun = write(subscriber.with(spans));
                    Self { exporter: begun.then_some(exporter) }
                }
                Err(error) => {
                    write(subscriber);
                    tracing::warn!(error, "no spans are exported");
                    Self::default()
                }
            };
        }
        write(subscriber);
        #[cfg(not(feature = "otlp"))]
        if config.collector.is_some() {
            tracing::warn!("OTEL_EXPORTER_OTLP_ENDPOINT is set, and this build exports no spans: build it with the feature `otlp`");
        }
        Self::default()
    }

    /// Sends what is still to be sent, and waits for it no longer than a few seconds.
    #[cfg_attr(not(feature = "otlp"), expect(clippy::unused_async, reason = "the other build waits"))]
    pub async fn end(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter {
            exporter.end().await;
        }
    }
}

/// Has these write what is logged from now on, panics included, unless others do. Answers whether they do.
fn write(subscriber: impl SubscriberInitExt) -> bool {
    let begun = subscriber.try_init().is_ok();
    if begun {
        std::panic::set_hook(Box::new(log_panic));
    }
    begun
}

/// Logs where a panic comes from, and not what it says: that may quote what a client sent, as one about a text cut within a character does.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "a panic");
}

fn lines(json: bool) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = fmt::layer().with_writer(std::io::stderr);
    if !json && std::io::stderr().is_terminal() {
        // With colours, unless `NO_COLOR` is set.
        return layer.boxed();
    }
    let lines = if json { Lines::Json } else { Lines::Text };
    layer.fmt_fields(lines).event_format(lines).boxed()
}
