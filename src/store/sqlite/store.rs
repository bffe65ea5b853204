//! The store over a SQLite file.

use std::sync::Arc;

use sqlx::SqlitePool;

use super::error::store_error;
use super::options::{SqliteOptions, connect_options, pool_options};
use super::private_files::make_files_private;
use super::schema::change_tables;
use super::write::{Source, Write, Writers};
use crate::store::audit_store::RecorderSlot;
use crate::store::error::StoreError;
use crate::store::schema::{Change, SchemaError};

/// Keys in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    /// Reads.
    pub(super) pool: SqlitePool,
    /// Writes.
    pub(super) writers: Writers,
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
        let writers = Writers::new(if options.has_own_writer() {
            Source::Own(Arc::new(connect_options(options)))
        } else {
            Source::Shared(pool.clone())
        });
        Ok(Self { pool, writers, recorder: RecorderSlot::default() })
    }

    /// Begins a change.
    pub(super) async fn begin(&self) -> Result<Write, StoreError> {
        self.writers.begin().await
    }
}
