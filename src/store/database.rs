//! The databases whose schema can be read and migrated.

#[cfg(feature = "postgres")]
use super::postgres::{self, PostgresOptions};
use super::schema::{Change, Schema, SchemaError};
#[cfg(feature = "sqlite")]
use super::sqlite::{self, SqliteOptions};

/// A database whose schema can be read and migrated.
#[derive(Debug, Clone)]
pub enum Database {
    /// A SQLite file.
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteOptions),
    /// A PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(PostgresOptions),
}

impl Database {
    /// Returns the state of the schema. Changes nothing.
    ///
    /// # Errors
    /// [`SchemaError::Store`] when the database cannot be reached.
    pub async fn schema(&self) -> Result<Schema, SchemaError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(options) => sqlite::read_schema(options).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(options) => postgres::read_schema(options).await,
        }
    }

    /// Applies all pending migrations. Concurrent callers wait for each other.
    ///
    /// # Errors
    /// [`SchemaError`]; a migration that fails is rolled back.
    pub async fn migrate_up(&self) -> Result<(), SchemaError> {
        self.change(Change::Up).await
    }

    /// Reverts the latest `steps` migrations. Data that is only in their tables is lost.
    ///
    /// # Errors
    /// [`SchemaError`]; a migration that fails is rolled back.
    pub async fn migrate_down(&self, steps: usize) -> Result<(), SchemaError> {
        self.change(Change::Down(steps)).await
    }

    /// Records that the schema is at `version`, without checking or changing the tables.
    ///
    /// # Errors
    /// [`SchemaError::Unknown`], or a failure of the database.
    pub async fn force_version(&self, version: i64) -> Result<(), SchemaError> {
        self.change(Change::Force(version)).await
    }

    /// `sqlite` or `postgres`.
    pub fn driver(&self) -> &'static str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "sqlite",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
        }
    }

    async fn change(&self, change: Change) -> Result<(), SchemaError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(options) => sqlite::change_schema(options, change).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(options) => postgres::change_schema(options, change).await,
        }
    }
}
