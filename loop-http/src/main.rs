//! The server: `loop-http serve` (the default), `migrate`, and `keys create|list|revoke`.

mod commands;
mod example;

use clap::{Parser, Subcommand};
use loop_http::Config;

/// Loop: signals become triaged issues in PostgreSQL.
///
/// Settings come from the environment; the README lists them. Without `DATABASE_URL` a PostgreSQL runs inside the process.
#[derive(Parser)]
#[command(name = "loop-http", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API (the default).
    Serve,
    /// Bring the database's schema up to date, and say what was applied.
    Migrate,
    /// Manage API keys.
    #[command(subcommand)]
    Keys(commands::Keys),
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            for line in error.0 {
                eprintln!("loop-http: {line}");
            }
            return 2.into();
        }
    };
    let run = || -> anyhow::Result<()> {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let logs = config.init_logs();
            let done = match arguments.command.unwrap_or(Command::Serve) {
                Command::Serve => commands::serve(&config).await,
                Command::Migrate => commands::migrate(&config).await,
                Command::Keys(keys) => commands::keys(&config, keys).await,
            };
            logs.end().await;
            done
        })
    };
    match run() {
        Ok(()) => 0.into(),
        Err(error) => {
            eprintln!("loop-http: {error:#}");
            1.into()
        }
    }
}
