//! The store through its public API, on whatever PostgreSQL there is (see `loop_core::test_util`).
//!
//! Tests that need several connections are ignored unless asked for: `cargo test -p loop-core -- --include-ignored` runs them on a server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api_keys;
mod comments;
mod concurrency;
mod deliveries;
#[cfg(feature = "embedded")]
mod embedded;
mod failures;
mod goals;
mod grouping;
mod history;
#[cfg(unix)]
mod hosts;
mod issue_lists;
mod issue_rules;
mod issues;
mod key_cache;
mod labels;
mod loading;
mod migrate;
mod modes;
mod observer;
mod paging;
#[cfg(unix)]
mod poolers;
mod projects;
mod promises;
mod prompts;
mod properties;
mod relations;
mod revisions;
mod round_trips;
#[cfg(unix)]
mod row_security;
mod scope;
mod signals;
mod sql;
mod support;
mod tls;
mod transactions;
mod webhook;
