//! What is allocated: the same in every run on every machine, where times are not.

use std::fmt;

use alloc_tracker::Session;

/// What one of several equal calls allocates, in the mean.
#[derive(Debug, Clone, Copy)]
pub struct Allocations {
    /// How often.
    pub count: f64,
    /// How many bytes in all, whether they are freed or not.
    pub bytes: f64,
}

impl fmt::Display for Allocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ({:.0} bytes)", self.count, self.bytes)
    }
}

/// Counts what this thread allocates for each of these inputs.
pub fn allocations<I>(inputs: Vec<I>, mut call: impl FnMut(I)) -> Allocations {
    let session = Session::new().no_stdout().no_file();
    let operation = session.operation("call");
    {
        let _span = operation.measure_thread().no_peak().iterations(inputs.len() as u64);
        for input in inputs {
            call(input);
        }
    }
    let report = session.to_report();
    let (_, counted) = report.operations().next().unwrap();
    Allocations { count: counted.allocations().unwrap(), bytes: counted.bytes().unwrap() }
}
