//! Where keys are kept for good. One trait, one table of keys for both kinds, the tenant in every key and query; the
//! same contract tests run against every implementation.

mod feed;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod schema;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use feed::{Change, ChangeFeed, ChangeKind, ChangeListener, Changes, Position};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use schema::{Database, Migration, Schema, SchemaError};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, KeyFilter, Revocation};
use crate::request_context::{Principal, RequestContext};

/// Where records can be looked up. Absence is `None`; an error means that nobody knows.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The record of a key, in any status.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError>;

    /// The records of those keys that there are, in any order; where it can be, asked for at once.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn find_many(&self, keys: &[(TenantId, KeyId)]) -> Result<Vec<ApiKey>, StoreError> {
        let mut found = Vec::new();
        for (tenant, id) in keys {
            found.extend(self.find(*tenant, *id).await?);
        }
        Ok(found)
    }
}

/// Durable storage of keys.
///
/// Every write takes the [`RequestContext`] on whose behalf it is made. It writes only keys of the context's tenant, unless
/// the principal is [`Principal::System`]; otherwise it fails with [`StoreError::WrongTenant`] and writes nothing.
#[async_trait]
pub trait KeyStore: KeySource {
    /// The key that an earlier call with this request id made.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn find_by_request(
        &self,
        tenant: TenantId,
        kind: KeyKind,
        request_id: &str,
    ) -> Result<Option<ApiKey>, StoreError>;

    /// A page of keys by descending id, bytewise; at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn list(&self, page: &PageQuery<'_>) -> Result<Vec<ApiKey>, StoreError>;

    /// Adds a key unless its id or its request id is taken.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known to be stored.
    async fn insert(
        &self,
        context: &RequestContext,
        key: &ApiKey,
        request_id: Option<&str>,
    ) -> Result<Inserted, StoreError>;

    /// Adds, in one step, those of many keys whose ids are free; tells for each whether it was added.
    ///
    /// # Errors
    /// [`StoreError`] when they are not known to be stored; then none of them is.
    async fn insert_many(&self, context: &RequestContext, keys: &[ApiKey]) -> Result<Vec<bool>, StoreError>;

    /// Puts `key` in the place of its version `replaced`; `false` when the stored version is another one, or none.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known to be stored.
    async fn replace(&self, context: &RequestContext, key: &ApiKey, replaced: u64) -> Result<bool, StoreError>;

    /// Revokes an active key, in one step with the check that it is one.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known to be revoked.
    async fn revoke(
        &self,
        context: &RequestContext,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError>;

    /// Revokes `old` and adds `new`, both or neither. `None` when `old` is active no more, or not as it is given.
    ///
    /// # Errors
    /// [`StoreError`] when neither is known to have happened.
    async fn rotate(
        &self,
        context: &RequestContext,
        old: &ApiKey,
        new: &ApiKey,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Option<ApiKey>, StoreError>;

    /// Writes that keys were used at `now`, each unless that is known of the same day (UTC) or a later one. No change of a key:
    /// neither its version nor its `update_time` moves, and nobody is told. Keys that are not there are left out.
    ///
    /// # Errors
    /// [`StoreError`] when that is not known to be written.
    async fn record_last_used(
        &self,
        context: &RequestContext,
        keys: &[(TenantId, KeyId)],
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Takes a key out for good: its last version, or `None` when there was no such key.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known to be gone.
    async fn delete(&self, context: &RequestContext, id: KeyId, now: Timestamp) -> Result<Option<u64>, StoreError>;

    /// Takes out for good, of the keys whose `expire_time` is earlier than `before` and than now, those that ended first, at most
    /// `limit`. That a key was revoked stays known to [`KeyStore::revoked_since`]. Nothing while another caller is at it.
    ///
    /// # Errors
    /// [`StoreError`] when they are not known to be gone.
    async fn purge(
        &self,
        context: &RequestContext,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<PurgedKey>, StoreError>;

    /// Forgets of keys that were deleted earlier than `before` that there were such keys, of at most `limit`; tells of how many.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known what is forgotten.
    async fn forget_deleted(&self, context: &RequestContext, before: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// Keys that were revoked or deleted at `since` or later, the latest first; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<RevokedKey>, StoreError>;

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

    /// The feed of changes, if others may change the keys as well.
    fn feed(self: Arc<Self>) -> Option<Arc<dyn ChangeFeed>> {
        None
    }

    /// Waits for what is under way and lets go of the database.
    async fn close(&self) {}
}

/// Which keys a page shows.
#[derive(Debug, Clone)]
pub struct PageQuery<'a> {
    /// Whose keys.
    pub tenant: TenantId,
    /// Of which kind.
    pub kind: KeyKind,
    /// Which of them.
    pub filter: &'a KeyFilter,
    /// Only keys with smaller ids; all when absent.
    pub before: Option<KeyId>,
    /// Keys at the most.
    pub limit: u32,
    /// The moment at which active and expired are told apart.
    pub now: Timestamp,
}

/// A key that was revoked or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedKey {
    /// Whose key.
    pub tenant: TenantId,
    /// Which key.
    pub id: KeyId,
    /// When its record last changed, which is not before its end.
    pub time: Timestamp,
}

/// A key that was taken out after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgedKey {
    /// Whose key.
    pub tenant: TenantId,
    /// Which key.
    pub id: KeyId,
    /// Its last version.
    pub version: u64,
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

/// Checks that a write stays within the tenant of its context: `tenants` are those of the keys to be written.
fn check_tenants(context: &RequestContext, tenants: impl IntoIterator<Item = TenantId>) -> Result<(), StoreError> {
    let other = tenants.into_iter().find(|tenant| *tenant != context.tenant);
    match other {
        Some(other) if context.principal != Principal::System => {
            Err(StoreError::WrongTenant(format!("a request for tenant {} named a key of {other}", context.tenant)))
        }
        _ => Ok(()),
    }
}

/// Checks that a write may touch keys of every tenant.
fn check_system(context: &RequestContext) -> Result<(), StoreError> {
    match &context.principal {
        Principal::System => Ok(()),
        other => Err(StoreError::WrongTenant(format!("{other} may not write keys of every tenant"))),
    }
}

/// When the day (UTC) of `now` began.
fn day_begin(now: Timestamp) -> Timestamp {
    now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc()
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
    /// The database was not asked, because too many lookups wait for it already.
    #[error("too many lookups of unknown credentials wait for the key database")]
    Busy,
    /// A row cannot be read, or a statement was refused.
    #[error("the key database gave what cannot be used: {0}; it may belong to another version of Keygate")]
    Corrupt(String),
    /// A write would have left the tenant of its [`RequestContext`]: a defect of the caller. Nothing was written.
    #[error("the write was refused: {0}")]
    WrongTenant(String),
}

#[cfg(test)]
mod contract;
#[cfg(all(test, feature = "postgres"))]
mod testing;
