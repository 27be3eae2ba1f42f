//! `report`: BENCHMARKS.md, from what was kept.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{load, run::Run, soak::Soak, start::Start, table::table};

/// What Criterion keeps of a bench, in nanoseconds.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

pub(crate) fn write(target: &Path, results: &Path) -> Result<()> {
    let run: Run = load(&results.join("run.json"))?.context("nothing was measured: run it without `report` first")?;
    let soak: Option<Soak> = load(&results.join("soak.json"))?;
    let start: Option<Start> = load(&results.join("start.json"))?;
    let mut benches = BTreeMap::new();
    criterion(&target.join("criterion"), &mut benches)?;

    let mut text = include_str!("head.md").to_owned();
    let facts = |facts: &[(String, String)]| {
        table(&["", ""], &facts.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect::<Vec<_>>())
    };
    let _ = write!(
        text,
        "\n## Where\n\n{}\nPostgreSQL's settings; all others are its defaults:\n\n{}",
        facts(&run.machine),
        facts(&run.settings)
    );
    let _ = write!(
        text,
        "\n## Under load\n\n{} issues with labels, relations and a signal each; every measurement {} times for {} seconds.\n\n{}\n\
         CPU is in cores, on average. The server had {:.1} MiB of memory before the first request.\n",
        run.plan.issues,
        run.plan.rounds,
        run.plan.seconds,
        run.table(),
        run.idle.now
    );
    let _ = write!(text, "\n## Beside PostgreSQL itself\n\n{}\n{}", include_str!("comparison.md"), run.comparison());
    if let Some(versus) = run.versus() {
        let _ = write!(text, "\n## Beside another implementation\n\nIn turn with it, in the same run.\n\n{versus}");
    }
    if let Some(start) = start {
        let _ = write!(text, "\n## Start and memory\n\n{}", start.table());
    }
    if let Some(soak) = soak {
        let _ = write!(text, "\n## Memory over time\n\nAll routes in turn, from 64 connections at once.\n\n{}", soak.table());
    }
    if !benches.is_empty() {
        let rows: Vec<_> = benches.iter().map(|(name, median)| row(name, median)).collect();
        let _ = write!(
            text,
            "\n## Parts\n\nBy `cargo bench -p benches`, with Criterion.\n\n{}",
            table(&["bench", "median", "from", "to"], &rows)
        );
    }
    let _ = write!(text, "\n{}", include_str!("tail.md"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../BENCHMARKS.md");
    fs::write(&file, text)?;
    println!("written: {}", file.display());
    Ok(())
}

/// Every bench under the directory: its name is in `benchmark.json`, its numbers are in `estimates.json` beside it.
fn criterion(dir: &Path, found: &mut BTreeMap<String, Estimate>) -> Result<()> {
    #[derive(Deserialize)]
    struct Benchmark {
        full_id: String,
    }

    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == "new") {
            let (benchmark, estimates) =
                (load::<Benchmark>(&path.join("benchmark.json"))?, load::<Estimates>(&path.join("estimates.json"))?);
            if let Some((benchmark, estimates)) = benchmark.zip(estimates) {
                found.insert(benchmark.full_id, estimates.median);
            }
        } else if path.is_dir() {
            criterion(&path, found)?;
        }
    }
    Ok(())
}

fn row(name: &str, median: &Estimate) -> Vec<String> {
    let time = |nanoseconds: f64| match nanoseconds {
        ..1e3 => format!("{nanoseconds:.0} ns"),
        1e3..1e6 => format!("{:.2} µs", nanoseconds / 1e3),
        _ => format!("{:.2} ms", nanoseconds / 1e6),
    };
    let Interval { lower_bound, upper_bound } = median.confidence_interval;
    vec![name.to_owned(), time(median.point_estimate), time(lower_bound), time(upper_bound)]
}
