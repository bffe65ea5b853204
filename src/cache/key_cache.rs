//! The cache of key records in this process.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use prometheus::IntCounter;

use super::cache_key::CacheKey;
use super::records::{CacheTime, Entry, Insertion, Records};
use super::refusals::refusals;
use super::singleflight::{MinVersion, Singleflight};
use crate::key::CachedKey;

/// How long the negative cache keeps an entry.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// The number of entries of the negative cache.
const NEGATIVE_MAX: u64 = 100_000;
/// How often records are removed that are not kept any longer: after half of the time for which they are kept, within these bounds.
const SWEEP_MIN: Duration = Duration::from_secs(10);
const SWEEP_MAX: Duration = Duration::from_secs(300);
/// The longest time for which a record is cached, whatever is configured.
const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The cache of key records in this process: bounded in bytes, with a negative cache for absent keys. Concurrent misses of a key share
/// one lookup.
pub struct KeyCache<E> {
    pub(super) records: Records,
    /// When each key was found absent.
    negative: Cache<CacheKey, CacheTime>,
    pub(super) singleflight: Singleflight<Result<Loaded, E>>,
    created: Instant,
    /// How long [`KeyCache::get`] gives a record, in nanoseconds. After that it is stale.
    ttl: AtomicU64,
    /// Incremented by [`KeyCache::clear`]: the result of a read that started before is not cached.
    generation: AtomicU64,
    /// Incremented after each removal or replacement, so that connection hints of before no longer hold.
    epoch: AtomicU64,
    refusals: IntCounter,
}

/// What the cache has of a key.
#[derive(Debug, Clone)]
pub enum CacheEntry {
    /// Its record.
    Key(Arc<CachedKey>),
    /// There was no such key a moment ago.
    Absent,
}

/// The result of a read behind the cache.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The record, or `None` for an absent key.
    pub record: Option<Arc<CachedKey>>,
    /// Where the result came from.
    pub source: Source,
}

/// Where a result came from that was not in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From this cache: another read has stored it since the lookup.
    Local,
    /// From the shared cache.
    Shared,
    /// From the store.
    Store,
}

impl CacheEntry {
    /// The record, if there is one.
    pub fn record(self) -> Option<Arc<CachedKey>> {
        match self {
            Self::Key(key) => Some(key),
            Self::Absent => None,
        }
    }
}

impl<E: Clone + Send + Sync + 'static> KeyCache<E> {
    /// A cache of at most `max_bytes` of records, each for at most `ttl`. Evictions follow the `TinyLFU` policy and run behind: up to some
    /// hundred entries beyond the bound wait for it. A record of more than a 16th of the cache, at least a mebibyte, is not cached.
    pub fn new(max_bytes: u64, ttl: Duration) -> Self {
        Self::with_stale(max_bytes, ttl, Duration::ZERO)
    }

    /// As [`KeyCache::new`]; a record that is older than `ttl` is kept for `stale` longer, for [`KeyCache::get_stale`].
    pub fn with_stale(max_bytes: u64, ttl: Duration, stale: Duration) -> Self {
        let negative = Cache::builder().max_capacity(NEGATIVE_MAX).time_to_live(NEGATIVE_TTL).build();
        Self {
            records: Records::new(max_bytes, bounded_nanos(ttl.saturating_add(stale))),
            negative,
            singleflight: Singleflight::default(),
            created: Instant::now(),
            ttl: AtomicU64::new(bounded_nanos(ttl)),
            generation: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            refusals: refusals("memory"),
        }
    }

    /// Changes the times of [`KeyCache::with_stale`], also for the records that are cached.
    pub fn set_times(&self, ttl: Duration, stale: Duration) {
        self.ttl.store(bounded_nanos(ttl), Ordering::Relaxed);
        self.records.set_kept(bounded_nanos(ttl.saturating_add(stale)));
    }

    /// Removes records that are not kept any longer, which frees their memory, at intervals until it is dropped. Without this they are removed
    /// when the cache is full.
    pub async fn keep_removing_expired(self: Arc<Self>) {
        loop {
            let kept = Duration::from_nanos(self.records.kept());
            tokio::time::sleep((kept / 2).clamp(SWEEP_MIN, SWEEP_MAX)).await;
            // It visits all records: a part of a second for a million.
            let cache = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || cache.remove_expired()).await.is_err() {
                return;
            }
        }
    }

    /// Removes the records that are not kept any longer.
    pub(super) fn remove_expired(&self) {
        self.records.remove_expired(self.time(Instant::now()));
    }

    /// What is cached of a key.
    pub fn get(&self, key: &CacheKey) -> Option<CacheEntry> {
        self.get_at(key, Instant::now())
    }

    /// As [`KeyCache::get`], of what is not stale at `now`.
    pub fn get_at(&self, key: &CacheKey, now: Instant) -> Option<CacheEntry> {
        match self.get_current(key, now) {
            Some(entry) => Some(CacheEntry::Key(entry.record)),
            None => self.is_absent(key, now).then_some(CacheEntry::Absent),
        }
    }

    /// Whether the negative cache has the key at `now`.
    pub fn is_absent(&self, key: &CacheKey, now: Instant) -> bool {
        // Whatever is cached for longer than the negative cache keeps it needs no second look.
        let outlives = self.ttl.load(Ordering::Relaxed) >= bounded_nanos(NEGATIVE_TTL);
        self.negative.contains_key(key)
            && (outlives || self.negative.get(key).is_some_and(|found| self.is_current(found, now)))
    }

    /// The cached record, also when it is stale.
    pub fn get_stale(&self, key: &CacheKey) -> Option<Arc<CachedKey>> {
        self.records.get_kept(key, self.time(Instant::now())).map(|entry| entry.record)
    }

    /// Gets the record from `load` and caches the result. Concurrent calls for the same key share one result. `load` is called again when
    /// the key changed meanwhile, with the number of results that were refused.
    ///
    /// # Errors
    /// The error of `load`, which is not cached.
    pub async fn fetch<F, L>(&self, key: CacheKey, load: L) -> Result<Loaded, E>
    where
        L: Fn(u32) -> F + Send,
        F: Future<Output = Result<Loaded, E>> + Send,
    {
        let call = self.singleflight.join(key);
        call.result(async {
            let mut refused = 0;
            loop {
                // Only a minimum version that is raised after this point concerns the read.
                let (before, generation) = (call.min_version(), self.generation.load(Ordering::SeqCst));
                let loaded = load(refused).await?;
                let version = loaded.record.as_ref().map(|record| record.version());
                let is_current = call.with_lock(|min_version| {
                    let is_current = (min_version == before || min_version.admits(version))
                        && self.generation.load(Ordering::SeqCst) == generation;
                    if is_current {
                        self.store(key, loaded.record.as_ref());
                    }
                    is_current
                });
                if is_current {
                    return Ok(loaded);
                }
                refused += 1;
                self.refusals.inc();
            }
        })
        .await
    }

    /// Removes the record of a deleted key. The result of a read that started before is refused if it has the key in its last version
    /// or an older one.
    pub fn invalidate_deleted(&self, key: CacheKey, last_version: u64) {
        self.singleflight.invalidate(&key, MinVersion::deleted(last_version));
        self.remove_below(key, last_version + 1);
    }

    /// Removes a record that is older than `version`, to which the key has changed. The result of a read that started before is refused
    /// if it is older. The new record is not inserted: the caller may be late, and the key may have changed again.
    pub fn invalidate(&self, key: CacheKey, version: u64) {
        self.singleflight.invalidate(&key, MinVersion::changed(version));
        self.negative.invalidate(&key);
        self.remove_below(key, version);
    }

    /// Removes everything, and refuses the results of all reads in progress: changes may have been missed.
    pub fn clear(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.singleflight.settle();
        self.records.clear(self.time(Instant::now()));
        self.negative.invalidate_all();
        self.advance_epoch();
    }

    /// A counter of the results that were refused because the key had changed, for a registry of metrics.
    pub fn refusals(&self) -> IntCounter {
        self.refusals.clone()
    }

    /// The number of records, stale ones included. Runs evictions that are due.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record is cached. Runs evictions that are due.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that the records use, in bytes. Runs evictions that are due.
    pub fn weight(&self) -> u64 {
        self.records.weight()
    }

    fn remove_below(&self, key: CacheKey, version: u64) {
        self.records.remove_below(key, version);
        self.advance_epoch();
    }

    /// Caches the result of a read. Called with the lock of the key's read, under which no minimum version is raised: what a concurrent
    /// change removes afterwards is older than the minimum version that admitted this result.
    fn store(&self, key: CacheKey, record: Option<&Arc<CachedKey>>) {
        let now = self.time(Instant::now());
        let replaced = if let Some(record) = record {
            let entry = Entry { record: Arc::clone(record), inserted: now };
            self.negative.invalidate(&key);
            self.records.insert(key, entry) == Insertion::Replaced
        } else {
            let removed = self.records.remove(&key);
            self.negative.insert(key, now);
            removed
        };
        if replaced {
            self.advance_epoch();
        }
    }

    pub(super) fn get_current(&self, key: &CacheKey, now: Instant) -> Option<Entry> {
        self.records.get(key).filter(|entry| self.is_current(entry.inserted, now))
    }

    pub(super) fn is_current(&self, inserted: CacheTime, now: Instant) -> bool {
        self.time(now).since(inserted) < self.ttl.load(Ordering::Relaxed)
    }

    /// A number that changes with every invalidation: as long as it is the same, no cached record was replaced or removed because of
    /// one. A record that is found after the epoch was read is at least as new as the epoch.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Called after the removal that it announces.
    fn advance_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn time(&self, instant: Instant) -> CacheTime {
        CacheTime(u64::try_from(instant.saturating_duration_since(self.created).as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A time of a record in nanoseconds, at most [`TTL_MAX`].
fn bounded_nanos(time: Duration) -> u64 {
    u64::try_from(time.min(TTL_MAX).as_nanos()).unwrap_or(u64::MAX)
}
