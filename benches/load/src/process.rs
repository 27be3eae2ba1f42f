//! What processes cost, by what Linux says of them.

use std::fs;

use anyhow::{Context as _, Result};

/// The clock of `/proc/PID/stat` ticks a hundred times a second, whatever the kernel's own does.
const TICKS: f64 = 100.0;

/// The seconds of CPU that a process took so far, without its children.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(ticks(pid, 2)? / TICKS)
}

/// The same with its children, also those that have ended.
pub(crate) fn cpu_seconds_with_children(pid: u32) -> Result<f64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let running: f64 = children.split_whitespace().filter_map(|child| ticks(child.parse().ok()?, 2).ok()).sum();
    // Its own time and that of children it has waited for.
    Ok((ticks(pid, 4)? + running) / TICKS)
}

/// The sum, in ticks, of as many as asked for of: its own time in the program and in the kernel, and the same of children it has waited for.
fn ticks(pid: u32, fields: usize) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in brackets, and may hold anything. The fields behind it are counted from the third.
    let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
    rest.split(' ').skip(11).take(fields).map(|field| Ok(field.parse::<f64>()?)).sum()
}

/// The resident memory of a process, now and at its most, in MiB.
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("/proc/PID/status")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    };
    Ok(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// The machine, and what was built with what.
pub(crate) fn machine() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| -> String {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cpus = read("/proc/cpuinfo");
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    let facts = [
        ("CPU", field(&cpus, "model name")),
        ("cores", cpus.lines().filter(|line| line.starts_with("processor")).count().to_string()),
        ("memory", field(&read("/proc/meminfo"), "MemTotal")),
        // Without what those who built it call it.
        ("kernel", read("/proc/sys/kernel/osrelease").trim().split('-').next().unwrap_or_default().to_owned()),
        ("load average before", read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()),
        ("rustc", rustc.map_or_else(|_| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
