//! Keys in a SQLite file, for one node. Write-ahead logging, so that readers do not wait for a writer.

mod audit;
mod error;
mod file;
mod inactive;
mod keys;
mod lock;
mod options;
mod private_files;
mod schema;
mod search;
mod statements;
mod store;
mod usage;
mod write;

pub use options::SqliteOptions;
pub(super) use schema::{change as change_schema, read as read_schema};
pub use store::SqliteStore;
