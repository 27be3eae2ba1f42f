//! `report`: BENCHMARKS.md, from what was kept.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{load, run::Run, soak::Soak, start::Start, table::table};

/// What a bench keeps of two ways to the same end.
#[derive(Deserialize)]
struct Pair {
    id: String,
    names: [String; 2],
    /// The ratio, between the bounds of its confidence interval.
    estimate: [f64; 3],
    nanoseconds: [f64; 2],
    allocations: [String; 2],
}

pub(crate) fn write(target: &Path, results: &Path) -> Result<()> {
    let run: Run = load(&results.join("run.json"))?.context("nothing was measured: run it without `report` first")?;
    let soak: Option<Soak> = load(&results.join("soak.json"))?;
    let start: Option<Start> = load(&results.join("start.json"))?;
    let pairs = pairs(&target.join("pairs"))?;

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
         What is offered a second is the rate of the open loop, and the next three columns are of it. Any measured answer but a 2xx ends\n\
         the run. CPU is in cores, on average. The server had {:.1} MiB of memory before the first request.\n",
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
    if !pairs.is_empty() {
        let head = ["what", "of", "ratio", "95 %", "time of a call", "allocations"];
        let rows: Vec<_> = pairs.iter().map(row).collect();
        let _ = write!(
            text,
            "\n## Parts, beside what one would otherwise use\n\nBy `cargo bench -p benches`: [what is measured beside what](benches/README.md).\n\n{}",
            table(&head, &rows)
        );
    }
    let _ = write!(text, "\n{}", include_str!("tail.md"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../BENCHMARKS.md");
    fs::write(&file, text)?;
    println!("written: {}", file.display());
    Ok(())
}

/// What is kept of every pair, in the order of their ids.
fn pairs(directory: &Path) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        pairs.extend(load::<Pair>(&entry?.path())?);
    }
    pairs.sort_by(|one, other| (&one.id, &one.names).cmp(&(&other.id, &other.names)));
    Ok(pairs)
}

fn row(Pair { id, names: [one, other], estimate: [low, ratio, high], nanoseconds, allocations }: &Pair) -> Vec<String> {
    let time = |nanoseconds: f64| match nanoseconds {
        ..1e3 => format!("{nanoseconds:.0} ns"),
        1e3..1e6 => format!("{:.1} µs", nanoseconds / 1e3),
        _ => format!("{:.2} ms", nanoseconds / 1e6),
    };
    let [mine, its] = nanoseconds.map(time);
    vec![
        id.clone(),
        format!("{one} / {other}"),
        format!("{ratio:.3}"),
        format!("{low:.3} to {high:.3}"),
        format!("{mine} / {its}"),
        allocations.join(" / "),
    ]
}
