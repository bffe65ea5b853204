//! Keys in a SQLite file: one node, nothing to install. Write-ahead logging, so that readers never wait for a writer.

mod keys;
mod list;
mod schema;

pub(super) use schema::{change as change_schema, read as schema};

use std::path::PathBuf;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::StoreError;
use super::schema::{Change, SchemaError};

/// Primary result codes of SQLite.
const SQLITE_ERROR: u32 = 1;
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_CONSTRAINT: u32 = 19;
const SQLITE_MISMATCH: u32 = 20;
/// How long a statement waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the file is and how it is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file; made when missing. `None` keeps everything in memory until the store is dropped.
    pub path: Option<PathBuf>,
    /// Connections at the most.
    pub max_connections: u32,
}

/// Keys in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the file and brings its tables up to date.
    ///
    /// # Errors
    /// [`SchemaError`] when the file cannot be opened or belongs to another version.
    pub async fn open(options: &SqliteOptions) -> Result<Self, SchemaError> {
        let pool = pool_options(options).connect_with(connect_options(options)).await.map_err(unavailable)?;
        let mut connection = pool.acquire().await.map_err(unavailable)?;
        schema::change_tables(&mut connection, Change::Up).await?;
        drop(connection);
        Ok(Self { pool })
    }
}

fn pool_options(options: &SqliteOptions) -> SqlitePoolOptions {
    let options = match options.path {
        Some(_) => SqlitePoolOptions::new().max_connections(options.max_connections),
        // Each connection would see a memory of its own, and the last one to close would take it along.
        None => SqlitePoolOptions::new().min_connections(1).max_connections(1).idle_timeout(None).max_lifetime(None),
    };
    // A ping before each statement would cost as much as the statement.
    options.acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false)
}

fn connect_options(options: &SqliteOptions) -> SqliteConnectOptions {
    let connect = match &options.path {
        Some(path) => SqliteConnectOptions::new().filename(path).create_if_missing(true),
        None => SqliteConnectOptions::new().in_memory(true),
    };
    connect
        .journal_mode(SqliteJournalMode::Wal)
        // A revocation that was acknowledged must survive a power cut.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
}

fn unavailable(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::PoolTimedOut => StoreError::Timeout,
        sqlx::Error::Decode(cause) => StoreError::Corrupt(cause.to_string()),
        sqlx::Error::ColumnDecode { index, .. } => StoreError::Corrupt(format!("column {index}")),
        // Extended codes carry the primary one in their low byte.
        sqlx::Error::Database(cause) => {
            match cause.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
                Some(SQLITE_BUSY | SQLITE_LOCKED) => StoreError::Timeout,
                // A table that is not there, a broken constraint, wrong data.
                Some(SQLITE_ERROR | SQLITE_CONSTRAINT | SQLITE_MISMATCH) => {
                    StoreError::Corrupt(cause.message().to_owned())
                }
                _ => StoreError::Unavailable(cause.message().to_owned()),
            }
        }
        other => StoreError::Unavailable(other.to_string()),
    }
}
