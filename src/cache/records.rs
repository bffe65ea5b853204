//! The map of key records and what an entry of it weighs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;

use super::cache_key::CacheKey;
use crate::key::CachedKey;

/// Memory of an entry beside its record, in bytes: its key, its place in the hash table, its node in the list by access,
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
    /// In nanoseconds.
    kept: AtomicU64,
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

impl CacheTime {
    /// The time since another one, in nanoseconds; 0 if that is later.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Records {
    /// An empty map of at most `max_bytes`, whose entries are kept for `kept` nanoseconds.
    ///
    /// moka has no part in that time: its own time to live cannot change, and one for each entry (`Expiry`) makes every read a quarter dearer.
    pub(super) fn new(max_bytes: u64, kept: u64) -> Self {
        let map = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &CacheKey, entry: &Entry| entry.weight())
            .build_with_hasher(RandomState::new());
        let entry_max = (max_bytes / ENTRY_PART).max(ENTRY_PART_MIN).min(max_bytes);
        Self { map, kept: AtomicU64::new(kept), entry_max, cleared: AtomicU64::new(0) }
    }

    /// Changes how long entries are kept, in nanoseconds, from their insertion on.
    pub(super) fn set_kept(&self, kept: u64) {
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// How long entries are kept, in nanoseconds.
    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// Removes the entries that are not kept any longer at `now`. Visits all entries.
    pub(super) fn remove_expired(&self, now: CacheTime) {
        let is_kept = |entry: &Entry| now.since(entry.inserted) < self.kept();
        for (key, _) in self.map.iter().filter(|(_, entry)| !is_kept(entry)) {
            // It may have been replaced meanwhile.
            self.map.entry(*key).and_compute_with(|current| match current {
                Some(current) if !is_kept(current.value()) => Op::Remove,
                _ => Op::Nop,
            });
        }
    }

    /// The entry of a key, if it is kept at `now`.
    pub(super) fn get_kept(&self, key: &CacheKey, now: CacheTime) -> Option<Entry> {
        self.get(key).filter(|entry| now.since(entry.inserted) < self.kept())
    }

    /// The entry of a key, also if it is not kept any longer and was not removed yet. Does not allocate.
    pub(super) fn get(&self, key: &CacheKey) -> Option<Entry> {
        self.map.get(key).filter(|entry| self.counts(entry))
    }

    /// Caches a record unless a newer one is cached. A record that is too large is not cached; an older one is removed all the same.
    pub(super) fn insert(&self, key: CacheKey, entry: Entry) -> Insertion {
        let (version, fits) = (entry.version(), u64::from(entry.weight()) <= self.entry_max);
        let mut insertion = Insertion::New;
        // Two of these calls for one key do not run at the same time.
        self.map.entry(key).and_compute_with(|current| {
            let is_kept =
                |current: &Entry| self.counts(current) && entry.inserted.since(current.inserted) < self.kept();
            let current = current.filter(|current| is_kept(current.value())).map(|current| current.value().version());
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
        // In one order with the other changes of the entry.
        matches!(self.map.entry(*key).and_compute_with(|_| Op::Remove), CompResult::Removed(_))
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
