#![doc = include_str!("../README.md")]
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a bench that cannot go on has failed")]

mod allocations;
mod database;
mod deliveries;
mod pair;
pub mod twin;

pub use allocations::{Allocations, allocations};
pub use database::{Database, Place, Server, asked_rows, largest, pin_to_core};
pub use deliveries::Delivery;
pub use pair::{Bench, Way, is_test, median, nothing};

/// It counts what each thread allocates.
#[global_allocator]
static ALLOCATOR: alloc_tracker::Allocator<std::alloc::System> = alloc_tracker::Allocator::system();
