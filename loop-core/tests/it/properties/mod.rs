//! Properties of inputs that nobody thought of, and of long sequences of what callers may do. `loop_core::test_util::arbitrary` says how many
//! are tried.

mod grouping;
mod hierarchy;
mod history;
mod intake;
mod paging;
mod promotion;
mod texts;
mod verifiers;

use std::fmt::Debug;

use loop_core::{
    LoopStore,
    test_util::{TestDb, arbitrary},
};
use proptest::strategy::Strategy;

/// Tries a property of a store, each time on what the times before left there.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "a closure is handed over where it is written")]
fn check_store<S: Strategy<Value: Debug>>(cases: u32, inputs: &S, property: impl AsyncFn(&LoopStore, S::Value)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let db = runtime.block_on(TestDb::new());
    arbitrary::check(cases, inputs, |input| runtime.block_on(property(db.store(), input)));
    runtime.block_on(async { drop(db) });
}
