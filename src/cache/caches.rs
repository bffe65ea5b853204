//! All caches of a node, and the one way in which they learn of changed keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache_key::CacheKey;
use super::changes::KeyChanges;
use super::freshness::{Freshness, OnDatabaseDown};
use super::key_cache::KeyCache;
use super::revoked_parents::RevokedParents;
use super::shared::{SharedCache, SharedEntry};
use crate::clock::Timestamp;
use crate::key::{ApiKey, Status};

/// The caches of a node, and until when they are up to date.
pub struct Caches<E> {
    /// The cache in this process, if there is one.
    pub local: Option<Arc<KeyCache<E>>>,
    /// The cache that nodes share, if there is one.
    pub shared: Option<Arc<SharedCache>>,
    /// Revoked and deleted keys, whose tokens are rejected.
    pub revoked_parents: Arc<RevokedParents>,
    /// Until when all changes are known.
    pub freshness: Arc<Freshness>,
    /// Who learns of changes after the caches.
    pub changes: Arc<KeyChanges>,
}

/// The times of the caches of a node, which can change while they are used.
#[derive(Debug, Clone, Copy)]
pub struct CacheTimes {
    /// How long a record is used; not at all if zero.
    pub ttl: Duration,
    /// How long records are used without changes.
    pub max_staleness: Duration,
    /// What happens after that while the database is unavailable.
    pub on_database_down: OnDatabaseDown,
}

/// A change of a key that the store has committed.
#[derive(Debug, Clone)]
pub struct Invalidation {
    /// Which key.
    pub key: CacheKey,
    /// The version that the change made; the last version of a key that was deleted or purged.
    pub version: u64,
    /// What happened to the key.
    pub kind: InvalidationKind,
    /// When the key changed.
    pub time: Timestamp,
    /// The entry that replaces the one in the shared cache. Only the node that made the change writes it.
    pub write_through: Option<SharedEntry>,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidationKind {
    /// It was created or updated.
    Changed,
    /// It was revoked, or replaced by a rotation. Its tokens are rejected.
    Revoked,
    /// A rotation replaced it. It and its tokens are rejected after this time.
    RevokedAfter(Timestamp),
    /// It was deleted. Its tokens are rejected.
    Deleted,
    /// Its record was removed long after the key had expired or was revoked. No token of it is valid any more.
    Purged,
}

/// A cache that an invalidation is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Shared,
    Local,
    RevokedParents,
}

/// The order in which an invalidation is applied. The shared cache is first: a read that starts after the local cache was
/// invalidated is not checked again, so it must not find an outdated record in the shared cache. `model.rs` tries all interleavings.
pub(super) const ORDER: [Target; 3] = [Target::Shared, Target::Local, Target::RevokedParents];

impl Invalidation {
    /// The change that produced this record: revoked if the record is revoked.
    pub fn of_record(record: &ApiKey) -> Self {
        let kind = match (&record.status, record.revoke_time) {
            (Status::Revoked(_), _) => InvalidationKind::Revoked,
            (Status::Active, Some(end)) => InvalidationKind::RevokedAfter(end),
            (Status::Active, None) => InvalidationKind::Changed,
        };
        Self {
            key: (record.tenant, record.id),
            version: record.version,
            kind,
            time: record.update_time,
            write_through: None,
        }
    }

    /// As [`Invalidation::of_record`], and the record replaces the one in the shared cache.
    pub fn writing_through(record: &ApiKey) -> Self {
        let write_through = Some(SharedEntry::Key(Arc::new(record.clone())));
        Self { write_through, ..Self::of_record(record) }
    }

    /// The deletion of a key. A tombstone replaces its record in the shared cache.
    pub fn deleted(key: CacheKey, last_version: u64, time: Timestamp) -> Self {
        let kind = InvalidationKind::Deleted;
        let write_through = Some(SharedEntry::Deleted(last_version + 1));
        Self { key, version: last_version, kind, time, write_through }
    }

    /// The purge of a key.
    pub fn purged(key: CacheKey, last_version: u64, time: Timestamp) -> Self {
        Self { key, version: last_version, kind: InvalidationKind::Purged, time, write_through: None }
    }

    /// The lowest version that is not outdated. A tombstone has the version after the last one of the key.
    pub fn min_version(&self) -> u64 {
        self.version + u64::from(self.is_deletion())
    }

    fn is_deletion(&self) -> bool {
        matches!(self.kind, InvalidationKind::Deleted | InvalidationKind::Purged)
    }
}

impl CacheTimes {
    /// How much longer than `ttl` records are kept, for a database that is unavailable.
    pub fn stale(&self) -> Duration {
        if self.ttl.is_zero() { Duration::ZERO } else { self.on_database_down.stale_limit() }
    }
}

impl<E: Clone + Send + Sync + 'static> Caches<E> {
    /// Changes the times of all caches, also for what is cached. Entries of the shared cache are stored no longer than at first.
    pub fn set_times(&self, times: &CacheTimes) {
        if let Some(local) = &self.local {
            local.set_times(times.ttl, times.stale());
        }
        if let Some(shared) = &self.shared {
            shared.set_ttl(times.ttl);
        }
        self.freshness.set_times(times.max_staleness, times.on_database_down);
    }

    /// Applies a change to all caches. No lookup that starts after this has returned uses an older record. All of this process is
    /// invalidated before the first suspension; only the write to the shared cache is waited for, and its failure is ignored.
    pub async fn apply(&self, invalidation: &Invalidation, now: Timestamp) {
        for target in ORDER {
            self.invalidate(target, invalidation, now);
        }
        self.changes.key_changed(invalidation.key);
        if let (Some(shared), Some(entry)) = (&self.shared, &invalidation.write_through) {
            shared.put(invalidation.key, entry, Instant::now()).await;
        }
    }

    fn invalidate(&self, target: Target, invalidation: &Invalidation, now: Timestamp) {
        let key = invalidation.key;
        match target {
            Target::Shared => {
                if let Some(shared) = &self.shared {
                    shared.invalidate(key, invalidation.min_version());
                }
            }
            Target::Local => match &self.local {
                Some(local) if invalidation.is_deletion() => local.invalidate_deleted(key, invalidation.version),
                Some(local) => local.invalidate(key, invalidation.version),
                None => {}
            },
            Target::RevokedParents => match invalidation.kind {
                InvalidationKind::Revoked | InvalidationKind::Deleted => {
                    self.revoked_parents.add(key, invalidation.time, now);
                }
                InvalidationKind::RevokedAfter(end) => self.revoked_parents.add_later(key, end, now),
                InvalidationKind::Changed | InvalidationKind::Purged => {}
            },
        }
    }
}

impl<E> Caches<E> {
    /// The caches of the only node of an installation.
    pub fn alone(local: Option<Arc<KeyCache<E>>>, revoked_parents: Arc<RevokedParents>) -> Self {
        let freshness = Arc::new(Freshness::alone(Instant::now()));
        Self { local, shared: None, revoked_parents, freshness, changes: Arc::default() }
    }
}

impl<E> Clone for Caches<E> {
    fn clone(&self) -> Self {
        Self {
            local: self.local.clone(),
            shared: self.shared.clone(),
            revoked_parents: Arc::clone(&self.revoked_parents),
            freshness: Arc::clone(&self.freshness),
            changes: Arc::clone(&self.changes),
        }
    }
}
