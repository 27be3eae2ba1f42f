//! The migrations, embedded, and their runner.

use refinery_core::{
    AsyncMigrate, Migration,
    traits::r#async::{AsyncQuery, AsyncTransaction},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_postgres::types::Type;

use crate::{
    Entity, Error, LoopStore,
    error::{Source, is_unavailable},
    store::sql::{Columns, Statement},
};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Where the versions that were applied are written down.
const TABLE: &str = "loop_migrations";

const TABLE_EXISTS: Statement =
    Statement::new(Entity::Migration, "-- migrations.table_exists\nSELECT to_regclass('loop_migrations') IS NOT NULL");

const APPLIED: Statement = Statement::new(Entity::Migration, "-- migrations.applied\nSELECT version FROM loop_migrations ORDER BY version");

const GUARDED: Statement = Statement::new(
    Entity::Migration,
    "-- migrations.guarded
SELECT coalesce(bool_and(row_security_active(p.polrelid)), false) FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
WHERE p.polname = 'loop_scope' AND c.relnamespace = quote_ident(current_schema())::regnamespace",
);

/// The schema may be chosen by name or be the user's own: both are the same lock.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('loop_migrations.' || coalesce($1, current_schema(), ''), 0))";

/// What a run of the migrations did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MigrationReport {
    /// The migrations this run applied, in order; none if another run was first.
    pub applied: Vec<String>,
    /// The version the schema is at now.
    pub version: i32,
}

/// How the schema stands against the migrations this library knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// The known migrations that were not applied yet.
    pub pending: Vec<String>,
    /// The newest version that was applied, if any.
    pub version: Option<i32>,
    /// The newest version this library knows. It is behind where a newer one was applied, as after the rollback of a deployment.
    pub known: i32,
    /// Whether the database's own guard is between this store and the rows; `None` where the store was not told to have it.
    pub guarded: Option<bool>,
}

impl MigrationStatus {
    /// The version that was applied, where it is newer than any this library knows.
    pub fn ahead(&self) -> Option<i32> {
        self.version.filter(|version| *version > self.known)
    }
}

impl LoopStore {
    /// Brings the schema to the version this library knows. Runs of several processes at once are safe: one applies, the others wait and
    /// find nothing left to do. All migrations of a run are applied, or none.
    ///
    /// Where the store has [row-level security](crate::StoreBuilder::row_security), it is switched on in the database, too.
    ///
    /// A schema that is newer than this library, as after the rollback of a deployment, is left as it is.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] on a replica; [`Error::Migration`] when a migration fails, or one that was applied is not the one this library knows under its version;
    /// [`Error::Unavailable`] when the database does not answer.
    pub async fn migrate(&self) -> Result<MigrationReport, Error> {
        if self.is_replica() {
            return Err(Error::ReadOnly { entity: Entity::Migration });
        }
        let _migrator = self.migrator().await;
        let mut connection = self.take_connection().await?;
        // A caller that goes away leaves it so, and the connection is not handed on.
        connection.unfinished.set(true);
        let (transaction, _) = self.begin(&mut connection).await?;
        let report = run(transaction, self.schema(), self.has_row_security()).await?;
        connection.unfinished.set(false);
        Ok(report)
    }

    /// How the schema stands.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the database does not answer.
    pub async fn migration_status(&self) -> Result<MigrationStatus, Error> {
        let exists = self.executor().one(TABLE_EXISTS, &[]).await?;
        let mut applied: Vec<i32> = Vec::new();
        if Columns::of(&exists, TABLE).next()? {
            let rows = self.executor().rows(APPLIED, &[]).await?;
            applied = rows.iter().map(|row| Columns::of(row, TABLE).next()).collect::<Result<_, _>>()?;
        }
        let runner = embedded::migrations::runner();
        let mut pending: Vec<&Migration> = runner.get_migrations().iter().filter(|known| !applied.contains(&known.version())).collect();
        // They are known in the order of their files' names.
        pending.sort_by_key(|known| known.version());
        Ok(MigrationStatus {
            pending: pending.into_iter().map(ToString::to_string).collect(),
            version: applied.last().copied(),
            known: runner.get_migrations().iter().map(Migration::version).max().unwrap_or_default(),
            guarded: if self.has_row_security() { Some(self.is_guarded().await?) } else { None },
        })
    }

    /// Whether every table with the policy is guarded by it from the user of this store: a superuser passes all of them.
    async fn is_guarded(&self) -> Result<bool, Error> {
        Ok(Columns::of(&self.executor().one(GUARDED, &[]).await?, "pg_policy").next()?)
    }
}

/// Runs the migrations in a transaction, and commits it.
async fn run(transaction: tokio_postgres::Transaction<'_>, schema: Option<&str>, row_security: bool) -> Result<MigrationReport, Error> {
    // A transaction's lock, because a session's own would stay behind on a pooler's connection. Waiting for another migrator is no
    // reason to give up soon, and neither is a migration that takes its time.
    transaction.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '120s'").await.map_err(failed)?;
    transaction.query_typed(LOCK, &[(&schema, Type::TEXT)]).await.map_err(failed)?;
    if let Some(schema) = schema
        && missing(&transaction, schema).await?
    {
        // The builder lets only letters, digits, underscores and hyphens through.
        transaction.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")).await.map_err(failed)?;
    }
    let mut locked = Locked(transaction);
    let mut runner = embedded::migrations::runner().set_abort_missing(false);
    runner.set_migration_table_name(TABLE);
    let report = runner.run_async(&mut locked).await.map_err(failed_run)?;
    let version = runner.get_last_applied_migration_async(&mut locked).await.map_err(failed_run)?;
    if row_security {
        locked.0.batch_execute("SELECT loop_row_security(true)").await.map_err(failed)?;
    }
    locked.0.commit().await.map_err(failed)?;
    Ok(MigrationReport {
        applied: report.applied_migrations().iter().map(ToString::to_string).collect(),
        version: version.map_or(0, |migration| migration.version()),
    })
}

/// Whether there is no schema of this name. Creating one that is there asks for a right that whoever it was created for need not have.
async fn missing(transaction: &tokio_postgres::Transaction<'_>, schema: &str) -> Result<bool, Error> {
    let sql = "SELECT to_regnamespace(quote_ident($1)) IS NULL";
    let rows = transaction.query_typed(sql, &[(&schema, Type::TEXT)]).await.map_err(failed)?;
    rows.first().map_or(Ok(true), |row| row.try_get(0).map_err(failed))
}

fn failed(error: tokio_postgres::Error) -> Error {
    if is_unavailable(&error) { Error::unavailable(error) } else { Error::Migration { source: Source::new(error) } }
}

/// What the runner reports, of which the driver's error is a part.
fn failed_run(error: refinery_core::Error) -> Error {
    let driver = std::error::Error::source(&error).and_then(<dyn std::error::Error>::downcast_ref);
    if driver.is_some_and(is_unavailable) { Error::unavailable(error) } else { Error::Migration { source: Source::new(error) } }
}

/// A transaction as refinery's runner sees a connection: it would open one of its own for each migration, and take no lock.
struct Locked<'a>(tokio_postgres::Transaction<'a>);

impl AsyncTransaction for Locked<'_> {
    type Error = tokio_postgres::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(&'a mut self, queries: T) -> Result<usize, Self::Error> {
        let mut count = 0;
        for query in queries {
            self.0.batch_execute(query).await?;
            count += 1;
        }
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Locked<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let rows = self.0.query_typed(query, &[]).await?;
        rows.iter()
            .map(|row| {
                let applied_on: String = row.try_get(2)?;
                let checksum: String = row.try_get(3)?;
                Ok(Migration::applied(
                    row.try_get(0)?,
                    row.try_get(1)?,
                    OffsetDateTime::parse(&applied_on, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH),
                    checksum.parse().unwrap_or_default(),
                ))
            })
            .collect()
    }
}

impl AsyncMigrate for Locked<'_> {}
