//! Migrations of a database, for commands.

use tokio::runtime::{Builder, Runtime};

use super::error::AppError;
use crate::engine::database;
use crate::store::{Database, Schema, SchemaError};

/// Migrations of a database, for commands.
pub struct Migrations {
    database: Database,
    runtime: Runtime,
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
