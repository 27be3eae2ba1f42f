//! What is the same in every run, and so can be held in a test: allocations, and plans.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod allocations;
mod plans;
