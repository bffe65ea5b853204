//! From `db` to the store, and to its tables.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::AppError;
use crate::config::{DatabaseConfig, Dsn, PostgresDsn};
use crate::store::{
    Database, KeyStore, Migration, PostgresOptions, PostgresStore, Schema, SchemaError, SqliteOptions, SqliteStore,
};

/// Connections for each processor, unless a number is configured.
const CONNECTIONS_PER_CPU: usize = 2;

/// The tables of a database, for commands.
pub struct Migrations {
    database: Database,
    runtime: Runtime,
}

/// Opens the store that is configured.
pub(super) async fn open(config: &DatabaseConfig) -> Result<Arc<dyn KeyStore>, AppError> {
    let migration = if config.auto_migrate { Migration::Automatic } else { Migration::Manual };
    Ok(match database(&config.dsn, "db.dsn")? {
        Database::Sqlite(options) => Arc::new(SqliteStore::open(&options).await?),
        Database::Postgres(options) => Arc::new(PostgresStore::open(&options, migration).await?),
    })
}

impl Migrations {
    /// The tables of the database that a data source name names; `origin` says where the name is from, for errors.
    ///
    /// # Errors
    /// [`AppError`] when it is no data source name.
    pub fn new(dsn: &str, origin: &str) -> Result<Self, AppError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| AppError::io("threads cannot be started", cause))?;
        Ok(Self { database: database(dsn, origin)?, runtime })
    }

    /// `sqlite` or `postgres`.
    pub fn driver(&self) -> &'static str {
        self.database.driver()
    }

    /// The state of the tables.
    ///
    /// # Errors
    /// [`SchemaError`] when the database cannot be reached.
    pub fn schema(&self) -> Result<Schema, SchemaError> {
        self.runtime.block_on(self.database.schema())
    }

    /// Brings the tables up to date.
    ///
    /// # Errors
    /// [`SchemaError`]; a migration that fails leaves nothing behind.
    pub fn up(&self) -> Result<(), SchemaError> {
        self.runtime.block_on(self.database.migrate_up())
    }

    /// Takes the latest `steps` migrations back.
    ///
    /// # Errors
    /// [`SchemaError`]; a migration that fails leaves nothing behind.
    pub fn down(&self, steps: usize) -> Result<(), SchemaError> {
        self.runtime.block_on(self.database.migrate_down(steps))
    }

    /// Writes down that the tables are at `version`.
    ///
    /// # Errors
    /// [`SchemaError`] when there is no such version, or the database cannot be reached.
    pub fn force(&self, version: i64) -> Result<(), SchemaError> {
        self.runtime.block_on(self.database.force_version(version))
    }
}

fn database(dsn: &str, origin: &str) -> Result<Database, AppError> {
    let dsn = Dsn::parse(dsn).map_err(|why| AppError::Setting(format!("{origin}: {why}")))?;
    Ok(match dsn {
        Dsn::Sqlite { path, max_connections } => Database::Sqlite(SqliteOptions { path, max_connections }),
        Dsn::Postgres(dsn) => Database::Postgres(postgres_options(dsn)),
    })
}

fn postgres_options(dsn: PostgresDsn) -> PostgresOptions {
    let unless_zero = |time: Duration| (!time.is_zero()).then_some(time);
    PostgresOptions {
        url: dsn.url,
        max_connections: dsn.max_connections.unwrap_or_else(default_connections),
        min_connections: dsn.min_connections,
        max_lifetime: unless_zero(dsn.max_lifetime),
        idle_timeout: unless_zero(dsn.idle_timeout),
        connect_timeout: dsn.connect_timeout,
        acquire_timeout: dsn.acquire_timeout,
        statement_timeout: dsn.statement_timeout,
    }
}

fn default_connections() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    u32::try_from(processors * CONNECTIONS_PER_CPU).unwrap_or(u32::MAX)
}
