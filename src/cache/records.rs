//! The map of key records and what an entry of it weighs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::cache_key::CacheKey;
use crate::key::CachedKey;

/// Memory of an entry beside its record, in bytes: its key, its place in the hash table, its nodes in the lists by access and by age,
/// its share of the frequency sketch. Measured with `benches/cached_keys.rs` and rounded up: the bound is for the process.
const ENTRY: u32 = 376;
/// An entry of more than this part of the cache is not cached.
const ENTRY_PART: u64 = 16;
/// An entry of at most this size is cached in every cache that it fits into. Metadata, scopes and address ranges of a key have at most
/// 200 KiB.
const ENTRY_PART_MIN: u64 = 1 << 20;

/// A time in nanoseconds since the cache was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CacheTime(pub(super) u64);

/// Cached records by their keys.
pub(super) struct Records {
    map: Cache<CacheKey, Entry, RandomState>,
    /// The largest weight that is cached, in bytes.
    entry_max: u64,
    /// Entries that were inserted before this [`CacheTime`] do not count. moka checks the same, but by a time that an insertion renews
    /// in the entry that it is about to replace: for that instant an entry of before would count again.
    cleared: AtomicU64,
}

/// A cached record.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) record: Arc<CachedKey>,
    /// When the record was cached.
    pub(super) inserted: CacheTime,
}

/// What an insertion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Insertion {
    /// A newer record is cached and stays.
    Outdated,
    /// An older record was cached and is removed.
    Replaced,
    /// No other version was cached.
    New,
}

impl Entry {
    fn weight(&self) -> u32 {
        self.record.size().saturating_add(ENTRY)
    }

    fn version(&self) -> u64 {
        self.record.version()
    }
}

impl Records {
    /// An empty map of at most `max_bytes`. An entry is evicted `ttl` after its insertion.
    pub(super) fn new(max_bytes: u64, ttl: Duration) -> Self {
        let map = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &CacheKey, entry: &Entry| entry.weight())
            .time_to_live(ttl)
            .build_with_hasher(RandomState::new());
        let entry_max = (max_bytes / ENTRY_PART).max(ENTRY_PART_MIN).min(max_bytes);
        Self { map, entry_max, cleared: AtomicU64::new(0) }
    }

    /// The entry of a key. Does not allocate.
    pub(super) fn get(&self, key: &CacheKey) -> Option<Entry> {
        self.map.get(key).filter(|entry| self.counts(entry))
    }

    /// Caches a record unless a newer one is cached. A record that is too large is not cached; an older one is removed all the same.
    pub(super) fn insert(&self, key: CacheKey, entry: Entry) -> Insertion {
        let (version, fits) = (entry.version(), u64::from(entry.weight()) <= self.entry_max);
        let mut insertion = Insertion::New;
        // Two of these calls for one key do not run at the same time.
        self.map.entry(key).and_compute_with(|current| {
            let current =
                current.filter(|current| self.counts(current.value())).map(|current| current.value().version());
            if current.is_some_and(|current| current > version) {
                insertion = Insertion::Outdated;
                return Op::Nop;
            }
            if current.is_some_and(|current| current < version) {
                insertion = Insertion::Replaced;
            }
            if fits { Op::Put(entry) } else { Op::Remove }
        });
        insertion
    }

    /// Removes the record of a key. Returns whether there was one.
    pub(super) fn remove(&self, key: &CacheKey) -> bool {
        self.map.remove(key).is_some()
    }

    /// Removes the record of a key if it is older than `version`.
    pub(super) fn remove_below(&self, key: CacheKey, version: u64) {
        let is_outdated = |entry: &Entry| entry.version() < version;
        if self.map.get(&key).is_some_and(|entry| is_outdated(&entry)) {
            self.map.entry(key).and_compute_with(|current| {
                let is_outdated = current.is_some_and(|current| is_outdated(current.value()));
                if is_outdated { Op::Remove } else { Op::Nop }
            });
        }
    }

    /// Removes all records. Insertions of before must have returned.
    pub(super) fn clear(&self, now: CacheTime) {
        // An entry of the very same nanosecond may be of before.
        self.cleared.fetch_max(now.0.saturating_add(1), Ordering::AcqRel);
        self.map.invalidate_all();
    }

    /// The number of entries, after the evictions that are due.
    pub(super) fn len(&self) -> usize {
        self.map.run_pending_tasks();
        usize::try_from(self.map.entry_count()).unwrap_or(usize::MAX)
    }

    /// The weight of all entries in bytes, after the evictions that are due.
    pub(super) fn weight(&self) -> u64 {
        self.map.run_pending_tasks();
        self.map.weighted_size()
    }

    fn counts(&self, entry: &Entry) -> bool {
        entry.inserted.0 >= self.cleared.load(Ordering::Acquire)
    }
}
