//! Where keys are kept for good. One trait, one table of keys for both kinds, the tenant in every key and query; the
//! same contract tests run against every implementation.

mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, Revocation};

/// Durable storage of keys. Absence is `None`; an error means that nobody knows.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// The record of a key, in any status.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError>;

    /// The key that an earlier call with this request id made, of the same kind as `like`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn find_by_request(
        &self,
        tenant: TenantId,
        like: KeyId,
        request_id: &str,
    ) -> Result<Option<ApiKey>, StoreError>;

    /// Adds a key unless its id or its request id is taken.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known to be stored.
    async fn insert(&self, key: &ApiKey, request_id: Option<&str>) -> Result<Inserted, StoreError>;

    /// Revokes an active key, in one step with the check that it is one.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known to be revoked.
    async fn revoke(
        &self,
        tenant: TenantId,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError>;

    /// How many keys of both kinds are stored as active.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn count_active(&self, tenant: TenantId) -> Result<u64, StoreError>;

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// What became of an insert.
#[derive(Debug, Clone, PartialEq)]
pub enum Inserted {
    /// The key is stored.
    New,
    /// An earlier call with the same request id stored this key.
    Replay(Box<ApiKey>),
    /// The id is taken.
    Exists,
}

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq)]
pub enum Revoked {
    /// The record as it is now.
    Done(Box<ApiKey>),
    /// It was revoked before, by somebody.
    Already,
    /// There is no such key.
    Absent,
}

/// Why the store could not answer. The texts are for logs; callers see only whose fault it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or no connection is free.
    #[error("the key database cannot be reached: {0}; check db.dsn and that the database is up")]
    Unavailable(String),
    /// The database took too long.
    #[error("the key database did not answer in time")]
    Timeout,
    /// A row cannot be read, or a statement was refused.
    #[error("the key database gave what cannot be used: {0}; it may belong to another version of Keygate")]
    Corrupt(String),
}

#[cfg(test)]
mod contract;
