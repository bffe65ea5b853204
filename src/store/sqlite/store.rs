//! The store over a SQLite file.

use sqlx::{Sqlite, SqlitePool, Transaction};

use super::error::store_error;
use super::options::{SqliteOptions, connect_options, pool_options};
use super::private_files::make_files_private;
use super::schema::change_tables;
use crate::store::audit_store::RecorderSlot;
use crate::store::error::StoreError;
use crate::store::schema::{Change, SchemaError};

/// Keys in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pub(super) pool: SqlitePool,
    pub(super) recorder: RecorderSlot,
}

impl SqliteStore {
    /// Opens the file and applies pending migrations.
    ///
    /// # Errors
    /// [`SchemaError`] when the file cannot be opened or is of a newer version.
    pub async fn open(options: &SqliteOptions) -> Result<Self, SchemaError> {
        if let Some(path) = &options.path {
            make_files_private(path);
        }
        let pool = pool_options(options).connect_with(connect_options(options)).await.map_err(store_error)?;
        let mut connection = pool.acquire().await.map_err(store_error)?;
        change_tables(&mut connection, Change::Up).await?;
        drop(connection);
        Ok(Self { pool, recorder: RecorderSlot::default() })
    }

    /// Begins a write transaction.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)
    }
}
