//! The load harness: one command starts PostgreSQL and the server, fills them, drives every hot route over HTTP beside `pgbench` with the same
//! statements, and prints what came of it. `BENCHMARKS.md` is written from what it keeps under `target/load`.

mod generator;
mod pgbench;
mod postgres;
mod process;
mod report;
mod route;
mod run;
mod server;
mod soak;
mod start;
mod table;
mod world;
mod wrk;

use std::{
    fs,
    net::ToSocketAddrs as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    route::{RouteFile, Target},
    run::Plan,
    server::Server,
    world::World,
};

/// Measures Loop's server under load.
#[derive(Parser)]
#[command(name = "load")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
    /// Small sizes, to see that everything works; the numbers mean nothing.
    #[arg(long, global = true)]
    quick: bool,
    /// The server's program; absent: its release build, made now.
    #[arg(long, global = true)]
    server: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Drive each route, beside pgbench (the default).
    Run(RunArguments),
    /// Drive all routes at once for a while, and watch the server's memory.
    Soak {
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
    },
    /// Measure how long the server takes to start, and its memory when nobody asks.
    Start,
    /// Write BENCHMARKS.md from what the others measured.
    Report,
}

#[derive(Args, Clone)]
struct RunArguments {
    /// Only these routes.
    #[arg(long, value_delimiter = ',')]
    routes: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    connections: Vec<usize>,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often each measurement is taken, in turn with what it is compared with.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Another implementation to compare with, such as 127.0.0.1:8080; needs --routes-file.
    #[arg(long, requires = "routes_file")]
    against: Option<String>,
    /// How that one is asked: a file such as benches/load/src/routes.json.
    #[arg(long)]
    routes_file: Option<PathBuf>,
    /// Another build of the server to compare with, over the same database.
    #[arg(long, conflicts_with = "against")]
    versus: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { command, run, quick, server } = Arguments::parse();
    let target = target_dir()?;
    let results = target.join(if quick { "load/quick" } else { "load" });
    fs::create_dir_all(&results)?;
    let binary = || server.clone().map_or_else(|| server::build(&target), Ok);
    let issues = if quick { 2_000 } else { 100_000 };
    match command.unwrap_or(Command::Run(run)) {
        Command::Run(arguments) => {
            let plan = plan(&arguments, quick, issues);
            let world = World::new(&binary()?, issues)?;
            for (name, value) in &world.settings {
                println!("{name} = {value}");
            }
            let other = other(&arguments, &world)?;
            let run = run::run(&world, plan, other.as_ref().map(|(target, _)| target), &results)?;
            println!("\n{}\n{}\n{}", run.table(), run.comparison(), run.versus().unwrap_or_default());
            save(&results.join("run.json"), &run)?;
            if quick {
                let soak = soak::soak(&world, 0.05)?;
                println!("{}", soak.table());
                let start = start::start(&binary()?, world, 3)?;
                println!("{}", start.table());
            }
        }
        Command::Soak { minutes } => {
            let world = World::new(&binary()?, issues)?;
            let soak = soak::soak(&world, minutes)?;
            println!("{}", soak.table());
            save(&results.join("soak.json"), &soak)?;
        }
        Command::Start => {
            let binary = binary()?;
            let start = start::start(&binary, World::new(&binary, issues)?, 15)?;
            println!("{}", start.table());
            save(&results.join("start.json"), &start)?;
        }
        Command::Report => report::write(&target, &results)?,
    }
    Ok(())
}

fn plan(arguments: &RunArguments, quick: bool, issues: u32) -> Plan {
    let RunArguments { routes, connections, seconds, rounds, .. } = arguments.clone();
    if quick {
        return Plan { issues, connections: vec![16], routes, rounds: 1, seconds: 0.25, open_share: 0.5 };
    }
    Plan { issues, connections, routes, rounds, seconds, open_share: 0.5 }
}

/// What the server is compared with, and its process, if it is one of ours.
fn other(arguments: &RunArguments, world: &World) -> Result<Option<(Target, Option<Server>)>> {
    if let Some(binary) = &arguments.versus {
        let server = Server::start(binary, &world.postgres.url(), "GET /health", &world.key)?;
        return Ok(Some((Target::new(server.address, world.routes()?)?, Some(server))));
    }
    let (Some(against), Some(file)) = (&arguments.against, &arguments.routes_file) else { return Ok(None) };
    let address = against.trim_start_matches("http://").trim_end_matches('/');
    let address = address.to_socket_addrs()?.next().with_context(|| format!("{address} is no address"))?;
    let routes: RouteFile = serde_json::from_str(&fs::read_to_string(file)?).with_context(|| file.display().to_string())?;
    Ok(Some((Target::new(address, routes)?, None)))
}

/// The `target` directory that this program was built into.
fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    program.ancestors().nth(2).map(Path::to_owned).context("this program is not in a target directory")
}

fn save(file: &Path, results: &impl Serialize) -> Result<()> {
    fs::write(file, serde_json::to_string_pretty(results)?)?;
    println!("kept in {}", file.display());
    Ok(())
}

/// What was kept, if it was.
fn load<T: DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    let Ok(text) = fs::read_to_string(file) else { return Ok(None) };
    serde_json::from_str(&text).map(Some).with_context(|| file.display().to_string())
}
