//! `start`: how long the server takes from the start of its process to its first answer, and its memory while nobody asks.

use std::{path::Path, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    generator::{self, Load},
    process,
    server::Server,
    table::{median, table},
    world::{World, id},
};

#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    /// Milliseconds to the first answer of `GET /health`.
    pub(crate) health: Vec<f64>,
    /// Milliseconds to the first answer of `GET /api/v1/issues/{id}`, which has asked the database.
    pub(crate) issue: Vec<f64>,
    /// MiB after the first answer, with this many idle connections, and after load from them.
    pub(crate) idle: Vec<f64>,
    pub(crate) connected: f64,
    pub(crate) loaded: f64,
    pub(crate) peak: f64,
    /// MiB of the program.
    pub(crate) binary: f64,
}

const CONNECTIONS: usize = 256;

pub(crate) fn start(binary: &Path, world: World, runs: usize) -> Result<Start> {
    let World { server, postgres, mut target, key, .. } = world;
    drop(server);
    let run = |request: &str| Server::start(binary, &postgres.url(), request, &key);
    let (mut health, mut issue, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    let get_issue = format!("GET /api/v1/issues/{}", id('i', 1));
    for _ in 0..runs {
        let server = run("GET /health")?;
        health.push(server.started_in.as_secs_f64() * 1e3);
        idle.push(process::memory(server.pid())?.now);
        drop(server);
        issue.push(run(&get_issue)?.started_in.as_secs_f64() * 1e3);
    }

    let server = run("GET /health")?;
    target.address = server.address;
    let route = &target.routes["get_issue"];
    let held = generator::hold(&target, route, CONNECTIONS)?;
    let connected = process::memory(server.pid())?.now;
    drop(held);
    let load = Load { connections: CONNECTIONS, rate: None, warm_up: Duration::ZERO, duration: Duration::from_secs(3) };
    generator::drive(&target, &[route], load)?.checked()?;
    let memory = process::memory(server.pid())?;
    #[expect(clippy::cast_precision_loss, reason = "no program is that large")]
    let size = std::fs::metadata(binary)?.len() as f64;
    Ok(Start { health, issue, idle, connected, loaded: memory.now, peak: memory.peak, binary: size / 1024.0 / 1024.0 })
}

impl Start {
    pub(crate) fn table(&self) -> String {
        let range = |values: &[f64], digits: usize| {
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
            format!("{:.digits$} ({least:.digits$} to {most:.digits$}, {} runs)", median(values), values.len())
        };
        let row = |what: &str, value: String| vec![what.to_owned(), value];
        table(
            &["what", "median"],
            &[
                row("from exec to the first answer of GET /health, ms", range(&self.health, 1)),
                row("from exec to the first answer of GET issue, ms", range(&self.issue, 1)),
                row("resident memory after the start, MiB", range(&self.idle, 1)),
                row(&format!("with {CONNECTIONS} connections that have asked once, MiB"), format!("{:.1}", self.connected)),
                row(&format!("after load from {CONNECTIONS} connections, MiB"), format!("{:.1}", self.loaded)),
                row("at its most, MiB", format!("{:.1}", self.peak)),
                row("the program, MiB", format!("{:.1}", self.binary)),
            ],
        )
    }
}
