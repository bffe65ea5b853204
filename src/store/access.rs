//! How a process uses a file that it may share with another process.

use std::fs::File;

/// How a process uses the file of a database. Databases that several nodes share ignore it.
#[derive(Debug, Default)]
pub enum Access {
    /// No other process uses the file.
    #[default]
    Exclusive,
    /// The file is only read; another process may use it.
    ReadOnly,
    /// Another process may use the file. This one changes nothing that the other one may have cached.
    Beside,
    /// The process that has the lock of the file lends it, until it ends: its descriptor of the lock.
    Lent(File),
}
