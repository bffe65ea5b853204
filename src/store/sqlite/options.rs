//! Options of a SQLite file.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// How long a statement waits for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for a free connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the file is and how it is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The file; created if missing. `None` keeps everything in memory until the store is dropped.
    pub path: Option<PathBuf>,
    /// Maximum number of connections.
    pub max_connections: u32,
}

impl SqliteOptions {
    /// Whether one connection is for writes alone.
    pub(super) fn has_own_writer(&self) -> bool {
        self.path.is_some() && self.max_connections > 1
    }
}

/// Options of the connection pool.
pub(super) fn pool_options(options: &SqliteOptions) -> SqlitePoolOptions {
    let options = match options.path {
        // One of the connections is for writes.
        Some(_) if options.has_own_writer() => SqlitePoolOptions::new().max_connections(options.max_connections - 1),
        Some(_) => SqlitePoolOptions::new().max_connections(options.max_connections),
        // Each connection would have its own database in memory, which is lost when the connection closes.
        None => SqlitePoolOptions::new().min_connections(1).max_connections(1).idle_timeout(None).max_lifetime(None),
    };
    // A ping before each statement would cost as much as the statement.
    options.acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false)
}

/// Options of a connection.
pub(super) fn connect_options(options: &SqliteOptions) -> SqliteConnectOptions {
    let connect = match &options.path {
        Some(path) => SqliteConnectOptions::new().filename(path).create_if_missing(true),
        None => SqliteConnectOptions::new().in_memory(true),
    };
    connect
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged revocation must survive a power failure.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
}
