//! A database per test on a server: a running one, or the throwaway one.

use std::{path::PathBuf, thread};

use tokio::{runtime, sync::OnceCell, task::spawn_blocking};
use tokio_postgres::NoTls;

#[cfg(unix)]
use super::pgbouncer;
use super::{Failure, Made, Place, choice::row_security, cluster, migrate};

/// The database that those of the tests are copied from, on the throwaway server. It is made by the first test that needs it.
///
/// A server that stays would keep one of every process, so there each test migrates its own.
static TEMPLATE: OnceCell<()> = OnceCell::const_new();
const TEMPLATE_NAME: &str = "loop_test_template";

/// Who is no superuser, and may see what other sessions do, and end them, as tests ask.
const GUARDED_USER: &str = "loop_test";
static GUARDED: OnceCell<()> = OnceCell::const_new();

/// A database. It is dropped with this value, whoever is still connected to it.
pub(super) struct Database {
    /// Where it is created and dropped from.
    admin: String,
    name: String,
    /// Whether the server outlives this process.
    server_stays: bool,
}

impl Database {
    /// A database on a running server.
    pub(super) async fn at_url(admin: String, migrated: bool) -> Result<Made, Failure> {
        let database = Self { name: unique_name()?, admin, server_stays: true };
        run(&database.admin, &format!("CREATE DATABASE {} TEMPLATE template0", database.name)).await?;
        let url = with_database(&database.admin, &database.name);
        if migrated {
            migrate(&url).await?;
        }
        let max_connections = max_connections(&database.admin).await?;
        Ok(Made { direct_url: url.clone(), url, max_connections, place: Place::Server { _database: database } })
    }

    /// A database on the throwaway server of this process, by itself or behind a pooler.
    pub(super) async fn on_cluster(binaries: PathBuf, migrated: bool, pooled: bool) -> Result<Made, Failure> {
        let server = spawn_blocking(move || cluster::shared(&binaries)).await??;
        let admin = server.url();
        if row_security() {
            let create = format!("CREATE ROLE {GUARDED_USER} LOGIN IN ROLE pg_monitor, pg_signal_backend");
            GUARDED.get_or_try_init(|| run(&admin, &create)).await?;
        }
        if migrated {
            TEMPLATE.get_or_try_init(|| make_template(&admin)).await?;
        }
        let database = Self { name: unique_name()?, admin, server_stays: false };
        create(&database.admin, &database.name, migrated.then_some(TEMPLATE_NAME)).await?;
        let direct_url = guarded(&with_database(&database.admin, &database.name));
        let (url, max_connections) = if pooled {
            #[cfg(unix)]
            {
                let bouncer = spawn_blocking(move || pgbouncer::shared(server)).await??;
                (guarded(&with_database(&bouncer.url(), &database.name)), pgbouncer::POOL_SIZE)
            }
            #[cfg(not(unix))]
            return Err("PgBouncer is run on Unix alone".into());
        } else {
            (direct_url.clone(), cluster::MAX_CONNECTIONS)
        };
        Ok(Made { url, direct_url, max_connections, place: Place::Server { _database: database } })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, statement) = (std::mem::take(&mut self.admin), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        // On a thread of its own, because a runtime cannot wait within a runtime.
        let dropping = thread::spawn(move || {
            let dropped = runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::from);
            if let Err(error) = dropped.and_then(|runtime| runtime.block_on(run(&admin, &statement))) {
                tracing::warn!(error, statement, "a test's database is left behind");
            }
        });
        // The server waits for a tenth of a second until the test's connections have ended. Where it goes with this process, nobody
        // has to wait with it.
        if self.server_stays {
            let _ = dropping.join();
        }
    }
}

async fn make_template(admin: &str) -> Result<(), Failure> {
    // A test that was cancelled at this point leaves half a template.
    run(admin, &format!("DROP DATABASE IF EXISTS {TEMPLATE_NAME} WITH (FORCE)")).await?;
    create(admin, TEMPLATE_NAME, None).await?;
    migrate(&guarded(&with_database(admin, TEMPLATE_NAME))).await
}

async fn create(admin: &str, name: &str, template: Option<&str>) -> Result<(), Failure> {
    // template0, because nobody can be connected to it.
    run(admin, &format!("CREATE DATABASE {name} TEMPLATE {} OWNER {}", template.unwrap_or("template0"), user())).await
}

/// Who owns the databases of the tests, and uses them.
pub(super) fn user() -> &'static str {
    if row_security() { GUARDED_USER } else { "postgres" }
}

/// The connection string for a user whom row-level security holds, if the tests run with it. The user owns the databases of the tests.
fn guarded(url: &str) -> String {
    if row_security() { url.replace("user=postgres", &format!("user={GUARDED_USER}&row_security=true")) } else { url.to_owned() }
}

async fn max_connections(admin: &str) -> Result<usize, Failure> {
    let (client, connection) = tokio_postgres::connect(admin, NoTls).await?;
    let task = tokio::spawn(connection);
    let row = client.query_typed("SELECT current_setting('max_connections')::int8", &[]).await?.pop().ok_or("no row")?;
    task.abort();
    Ok(usize::try_from(row.try_get::<_, i64>(0)?)?)
}

/// Runs one statement on a connection of its own: the runtime of another test may be gone, and with it the connections made there.
async fn run(admin: &str, statement: &str) -> Result<(), Failure> {
    let (client, connection) = tokio_postgres::connect(admin, NoTls).await?;
    let task = tokio::spawn(connection);
    let done = client.batch_execute(statement).await;
    drop(client);
    // The server has then seen the end of the connection.
    let _ = task.await;
    Ok(done?)
}

/// A name that no other process on the same server uses.
fn unique_name() -> Result<String, Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    Ok(format!("loop_test_{}", faster_hex::hex_string(&random)))
}

/// The connection string with another database.
fn with_database(url: &str, name: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (place, query) = rest.split_once('?').map_or((rest, String::new()), |(place, query)| (place, format!("?{query}")));
            let authority = place.split_once('/').map_or(place, |(authority, _)| authority);
            format!("{scheme}://{authority}/{name}{query}")
        }
        None => format!("{url} dbname={name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn the_database_is_replaced_in_both_kinds_of_connection_strings() {
        assert_eq!(with_database("postgres://u:p@h:1/old?sslmode=disable", "new"), "postgres://u:p@h:1/new?sslmode=disable");
        assert_eq!(with_database("postgres://h", "new"), "postgres://h/new");
        assert_eq!(with_database("postgresql:///old?host=%2Ftmp", "new"), "postgresql:///new?host=%2Ftmp");
        assert_eq!(with_database("host=h dbname=old", "new"), "host=h dbname=old dbname=new");
    }
}
