//! `wrk`, where it is installed: a generator that costs less than this one, for what has no body.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::route::{Route, Target};

/// The requests a second that it comes to.
pub(crate) fn run(target: &Target, route: &Route, connections: usize, duration: Duration, scratch: &Path) -> Result<Option<f64>> {
    let Some(script) = route.wrk_script() else { return Ok(None) };
    let file = scratch.join("wrk.lua");
    fs::write(&file, script)?;
    let seconds = format!("{}s", duration.as_secs().max(1));
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-d", &seconds, "-c", &connections.to_string(), "-s"]).arg(&file).arg(format!("http://{}/", target.address));
    let Ok(output) = wrk.output() else { return Ok(None) };
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk: {text}");
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk said no rate")?;
    Ok(Some(rate.trim().parse()?))
}
