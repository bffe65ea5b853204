//! Opens and migrates the configured database.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::error::AppError;
use crate::config::{DatabaseConfig, Dsn, PostgresDsn};
use crate::store::{
    Database, KeyStore, Migration, PostgresOptions, PostgresStore, Schema, SchemaError, SqliteOptions, SqliteStore,
};

/// Default number of connections per processor.
const CONNECTIONS_PER_CPU: usize = 2;

/// Migrations of a database, for commands.
pub struct Migrations {
    database: Database,
    runtime: Runtime,
}

/// Opens the configured store.
pub(super) async fn open(config: &DatabaseConfig) -> Result<Arc<dyn KeyStore>, AppError> {
    let migration = if config.auto_migrate { Migration::Automatic } else { Migration::Manual };
    Ok(match database(&config.dsn, "db.dsn")? {
        Database::Sqlite(options) => Arc::new(SqliteStore::open(&options).await?),
        Database::Postgres(options) => Arc::new(PostgresStore::open(&options, migration).await?),
    })
}

impl Migrations {
    /// Migrations of the database at a data source name; `origin` names the setting or option that it is from, for errors.
    ///
    /// # Errors
    /// [`AppError`] when the data source name is invalid.
    pub fn new(dsn: &str, origin: &str) -> Result<Self, AppError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| AppError::io("threads cannot be started", cause))?;
        Ok(Self { database: database(dsn, origin)?, runtime })
    }

    /// `sqlite` or `postgres`.
    pub fn driver(&self) -> &'static str {
        self.database.driver()
    }

    /// Returns the state of the schema.
    ///
    /// # Errors
    /// [`SchemaError`] when the database cannot be reached.
    pub fn schema(&self) -> Result<Schema, SchemaError> {
        self.runtime.block_on(self.database.schema())
    }

    /// Applies all pending migrations.
    ///
    /// # Errors
    /// [`SchemaError`]; a migration that fails is rolled back.
    pub fn up(&self) -> Result<(), SchemaError> {
        self.runtime.block_on(self.database.migrate_up())
    }

    /// Reverts the latest `steps` migrations.
    ///
    /// # Errors
    /// [`SchemaError`]; a migration that fails is rolled back.
    pub fn down(&self, steps: usize) -> Result<(), SchemaError> {
        self.runtime.block_on(self.database.migrate_down(steps))
    }

    /// Records that the schema is at `version`, without changing the tables.
    ///
    /// # Errors
    /// [`SchemaError`] when the version is unknown, or the database cannot be reached.
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
