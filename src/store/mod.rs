//! Durable storage of keys. One trait, one table for both kinds of keys, the tenant in every key and query. The same
//! contract tests run against every implementation.

mod access;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod audit_row;
mod audit_store;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod database;
mod error;
mod feed;
mod inactive;
mod key_store;
mod memory;
mod memory_audit;
mod memory_usage;
mod node_directory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row_struct;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod schema;
mod search;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod search_range;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod search_row;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store_file;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod usage_row;
mod usage_store;

#[doc(hidden)]
pub use access::Access;
#[doc(hidden)]
pub use audit_store::{AuditQuery, AuditStore, MakePlan, Unsealed};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use database::Database;
pub use error::StoreError;
pub use feed::{Change, ChangeFeed, ChangeKind, ChangeListener, Changes, Position};
#[doc(hidden)]
pub use inactive::{InactiveCount, InactiveQuery};
pub use key_store::{Inserted, KeySource, KeyStore, PageQuery, PurgedKey, Revoked, RevokedKey};
pub use memory::MemoryStore;
pub use node_directory::{NODE_LIFETIME, NodeDirectory, NodeEntry};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use schema::{Migration, Schema, SchemaError};
pub use search::{FoundKeys, SearchQuery};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};
#[doc(hidden)]
pub use store_file::{LentLock, StoreFile};
#[doc(hidden)]
pub use usage_store::{
    TOP_ROWS_MAX, TopUsageQuery, UsageBatch, UsageCounts, UsageHour, UsageQuery, UsageRow, UsageStore, UsageSum,
};

#[cfg(test)]
mod contract;
#[cfg(all(test, feature = "postgres"))]
mod testing;
