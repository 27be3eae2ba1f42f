//! The function: its service on events of every kind, and the compiled function behind a runtime API of the test's own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adapter;
mod event;
mod function;
mod runtime_api;
mod scenario;
