//! The store over a SQLite file.

use std::sync::Arc;

use sqlx::SqlitePool;

use super::error::store_error;
use super::lock::{FileLock, HeldLock};
use super::options::{SqliteOptions, connect_options, pool_options};
use super::private_files::make_files_private;
use super::schema::{change_tables, read};
use super::write::{Source, Write, Writers};
use crate::store::access::Access;
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
    pub(super) options: SqliteOptions,
    /// Empty in memory and for a reader.
    pub(super) lock: HeldLock,
}

impl SqliteStore {
    /// Opens the file for this process alone, and applies pending migrations.
    ///
    /// # Errors
    /// [`SchemaError`] when the file cannot be opened, is used by another process or is of a newer version.
    pub async fn open(options: &SqliteOptions) -> Result<Self, SchemaError> {
        Self::open_with(options, Access::Exclusive).await
    }

    /// Opens the file. Pending migrations are applied unless another process may use it.
    ///
    /// # Errors
    /// As of [`Self::open`].
    #[doc(hidden)]
    pub async fn open_with(options: &SqliteOptions, access: Access) -> Result<Self, SchemaError> {
        if let Some(path) = &options.path {
            make_files_private(path);
        }
        let pool = pool_options(options).connect_with(connect_options(options)).await.map_err(store_error)?;
        let lock = match &options.path {
            Some(path) => FileLock::for_access(path, access)?,
            None => None,
        };
        if lock.is_some() || options.path.is_none() {
            let mut connection = pool.acquire().await.map_err(store_error)?;
            change_tables(&mut connection, Change::Up).await?;
        } else {
            read(options).await?.check()?;
        }
        let writers = Writers::new(if options.has_own_writer() {
            Source::Own(Arc::new(connect_options(options)))
        } else {
            Source::Shared(pool.clone())
        });
        Ok(Self {
            pool,
            writers,
            recorder: RecorderSlot::default(),
            options: options.clone(),
            lock: HeldLock::new(lock),
        })
    }

    /// Begins a change.
    pub(super) async fn begin(&self) -> Result<Write, StoreError> {
        self.writers.begin().await
    }
}
