#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

#[macro_use]
mod sql_text;

#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod ids;
mod json;
mod migrate;
mod model;
mod page;
mod patch;
mod store;
#[cfg(feature = "test-util")]
pub mod test_util;
mod text;
pub mod time_limit;
mod timestamp;
pub mod webhook;

pub use error::{Entity, Error, Source};
pub use ids::*;
pub use json::{InvalidJson, JsonObject, check_syntax};
pub use migrate::{MigrationReport, MigrationStatus};
pub use model::*;
pub use page::{Cursor, Limit, Page, PageRequest, Start};
pub use patch::Patch;
/// The version of rustls that [`StoreBuilder::tls_config`] takes its configuration from.
#[cfg(feature = "tls")]
pub use rustls;
pub use store::*;
pub use text::*;
pub use timestamp::{InvalidTimestamp, Timestamp};
