//! The file of a store that one process at a time uses.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::feed::ChangeFeed;

/// The lock of the file of a database, lent to the process that replaces the one that has it.
#[derive(Debug)]
pub struct LentLock {
    /// The database, without symbolic links.
    pub database: PathBuf,
    /// A descriptor of the file of the lock.
    pub file: File,
}

/// The file of a store. While one process replaces another one, both use it.
pub trait StoreFile: Send + Sync {
    /// Lends the lock; `None` if this process has none.
    ///
    /// # Errors
    /// If no descriptor is free.
    fn lend_lock(&self) -> io::Result<Option<LentLock>>;

    /// Names this process as the owner of the lock, which another process has lent.
    ///
    /// # Errors
    /// If the file of the lock cannot be written.
    fn own_lock(&self) -> io::Result<()>;

    /// A feed that reports every change of the file, by this process or another one, as changes that were missed.
    fn feed(&self) -> Arc<dyn ChangeFeed>;
}
