//! What the binary does.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use loop_core::{ApiKeyId, LoopStore, Name, NewApiKey, PageRequest, ProjectId, Role, Start, Timestamp};
use loop_http::{Config, ServeOptions};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal,
};

use crate::example;

/// Manage API keys.
#[derive(Subcommand)]
pub(crate) enum Keys {
    /// Create a key and print it, the one time it is shown.
    Create {
        /// What it is called.
        #[arg(long)]
        name: Name,
        /// What it may do: admin, write or read.
        #[arg(long, default_value = "write")]
        role: Role,
        /// The only project it sees.
        #[arg(long)]
        project: Option<ProjectId>,
        /// When it stops to open anything, such as 2027-01-31T12:00:00Z.
        #[arg(long)]
        expires_at: Option<Timestamp>,
    },
    /// List the keys.
    List,
    /// Revoke a key.
    Revoke {
        /// Its id.
        id: ApiKeyId,
    },
}

/// A store, and the PostgreSQL inside the process that it is over, if it is over one.
struct Opened {
    store: LoopStore,
    #[cfg(feature = "embedded")]
    embedded: Option<loop_core::embedded::Embedded>,
}

impl Opened {
    #[cfg_attr(not(feature = "embedded"), expect(clippy::unused_self, reason = "the other build looks at it"))]
    fn is_embedded(&self) -> bool {
        #[cfg(feature = "embedded")]
        return self.embedded.is_some();
        #[cfg(not(feature = "embedded"))]
        false
    }
}

/// Opens the database that is configured.
async fn open(config: &Config) -> anyhow::Result<Opened> {
    if let Some(url) = &config.database.url {
        let store = config.database.store(url)?;
        return Ok(Opened {
            store,
            #[cfg(feature = "embedded")]
            embedded: None,
        });
    }
    open_embedded(config).await
}

#[cfg(feature = "embedded")]
async fn open_embedded(config: &Config) -> anyhow::Result<Opened> {
    let embedded = loop_core::embedded::Embedded::start(&config.database.data_dir)?;
    // It serves one connection, whatever size of pool is asked for.
    let builder = config.database.builder(embedded.connection_string()).pool_size(1);
    let store = builder.connect().await.context("the embedded database")?;
    store.migrate().await.context("migrating the embedded database")?;
    Ok(Opened { store, embedded: Some(embedded) })
}

#[cfg(not(feature = "embedded"))]
#[expect(clippy::unused_async, reason = "it takes the place of one that is")]
async fn open_embedded(_: &Config) -> anyhow::Result<Opened> {
    bail!("DATABASE_URL is not set, and this build has no embedded database")
}

pub(crate) async fn serve(config: &Config) -> anyhow::Result<()> {
    let limits = within_open_files(config);
    let opened = open(config).await?;
    let address = SocketAddr::new(config.host, config.port);
    let listener = listen(address).with_context(|| format!("listening on {}:{}", config.host, config.port))?;
    let address = listener.local_addr()?;
    let stop = told_to_stop()?;
    if opened.is_embedded() {
        first_start(config, &opened.store, address).await?;
    } else {
        match opened.store.migration_status().await {
            Ok(status) if status.pending.is_empty() => {
                if status.guarded == Some(false) {
                    tracing::warn!(
                        "row-level security is asked for and not in force: run `loop-http migrate` as a user who is no superuser"
                    );
                }
                if let Some(version) = status.ahead() {
                    tracing::warn!(version, known = status.known, "the database is newer than this build");
                }
            }
            Ok(status) => tracing::warn!(pending = status.pending.len(), "the database is not migrated: run `loop-http migrate`"),
            Err(error) => tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "the database does not answer yet"),
        }
    }
    tracing::info!(%address, "listening");
    let router = loop_http::router(config.state(opened.store.clone()), &config.router);
    let served = loop_http::serve(listener, router, &limits, stop);
    #[cfg(feature = "embedded")]
    let finished = tokio::select! {
        finished = served => finished,
        never = maintain(&opened) => match never {},
    };
    #[cfg(not(feature = "embedded"))]
    let finished = served.await;
    if finished {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped with requests still under way");
    }
    opened.store.close();
    Ok(())
}

/// Listens, with room in the system's queue for a crowd that comes all at once, as clients do when they have lost their connections:
/// whom there is no room for there waits a second, and then longer, before the next try.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As tokio and std do it: connections of a server before this one may still be about to end. Windows would let others listen, too.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// The limits, with no more connections than files can be open: those that no file is left for could not make room for others.
fn within_open_files(config: &Config) -> ServeOptions {
    let wanted = config.serve.max_connections;
    // Shells and service managers often allow fewer files than the system would.
    let files = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => usize::try_from(files).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::debug!(%error, "raising the limit of open files");
            return config.serve.clone();
        }
    };
    // The connections to the database, and everything else.
    let others = 200 + config.database.pool_size.unwrap_or_default();
    let most = files - others.min(files / 2);
    if most < wanted {
        tracing::warn!(files, connections = most, "fewer connections than configured, because no more files can be open");
    }
    ServeOptions { max_connections: wanted.min(most), ..config.serve.clone() }
}

/// Looks after the PostgreSQL inside the process, if there is one, for as long as the server runs.
#[cfg(feature = "embedded")]
async fn maintain(opened: &Opened) -> std::convert::Infallible {
    const EVERY: std::time::Duration = std::time::Duration::from_mins(10);
    if !opened.is_embedded() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = opened.store.maintain().await {
            tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "looking after the embedded database");
        }
    }
}

/// Prints what a newcomer needs: an admin key, the one time it is shown, and requests to paste.
async fn first_start(config: &Config, store: &LoopStore, address: SocketAddr) -> anyhow::Result<()> {
    println!("Loop runs on its embedded database in {}", config.database.data_dir.display());
    if store.api_keys().list(&PageRequest::first()).await?.data.is_empty() {
        let new = NewApiKey { name: "first admin".parse()?, role: Role::Admin, project_id: None, expires_at: None };
        let issued = store.api_keys().create(new).await?;
        let key = issued.plaintext.reveal();
        println!("\nThis is your admin key. It is shown this one time:\n\n  {key}\n");
        println!("See the issues:\n\n  curl -H 'Authorization: Bearer {key}' http://{address}/api/v1/issues\n");
    }
    if let Some(secret) = &config.github_example {
        println!("Send a signed GitHub delivery:\n\n{}\n", example::github_curl(secret.reveal(), address)?);
    }
    Ok(())
}

/// Ready when the process is told to stop, from the moment of this call on.
#[cfg(unix)]
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    use signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("told to stop: finishing the requests under way");
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::warn!("told to stop again: not waiting any longer");
            std::process::exit(1);
        });
    })
}

/// Ready when the process is told to stop.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other systems can fail")]
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        tracing::info!("told to stop: finishing the requests under way");
    })
}

pub(crate) async fn migrate(config: &Config) -> anyhow::Result<()> {
    let opened = open(config).await?;
    let report = opened.store.migrate().await?;
    for migration in &report.applied {
        println!("applied {migration}");
    }
    println!("the schema is at version {}", report.version);
    Ok(())
}

pub(crate) async fn keys(config: &Config, command: Keys) -> anyhow::Result<()> {
    let opened = open(config).await?;
    let keys = opened.store.api_keys();
    match command {
        Keys::Create { name, role, project, expires_at } => {
            let issued = keys.create(NewApiKey { name, role, project_id: project, expires_at }).await?;
            println!("{}", issued.plaintext.reveal());
            eprintln!("created {} with the role {}; it is not shown again", issued.key.id, issued.key.role);
        }
        Keys::List => {
            let mut page = PageRequest::first();
            loop {
                let keys = keys.list(&page).await?;
                for key in keys.data {
                    let project = key.project_id.map_or_else(|| "all projects".to_owned(), |project| project.to_string());
                    let used = key.last_used_at.map_or_else(|| "never used".to_owned(), |time| format!("used {time}"));
                    println!(
                        "{}  {}…  {:5}  {project}  {used}  {}",
                        key.id,
                        key.prefix,
                        key.role.as_str(),
                        key.name.as_str().escape_debug()
                    );
                }
                let Some(next) = keys.next_cursor else { break };
                page.start = Start::After(loop_core::Cursor::parse(&next)?);
            }
        }
        Keys::Revoke { id } => match keys.revoke(&id).await {
            Ok(()) => println!("revoked {id}"),
            Err(loop_core::Error::NotFound { .. }) => bail!("there is no key {id}"),
            Err(error) => return Err(error.into()),
        },
    }
    Ok(())
}
