//! The API over real HTTP: a server on a port of its own over a database of its own (see `loop_core::test_util`).
//!
//! Tests that need several connections are ignored unless asked for: `cargo test -p loop-http -- --include-ignored` runs them on a server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod answer;
mod auth;
mod binary;
mod bodies;
mod comments;
mod config;
mod connections;
mod database;
#[cfg(feature = "docs")]
mod docs;
#[cfg(feature = "embedded")]
mod embedded;
mod errors;
mod events;
mod goals;
mod health;
mod hostile;
mod idempotency;
mod issue_lists;
mod issues;
mod keys;
mod labels;
mod limits;
mod lists;
mod logs;
mod metrics;
mod openapi;
mod openapi_answers;
mod openapi_inputs;
#[cfg(feature = "otlp")]
mod otlp;
mod process;
mod projects;
mod references;
mod relations;
mod revisions;
mod routes;
mod scope;
mod server;
mod signals;
mod signatures;
mod support;
mod templates;
mod texts;
mod webhooks;
mod wire;
