//! `run`: every hot route at several numbers of connections.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    generator::{self, Load, Outcome},
    pgbench::Pgbench,
    process::{self, Memory},
    route::{Route, Target},
    table::{median, milliseconds, table},
    world::World,
    wrk,
};

/// What is run.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) issues: u32,
    pub(crate) connections: Vec<usize>,
    /// The routes; all of them if empty.
    pub(crate) routes: Vec<String>,
    /// How often each measurement is taken, in turn with those that it is compared with.
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// The rate of an open loop, in parts of what the closed loop came to.
    pub(crate) open_share: f64,
}

/// What came of it, kept as JSON.
#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) plan: Plan,
    pub(crate) rows: Vec<Row>,
    pub(crate) idle: Memory,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) route: String,
    /// How many statements a request is.
    pub(crate) statements: usize,
    pub(crate) connections: usize,
    pub(crate) closed: Measured,
    pub(crate) open: Measured,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) rates: Rates,
    /// What another implementation came to.
    pub(crate) other: Option<Measured>,
}

/// Requests a second, one number for each round.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) ours: Vec<f64>,
    pub(crate) wrk: Vec<f64>,
    pub(crate) pgbench: Vec<f64>,
    pub(crate) other: Vec<f64>,
}

impl Rates {
    /// The median ratio of what was measured right after each other.
    pub(crate) fn ratio(of: &[f64], to: &[f64]) -> Option<f64> {
        let ratios: Vec<_> = of.iter().zip(to).map(|(of, to)| of / to).collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }
}

/// Latencies in nanoseconds, requests a second.
#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "a latency is no such number")]
    fn of(rate: f64, outcome: &Outcome) -> Self {
        let quantile = |part: f64| outcome.latencies.value_at_quantile(part) as f64;
        Self { rate, p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999) }
    }
}

/// How many cores each took, on average.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) server: f64,
    pub(crate) postgres: f64,
    pub(crate) generator: f64,
}

struct Meter<'w> {
    world: &'w World,
    begun: Instant,
    before: Cpu,
}

impl<'w> Meter<'w> {
    fn start(world: &'w World) -> Result<Self> {
        Ok(Self { world, begun: Instant::now(), before: Self::read(world)? })
    }

    fn read(world: &World) -> Result<Cpu> {
        Ok(Cpu {
            server: process::cpu_seconds(world.server.pid())?,
            postgres: process::cpu_seconds_with_children(world.postgres.pid())?,
            generator: process::cpu_seconds(std::process::id())?,
        })
    }

    fn stop(self) -> Result<Cpu> {
        let (after, seconds) = (Self::read(self.world)?, self.begun.elapsed().as_secs_f64());
        let cores = |after: f64, before: f64| (after - before) / seconds;
        Ok(Cpu {
            server: cores(after.server, self.before.server),
            postgres: cores(after.postgres, self.before.postgres),
            generator: cores(after.generator, self.before.generator),
        })
    }
}

/// Runs all of it, and prints each row as it comes.
pub(crate) fn run(world: &World, plan: Plan, other: Option<&Target>, scratch: &Path) -> Result<Run> {
    let (machine, idle) = (process::machine(), process::memory(world.server.pid())?);
    let mut rows: Vec<Row> = Vec::new();
    for (name, route) in &world.target.routes {
        if !plan.routes.is_empty() && !plan.routes.contains(name) {
            continue;
        }
        generator::ask_once(&world.target, route)?;
        let pgbench = Pgbench::of(world, name, route, scratch)?;
        let other = other.and_then(|target| Some((target, target.routes.get(name)?)));
        let case = Case { world, name, route, pgbench, other, scratch };
        for &connections in &plan.connections {
            let row = case.measure(&plan, connections)?;
            println!("{}", line(&row).join("  "));
            rows.push(row);
        }
    }
    ensure!(!rows.is_empty(), "there is no such route");
    Ok(Run { machine, settings: world.settings.clone(), plan, rows, idle })
}

/// A route that is measured, and what it is compared with.
struct Case<'w> {
    world: &'w World,
    name: &'w str,
    route: &'w Route,
    pgbench: Option<Pgbench>,
    other: Option<(&'w Target, &'w Route)>,
    scratch: &'w Path,
}

impl Case<'_> {
    fn measure(&self, plan: &Plan, connections: usize) -> Result<Row> {
        let Self { world, name, route, pgbench, other, scratch } = self;
        let duration = Duration::from_secs_f64(plan.seconds);
        let load = Load { connections, rate: None, warm_up: duration / 4, duration };
        let (mut closed, mut others, mut rates, mut cpus) = (Outcome::new()?, Outcome::new()?, Rates::default(), Vec::new());
        for _ in 0..plan.rounds {
            let meter = Meter::start(world)?;
            let outcome = generator::drive(&world.target, &[route], load)?;
            cpus.push(meter.stop()?);
            rates.ours.push(outcome.throughput());
            closed.add(outcome)?;
            if let Some((target, route)) = other {
                let outcome = generator::drive(target, &[route], load)?.checked()?;
                rates.other.push(outcome.throughput());
                others.add(outcome)?;
            }
            if let Some(pgbench) = pgbench {
                rates.pgbench.push(pgbench.run(&world.postgres, connections, duration)?);
            }
            rates.wrk.extend(wrk::run(&world.target, route, connections, duration, scratch)?);
        }
        let closed = closed.checked()?;
        let memory = process::memory(world.server.pid())?;
        let rate = median(&rates.ours);
        let open = generator::drive(&world.target, &[route], Load { rate: Some(rate * plan.open_share), ..load })?.checked()?;
        Ok(Row {
            route: (*name).to_owned(),
            statements: pgbench.as_ref().map_or(0, |pgbench| pgbench.statements),
            connections,
            closed: Measured::of(rate, &closed),
            open: Measured::of(open.throughput(), &open),
            cpu: typical(&cpus),
            memory,
            other: other.map(|_| Measured::of(median(&rates.other), &others)),
            rates,
        })
    }
}

/// The median of each.
fn typical(cpus: &[Cpu]) -> Cpu {
    let typical = |of: fn(&Cpu) -> f64| median(&cpus.iter().map(of).collect::<Vec<_>>());
    Cpu { server: typical(|cpu| cpu.server), postgres: typical(|cpu| cpu.postgres), generator: typical(|cpu| cpu.generator) }
}

const HEADER: &[&str] = &[
    "route",
    "connections",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "offered/s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "CPU server",
    "PostgreSQL",
    "generator",
    "RSS MiB",
];

fn line(row: &Row) -> Vec<String> {
    let Row { route, connections, closed, open, cpu, memory, .. } = row;
    let mut cells = vec![route.clone(), connections.to_string()];
    for measured in [closed, open] {
        cells.push(format!("{:.0}", measured.rate));
        cells.extend([measured.p50, measured.p99, measured.p999].map(milliseconds));
    }
    cells.extend([cpu.server, cpu.postgres, cpu.generator].map(|cores| format!("{cores:.2}")));
    cells.push(format!("{:.1}", memory.now));
    cells
}

impl Run {
    pub(crate) fn table(&self) -> String {
        table(HEADER, &self.rows.iter().map(line).collect::<Vec<_>>())
    }

    /// The requests a second that come of a route which asks nothing of the database, and the same statements without a server, one after the
    /// other: what is left to a server that adds nothing to either.
    fn bound(&self, row: &Row) -> Option<f64> {
        let bare = self.rows.iter().find(|other| other.statements == 0 && other.connections == row.connections)?;
        Some(1.0 / (1.0 / median(&bare.rates.ours) + 1.0 / median(&row.rates.pgbench)))
    }

    /// The server beside what runs the same statements without it.
    pub(crate) fn comparison(&self) -> String {
        let header = [
            "route",
            "statements",
            "connections",
            "pgbench/s",
            "requests/s",
            "ratio",
            "by wrk",
            "ratio",
            "bound/s",
            "of it",
            "server CPU µs/request",
            "PostgreSQL CPU µs/request",
        ];
        let rows = self.rows.iter().filter(|row| row.statements > 0).map(|row| {
            let Rates { ours, wrk, pgbench, other: _ } = &row.rates;
            let bound = self.bound(row);
            let cost = |cores: f64| format!("{:.0}", cores / row.closed.rate * 1e6);
            vec![
                row.route.clone(),
                row.statements.to_string(),
                row.connections.to_string(),
                rate(pgbench),
                rate(ours),
                ratio(ours, pgbench),
                rate(wrk),
                ratio(wrk, pgbench),
                bound.map_or_else(none, |bound| format!("{bound:.0}")),
                bound.map_or_else(none, |bound| format!("{:.2}", median(ours) / bound)),
                cost(row.cpu.server),
                cost(row.cpu.postgres),
            ]
        });
        table(&header, &rows.collect::<Vec<_>>())
    }

    /// The server beside another implementation, if there was one.
    pub(crate) fn versus(&self) -> Option<String> {
        let header = ["route", "connections", "requests/s", "other", "ratio", "p50 ms", "other", "p99 ms", "other"];
        let rows = self.rows.iter().filter_map(|row| {
            let (ours, other) = (&row.closed, row.other.as_ref()?);
            let mut cells = vec![row.route.clone(), row.connections.to_string()];
            cells.extend([rate(&row.rates.ours), rate(&row.rates.other), ratio(&row.rates.ours, &row.rates.other)]);
            cells.extend([ours.p50, other.p50, ours.p99, other.p99].map(milliseconds));
            Some(cells)
        });
        let rows: Vec<_> = rows.collect();
        (!rows.is_empty()).then(|| table(&header, &rows))
    }
}

fn none() -> String {
    "—".to_owned()
}

fn rate(rates: &[f64]) -> String {
    if rates.is_empty() { none() } else { format!("{:.0}", median(rates)) }
}

fn ratio(of: &[f64], to: &[f64]) -> String {
    Rates::ratio(of, to).map_or_else(none, |ratio| format!("{ratio:.2}"))
}
