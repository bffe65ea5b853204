//! The cache that all nodes share, behind the one in memory.
//!
//! Its entries may have been written by a node that has seen fewer changes than this one: an entry is used only if it is not older than
//! the last change of its key that was applied here.

#[cfg(feature = "redis")]
mod record;
#[cfg(feature = "redis")]
mod redis;

#[cfg(feature = "redis")]
pub use redis::RedisStorage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use prometheus::IntCounter;

use super::CacheKey;
use super::min_versions::MinVersions;
use crate::key::ApiKey;

/// A minimum version outlives the entries that it refuses by this much.
const MARGIN: Duration = Duration::from_secs(5);

/// An entry of the shared cache.
#[derive(Debug, Clone, PartialEq)]
pub enum SharedEntry {
    /// The record of a key.
    Key(Arc<ApiKey>),
    /// A tombstone: the key was deleted. Its version is one above the last version of the key.
    Deleted(u64),
}

/// Storage for entries outside of this process. It may lose entries at any time.
#[async_trait]
pub trait SharedStorage: Send + Sync {
    /// The entry of a key; `None` also after a failure, or for an entry that cannot be decoded.
    async fn get(&self, key: CacheKey) -> Option<SharedEntry>;

    /// Stores an entry for `life` unless a newer one is stored, atomically.
    async fn put(&self, key: CacheKey, entry: &SharedEntry, life: Duration);
}

/// The shared cache as one node uses it.
pub struct SharedCache {
    storage: Arc<dyn SharedStorage>,
    ttl: Duration,
    min_versions: MinVersions,
    refusals: IntCounter,
}

impl SharedEntry {
    /// The version of the record or tombstone.
    pub fn version(&self) -> u64 {
        match self {
            Self::Key(key) => key.version,
            Self::Deleted(version) => *version,
        }
    }

    /// The record, if there is one.
    pub fn record(self) -> Option<Arc<ApiKey>> {
        match self {
            Self::Key(key) => Some(key),
            Self::Deleted(_) => None,
        }
    }
}

impl SharedCache {
    /// The number of minimum versions, of some 100 bytes each.
    pub const CHANGES_MAX: usize = 200_000;

    /// A cache in `storage` whose entries live for `ttl`. No entry is used until [`SharedCache::open`].
    pub fn new(storage: Arc<dyn SharedStorage>, ttl: Duration, now: Instant) -> Self {
        let min_versions = MinVersions::new(ttl + MARGIN, Self::CHANGES_MAX);
        min_versions.close(now);
        Self { storage, ttl, min_versions, refusals: super::refusals("shared") }
    }

    /// The time before [`SharedCache::open`] of which all changes must have been applied.
    pub fn history(&self) -> Duration {
        self.ttl + MARGIN
    }

    /// Uses entries from now on: all changes within [`SharedCache::history`] were applied.
    pub fn open(&self) {
        self.min_versions.open();
    }

    /// Uses no entries until [`SharedCache::open`], or until those of now have expired: changes may have been missed.
    pub fn close(&self, now: Instant) {
        self.min_versions.close(now);
    }

    /// The entry of a key, if it is not older than the key's last change.
    pub async fn get(&self, key: CacheKey) -> Option<SharedEntry> {
        let entry = self.storage.get(key).await?;
        // Checked after the answer, so that a change in between counts.
        if self.min_versions.admits(&key, entry.version(), Instant::now()) {
            return Some(entry);
        }
        self.refusals.inc();
        None
    }

    /// Writes an entry that was true at `read_at`, if it is not older than the one there. It expires `ttl` after `read_at`, so that it
    /// does not outlive the minimum version of a change that came later.
    pub async fn put(&self, key: CacheKey, entry: &SharedEntry, read_at: Instant) {
        let life = self.ttl.saturating_sub(read_at.elapsed());
        if !life.is_zero() {
            self.storage.put(key, entry, life).await;
        }
    }

    /// A counter of the entries that were too old to be used, for a registry of metrics.
    pub fn refusals(&self) -> IntCounter {
        self.refusals.clone()
    }

    /// Refuses entries of a key below `min_version` from now on.
    pub fn invalidate(&self, key: CacheKey, min_version: u64) {
        self.min_versions.raise(key, min_version, Instant::now());
    }
}
