//! The store over a SQLite file.

use std::sync::Arc;

use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use super::error::store_error;
use super::options::{SqliteOptions, connect_options, pool_options};
use super::schema::change_tables;
use crate::store::audit_store::RecorderSlot;
use crate::store::error::StoreError;
use crate::store::schema::{Change, SchemaError};

/// Keys in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pub(super) pool: SqlitePool,
    pub(super) recorder: RecorderSlot,
    /// Held during a write transaction. Writers of this process wait here, in order, and not in SQLite, which polls.
    writer: Arc<Mutex<()>>,
}

impl SqliteStore {
    /// Opens the file and applies pending migrations.
    ///
    /// # Errors
    /// [`SchemaError`] when the file cannot be opened or is of a newer version.
    pub async fn open(options: &SqliteOptions) -> Result<Self, SchemaError> {
        let pool = pool_options(options).connect_with(connect_options(options)).await.map_err(store_error)?;
        let mut connection = pool.acquire().await.map_err(store_error)?;
        change_tables(&mut connection, Change::Up).await?;
        drop(connection);
        Ok(Self { pool, recorder: RecorderSlot::default(), writer: Arc::default() })
    }

    /// Begins a write transaction. The guard must be dropped after it.
    pub(super) async fn begin(&self) -> Result<(MutexGuard<'_, ()>, Transaction<'static, Sqlite>), StoreError> {
        let turn = self.writer.lock().await;
        let transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)?;
        Ok((turn, transaction))
    }
}
