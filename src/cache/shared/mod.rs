//! The cache that all nodes share, behind the one in memory.
//!
//! What is in it may have been written by a node that knew less than this one: a record counts only if it is not older than
//! the last change of its key that this node has heard of.

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
use super::invalidation::Invalidations;
use crate::key::ApiKey;

/// A min_version stands this much longer than what it holds off can live.
const MARGIN: Duration = Duration::from_secs(5);

/// What a shared cache knows of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum SharedEntry {
    /// Its record.
    Key(Arc<ApiKey>),
    /// That it was deleted, and its last version.
    Deleted(u64),
}

/// A place outside of this process that keeps entries for a while. It may lose them at any time.
#[async_trait]
pub trait SharedStorage: Send + Sync {
    /// The entry of a key. Failures, and what cannot be read, are no entry.
    async fn get(&self, key: CacheKey) -> Option<SharedEntry>;

    /// Keeps an entry for `life`, unless a newer one is there; in one step.
    async fn put(&self, key: CacheKey, entry: &SharedEntry, life: Duration);
}

/// The shared cache, as one node may use it.
pub struct SharedCache {
    storage: Arc<dyn SharedStorage>,
    ttl: Duration,
    invalidations: Invalidations,
    refusals: IntCounter,
}

impl SharedEntry {
    /// The version of the record; for a deleted key the last one it had.
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
    /// How many changes are remembered: some 100 bytes each.
    pub const CHANGES_MAX: usize = 200_000;

    /// A cache in `storage` whose entries live for `ttl`. Until [`SharedCache::open`] nothing is read from it.
    pub fn new(storage: Arc<dyn SharedStorage>, ttl: Duration, now: Instant) -> Self {
        let invalidations = Invalidations::new(ttl + MARGIN, Self::CHANGES_MAX);
        invalidations.close(now);
        Self { storage, ttl, invalidations, refusals: super::refusals("shared") }
    }

    /// How far back this node has to know of all changes for [`SharedCache::open`].
    pub fn memory(&self) -> Duration {
        self.ttl + MARGIN
    }

    /// Reads from now on: this node has heard of all changes within [`SharedCache::memory`].
    pub fn open(&self) {
        self.invalidations.open();
    }

    /// Reads nothing for a while: changes may have been missed.
    pub fn close(&self, now: Instant) {
        self.invalidations.close(now);
    }

    /// What is known of a key, if it is not older than its last change.
    pub async fn get(&self, key: CacheKey) -> Option<SharedEntry> {
        let entry = self.storage.get(key).await?;
        // Looked at after the answer: a change meanwhile counts.
        if self.invalidations.admits(&key, entry.version(), Instant::now()) {
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

    /// Counts the entries that were too old to be used, for a registry of metrics.
    pub fn refusals(&self) -> IntCounter {
        self.refusals.clone()
    }

    /// Makes what is older than `version` outdated.
    pub fn invalidate(&self, key: CacheKey, version: u64) {
        self.invalidations.raise(key, version, Instant::now());
    }
}
