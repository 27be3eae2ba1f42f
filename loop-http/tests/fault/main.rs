//! Faults: the compiled server and a real PostgreSQL, killed, cut off, filled up, and crowded, in the middle of writes. Every outcome is
//! counted: what was acknowledged is looked up afterwards by its id, and none of it may be missing.
//!
//! `cargo test -p loop-http --test fault -- --include-ignored --nocapture` runs all of them, and shows what each measured.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod account;
mod clock;
mod crowd;
mod database;
mod disk;
#[cfg(feature = "embedded")]
mod embedded;
mod load;
mod network;
mod pool;
mod postgres;
#[path = "../it/process.rs"]
#[expect(dead_code, reason = "the other tests need all of it")]
mod process;
mod server;
#[path = "../it/wire.rs"]
#[expect(dead_code, reason = "the other tests need all of it")]
mod wire;
