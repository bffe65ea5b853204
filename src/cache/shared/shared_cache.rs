//! The shared cache as one node uses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::storage::{SharedEntry, SharedStorage};
use crate::cache::CacheKey;
use crate::cache::min_versions::MinVersions;
use crate::cache::refusals::refusals;

/// A minimum version outlives the entries that it refuses by this much.
const MARGIN: Duration = Duration::from_secs(5);

/// The shared cache as one node uses it.
pub struct SharedCache {
    storage: Arc<dyn SharedStorage>,
    ttl: Duration,
    min_versions: MinVersions,
    refusals: IntCounter,
}

impl SharedCache {
    /// The number of minimum versions, of some 100 bytes each.
    pub const CHANGES_MAX: usize = 200_000;

    /// A cache in `storage` whose entries live for `ttl`. No entry is used until [`SharedCache::open`].
    pub fn new(storage: Arc<dyn SharedStorage>, ttl: Duration, now: Instant) -> Self {
        let min_versions = MinVersions::new(ttl + MARGIN, Self::CHANGES_MAX);
        min_versions.close(now);
        Self { storage, ttl, min_versions, refusals: refusals("shared") }
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
