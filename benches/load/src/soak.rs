//! `soak`: all routes at once for a while. What requests leave behind in the server would show as memory that grows.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    generator::{self, Ending, Load},
    process,
    table::{median, table},
    world::World,
};

#[derive(Serialize, Deserialize)]
pub(crate) struct Soak {
    pub(crate) minutes: f64,
    pub(crate) requests: u64,
    /// Seconds since the beginning, and MiB.
    pub(crate) samples: Vec<(f64, f64)>,
}

/// How many connections ask.
const CONNECTIONS: usize = 64;

/// How much the last third may be above the middle one, in MiB and as a part of it: allocators keep what they had at a peak.
const NOISE: (f64, f64) = (2.0, 0.05);

pub(crate) fn soak(world: &World, minutes: f64) -> Result<Soak> {
    let duration = Duration::from_secs_f64(minutes * 60.0);
    let load = Load { connections: CONNECTIONS, rate: None, warm_up: Duration::ZERO, duration };
    let routes: Vec<_> = world.target.routes.values().collect();
    let (ended, begun, pid) = (AtomicBool::new(false), Instant::now(), world.server.pid());
    let every = (duration / 300).max(Duration::from_millis(50));
    let (outcome, samples) = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut samples = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                samples.push((begun.elapsed().as_secs_f64(), process::memory(pid).map_or(f64::NAN, |memory| memory.now)));
                thread::sleep(every);
            }
            samples
        });
        let ending = Ending(&ended);
        let outcome = generator::drive(&world.target, &routes, load);
        drop(ending);
        (outcome, sampler.join().unwrap_or_default())
    });
    let outcome = outcome?.checked()?;
    let soak = Soak { minutes, requests: outcome.latencies.len(), samples };
    let ([_, before, after], (mebibytes, part)) = (soak.thirds(), NOISE);
    // A short one is over before everything has been there once.
    ensure!(minutes < 1.0 || after - before <= mebibytes.max(before * part), "the server's memory grew from {before:.1} to {after:.1} MiB");
    Ok(soak)
}

impl Soak {
    /// The median memory in each third of the time.
    fn thirds(&self) -> [f64; 3] {
        let part = self.samples.len().div_ceil(3).max(1);
        let mut thirds = self.samples.chunks(part).map(|samples| median(&samples.iter().map(|(_, memory)| *memory).collect::<Vec<_>>()));
        std::array::from_fn(|_| thirds.next().unwrap_or(f64::NAN))
    }

    /// MiB an hour over the latter two thirds, by least squares.
    fn slope(&self) -> f64 {
        let samples = &self.samples[self.samples.len() / 3..];
        let count = f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX));
        let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
        let (time, memory) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let covariance: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - memory)).sum();
        let variance: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
        covariance / variance * 3600.0
    }

    pub(crate) fn table(&self) -> String {
        let memory = |sample: Option<&(f64, f64)>| sample.map_or_else(|| "—".to_owned(), |(_, memory)| format!("{memory:.1}"));
        let mut row =
            vec![format!("{:.1}", self.minutes), self.requests.to_string(), memory(self.samples.first()), memory(self.samples.last())];
        row.extend(self.thirds().map(|memory| format!("{memory:.1}")));
        row.push(format!("{:+.1}", self.slope()));
        table(&["minutes", "requests", "first MiB", "last MiB", "1st third", "2nd third", "3rd third", "slope MiB/h"], &[row])
    }
}
