//! The traits of key stores, and the values that they take and return.

use std::sync::Arc;

use async_trait::async_trait;

use super::audit_store::AuditStore;
use super::error::StoreError;
use super::feed::ChangeFeed;
use super::inactive::{InactiveCount, InactiveQuery};
use super::node_directory::NodeDirectory;
use super::search::{FoundKeys, SearchQuery};
use super::store_file::StoreFile;
use super::usage_store::UsageStore;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, KeyFilter, Revocation};
use crate::request_context::{ActorScope, Principal, RequestContext};

/// Looks up key records. A missing key is `None`; an error means that it is not known whether the key exists.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// Returns a key in any status.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError>;

    /// Returns those of the keys that exist, in any order. Databases look them up in one statement.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
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
    /// Returns the key that an earlier call with this request id created.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn find_by_request(
        &self,
        tenant: TenantId,
        kind: KeyKind,
        request_id: &str,
    ) -> Result<Option<ApiKey>, StoreError>;

    /// Returns a page of keys by descending id (bytewise), at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn list(&self, page: &PageQuery<'_>) -> Result<Vec<ApiKey>, StoreError>;

    /// Returns keys that meet the conditions of a search, in its order. Reads a bounded number of keys, so it may return fewer than the
    /// limit although there are more.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn search(&self, query: &SearchQuery<'_>) -> Result<FoundKeys, StoreError>;

    /// Adds a key unless its id or its request id is taken.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the key was added.
    async fn insert(
        &self,
        context: &RequestContext,
        key: &ApiKey,
        request_id: Option<&str>,
    ) -> Result<Inserted, StoreError>;

    /// Adds the keys whose ids are free, in one transaction. Returns for each key whether it was added.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether they were added: all of them or none.
    async fn insert_many(&self, context: &RequestContext, keys: &[ApiKey]) -> Result<Vec<bool>, StoreError>;

    /// Replaces `replaced` by `key`, another version of the same key. Returns `false` if the stored version is another one than
    /// that of `replaced`, or if there is no such key. `last_used_time` stays as it is stored.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the key was replaced.
    async fn replace(&self, context: &RequestContext, key: &ApiKey, replaced: &ApiKey) -> Result<bool, StoreError>;

    /// Revokes a key of the context's tenant if it is active, whatever its version.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the key was revoked.
    async fn revoke(
        &self,
        context: &RequestContext,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError>;

    /// Adds `new` and replaces `old` by it, in one transaction: with `revoke_time` the old key stays active until then, without it the
    /// old key is revoked by [`Revocation::superseded`]. Returns the old key, or `None` if the stored key is not active or not of the
    /// version of `old`; then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the keys were rotated.
    async fn rotate(
        &self,
        context: &RequestContext,
        old: &ApiKey,
        new: &ApiKey,
        now: Timestamp,
        revoke_time: Option<Timestamp>,
    ) -> Result<Option<ApiKey>, StoreError>;

    /// Sets `last_used_time` of the keys to `now`, except where it is already on the same day (UTC) or later. Does not change
    /// `version` or `update_time` and writes nothing to the feed. Keys that do not exist are skipped.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the times were written.
    async fn record_last_used(
        &self,
        context: &RequestContext,
        keys: &[(TenantId, KeyId)],
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Deletes a key of the context's tenant. Returns its last version, or `None` if there was no such key. The deletion is
    /// kept for [`KeyStore::revoked_since`].
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the key was deleted.
    async fn delete(&self, context: &RequestContext, id: KeyId, now: Timestamp) -> Result<Option<u64>, StoreError>;

    /// Deletes keys of every tenant whose `expire_time` is before `before` and in the past, the earliest first, at most
    /// `limit`. Revoked ones are kept for [`KeyStore::revoked_since`]. Deletes nothing while another caller purges. Only for
    /// [`Principal::System`].
    ///
    /// # Errors
    /// [`StoreError`] when it is not known which keys were deleted.
    async fn purge(
        &self,
        context: &RequestContext,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<PurgedKey>, StoreError>;

    /// Removes deletions from before `before` that are kept for [`KeyStore::revoked_since`], the oldest first, at most
    /// `limit`. Returns how many. Only for [`Principal::System`].
    ///
    /// # Errors
    /// [`StoreError`] when it is not known which were removed.
    async fn prune_deleted(&self, context: &RequestContext, before: Timestamp, limit: u32) -> Result<u64, StoreError>;

    /// Returns the keys of every tenant that were revoked or deleted since a time, and the replaced keys that count as revoked at a later
    /// time, the latest first, at most `limit`. May include keys that were revoked earlier and updated since.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<RevokedKey>, StoreError>;

    /// Returns how many keys of a tenant are not revoked at `now`, expired ones included.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn count_active(&self, tenant: TenantId, now: Timestamp) -> Result<u64, StoreError>;

    /// Counts the keys that meet the conditions and are revoked or expired. Reads a bounded number of keys; a store that does not count
    /// returns an incomplete count of none.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    #[doc(hidden)]
    async fn count_inactive(&self, _: &InactiveQuery<'_>) -> Result<InactiveCount, StoreError> {
        Ok(InactiveCount::default())
    }

    /// Checks that the store answers.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Returns the feed of changes; `None` if only this process can change the keys.
    fn feed(self: Arc<Self>) -> Option<Arc<dyn ChangeFeed>> {
        None
    }

    /// Returns the audit trail, which has a row of every write except of [`KeyStore::record_last_used`] and
    /// [`KeyStore::prune_deleted`], written in the transaction of the write. `None` if the store keeps none.
    #[doc(hidden)]
    fn audit(self: Arc<Self>) -> Option<Arc<dyn AuditStore>> {
        None
    }

    /// Returns the usage of keys; `None` if the store keeps none.
    #[doc(hidden)]
    fn usage(self: Arc<Self>) -> Option<Arc<dyn UsageStore>> {
        None
    }

    /// Returns the directory of the nodes that share the store; `None` if only this process uses it.
    fn node_directory(self: Arc<Self>) -> Option<Arc<dyn NodeDirectory>> {
        None
    }

    /// Returns the file of the store; `None` if processes share the store, or it is in memory.
    #[doc(hidden)]
    fn file(self: Arc<Self>) -> Option<Arc<dyn StoreFile>> {
        None
    }

    /// Waits for running statements and closes all connections.
    async fn close(&self) {}
}

/// Which keys a page contains.
#[derive(Debug, Clone)]
pub struct PageQuery<'a> {
    /// The tenant of the keys.
    pub tenant: TenantId,
    /// The kind of the keys.
    pub kind: KeyKind,
    /// Further conditions.
    pub filter: &'a KeyFilter,
    /// Only keys of these actors.
    pub actors: &'a ActorScope,
    /// Only keys with smaller ids; all if absent.
    pub before: Option<KeyId>,
    /// Maximum number of keys.
    pub limit: u32,
    /// The time at which a key counts as active or expired.
    pub now: Timestamp,
}

/// A key that was revoked or deleted, or that a rotation replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedKey {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The key.
    pub id: KeyId,
    /// When it was deleted, or last changed; the revocation is not later. For a replaced key, when it counts as revoked.
    pub time: Timestamp,
    /// Whether the key was replaced and stays active until `time`.
    pub is_later: bool,
}

/// A key that was deleted some time after its expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgedKey {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The key.
    pub id: KeyId,
    /// Its last version.
    pub version: u64,
}

/// The outcome of an insert.
#[derive(Debug, Clone, PartialEq)]
pub enum Inserted {
    /// The key was added.
    New,
    /// An earlier call with the same request id added this key.
    Replay(Box<ApiKey>),
    /// The id is taken.
    Exists,
}

/// The outcome of a revocation.
#[derive(Debug, Clone, PartialEq)]
pub enum Revoked {
    /// The key was revoked; this is its new record.
    Done(Box<ApiKey>),
    /// The key was revoked before.
    Already,
    /// There is no such key.
    Absent,
}

/// How often a write is tried while others change the same key.
#[cfg(feature = "postgres")]
pub(super) const RETRIES: usize = 16;

/// The error after [`RETRIES`].
#[cfg(feature = "postgres")]
pub(super) fn contended(id: KeyId) -> StoreError {
    StoreError::Unavailable(format!("key {id} was changed by others during each of {RETRIES} tries"))
}

/// Checks that a write stays within the tenant of its context; `tenants` are those of the keys to be written.
pub(super) fn check_tenants(
    context: &RequestContext,
    tenants: impl IntoIterator<Item = TenantId>,
) -> Result<(), StoreError> {
    let other = tenants.into_iter().find(|tenant| *tenant != context.tenant);
    match other {
        Some(other) if context.principal != Principal::System => {
            Err(StoreError::WrongTenant(format!("a request for tenant {} named a key of {other}", context.tenant)))
        }
        _ => Ok(()),
    }
}

/// Checks that a write may change keys of every tenant.
pub(super) fn check_system(context: &RequestContext) -> Result<(), StoreError> {
    match &context.principal {
        Principal::System => Ok(()),
        other => Err(StoreError::WrongTenant(format!("{other} may not write keys of every tenant"))),
    }
}

/// Midnight (UTC) of the day of `now`.
pub(super) fn day_begin(now: Timestamp) -> Timestamp {
    now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc()
}
