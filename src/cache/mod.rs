//! Records of keys in the memory of this process. Knows neither the store nor what a record means; never holds a
//! verdict, so every request judges the record again.
//!
//! What must hold: once [`KeyCache::invalidate`] has returned, no lookup that begins afterwards sees an older record, however
//! long a read that began before it may still take.

mod caches;
mod connection_hint;
mod freshness;
mod invalidation;
mod records;
mod revoked_parents;
mod shared;
mod singleflight;

pub use caches::{Caches, Invalidation, InvalidationKind};
pub use connection_hint::ConnectionHint;
pub use freshness::{Freshness, OnDatabaseDown, Trust};
pub use revoked_parents::{ParentStatus, RevokedParents};
#[cfg(feature = "redis")]
pub use shared::RedisStorage;
pub use shared::{SharedCache, SharedEntry, SharedStorage};

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use prometheus::{IntCounter, Opts};

use crate::id::{KeyId, TenantId};
use crate::key::CachedKey;
use records::{ById, Records};
use singleflight::{MinVersion, Singleflight};

/// What a record is found by.
pub type CacheKey = (TenantId, KeyId);

/// How long "there is no such key" is remembered.
const ABSENT_TTL: Duration = Duration::from_secs(5);
/// How many absent keys are remembered; beyond it the least used are asked for again.
const ABSENT_MAX: u64 = 100_000;
/// No record is held longer, whatever is configured.
const HELD_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// A bounded cache with one lookup for all concurrent misses of a key.
pub struct KeyCache<E> {
    /// What is over stays until it makes room: time empties no place, only the bound on bytes does.
    records: Records,
    begun: Instant,
    ttl: Duration,
    /// How long a record is held for [`KeyCache::get_stale`].
    held_for: Duration,
    absent: Cache<CacheKey, ()>,
    singleflight: Singleflight<Result<Option<Arc<CachedKey>>, E>>,
    /// Raised by [`KeyCache::clear`]: what a read that began before brings is not kept.
    generation: AtomicU64,
    epoch: AtomicU64,
    refusals: IntCounter,
}

/// A record, and since when it is held.
#[derive(Clone)]
struct Held {
    record: Arc<CachedKey>,
    since: Since,
}

/// When a record came into a cache, in nanoseconds since that began.
#[derive(Debug, Clone, Copy)]
struct Since(u64);

/// What the cache knows of a key.
#[derive(Debug, Clone)]
pub enum CacheEntry {
    /// Its record.
    Key(Arc<CachedKey>),
    /// That there was no such key a moment ago.
    Absent,
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
    /// A cache of at most `max_bytes` of records, each for at most `ttl`. At the cap records that were not used lately make room.
    /// A record that would take more than its part of the cache, a mebibyte at the least, is not kept.
    pub fn new(max_bytes: u64, ttl: Duration) -> Self {
        Self::with_stale(max_bytes, ttl, Duration::ZERO)
    }

    /// As [`KeyCache::new`]; a record whose time is over is held for `longer`, for [`KeyCache::get_stale`].
    pub fn with_stale(max_bytes: u64, ttl: Duration, longer: Duration) -> Self {
        let absent = Cache::builder().max_capacity(ABSENT_MAX).time_to_live(ABSENT_TTL.min(ttl)).build();
        Self {
            records: records::records(max_bytes),
            begun: Instant::now(),
            ttl: ttl.min(HELD_MAX),
            held_for: ttl.saturating_add(longer).min(HELD_MAX),
            absent,
            singleflight: Singleflight::default(),
            generation: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            refusals: refusals("memory"),
        }
    }

    /// What is known without asking anybody.
    pub fn get(&self, key: &CacheKey) -> Option<CacheEntry> {
        match self.held_at(key, Instant::now()) {
            Some(held) => Some(CacheEntry::Key(held.record)),
            None => self.absent.contains_key(key).then_some(CacheEntry::Absent),
        }
    }

    /// The record that is held, also when its time is over.
    pub fn get_stale(&self, key: &CacheKey) -> Option<Arc<CachedKey>> {
        let is_held = |held: &Held| self.age(held.since, Instant::now()) < self.held_for;
        self.records.get(key).filter(is_held).map(|held| held.record)
    }

    /// Asks `load` for the record and remembers the answer; callers that want the same key meanwhile share the answer.
    ///
    /// # Errors
    /// What `load` fails with; a failure is remembered nowhere.
    pub async fn fetch<F, L>(&self, key: CacheKey, load: L) -> Result<Option<Arc<CachedKey>>, E>
    where
        L: Fn() -> F + Send,
        F: Future<Output = Result<Option<Arc<CachedKey>>, E>> + Send,
    {
        let call = self.singleflight.join(key);
        call.result(async {
            loop {
                // A min_version that stands already is no concern of a read that begins now.
                let (before, generation) = (call.min_version(), self.generation.load(Ordering::SeqCst));
                let loaded = load().await?;
                let version = loaded.as_ref().map(|record| record.version());
                let kept = call.with_lock(|min_version| {
                    let current = min_version == before || min_version.admits(version);
                    let kept = current && self.generation.load(Ordering::SeqCst) == generation;
                    if kept {
                        self.remember(key, loaded.as_ref());
                    }
                    kept
                });
                if kept {
                    return Ok(loaded);
                }
                self.refusals.inc();
            }
        })
        .await
    }

    /// Takes over that a key is gone whose last version is given: its record is dropped now, and refused when a read that
    /// began before brings it.
    pub fn invalidate_deleted(&self, key: CacheKey, last_version: u64) {
        self.singleflight.invalidate(&key, MinVersion::deleted(last_version));
        self.drop_below(key, last_version + 1);
    }

    /// Takes over that a key changed and has this version now: what is older is dropped, and refused when a read that began before
    /// brings it. The new record itself is not taken: whoever made it may be late, and the key may have changed again.
    pub fn invalidate(&self, key: CacheKey, version: u64) {
        self.singleflight.invalidate(&key, MinVersion::changed(version));
        self.absent.invalidate(&key);
        self.drop_below(key, version);
    }

    /// Drops everything, and what reads under way bring: changes may have been missed.
    pub fn clear(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.singleflight.settle();
        self.records.clear();
        self.absent.invalidate_all();
        self.changed();
    }

    /// Counts the records that came too late to be kept, for a registry of metrics.
    pub fn refusals(&self) -> IntCounter {
        self.refusals.clone()
    }

    /// How many records are held, those whose time is over included.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record is held.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What the records take of memory, in bytes.
    pub fn weight(&self) -> u64 {
        self.records.weight()
    }

    fn drop_below(&self, key: CacheKey, version: u64) {
        self.records.remove_if(&key, |held| held.record.version() < version);
        self.changed();
    }

    /// Takes over what a read has found. Called while no min_version can be raised on it, so that of one key one call is made at a time,
    /// and what a change meanwhile drops is older than what the min_version admitted.
    fn remember(&self, key: CacheKey, record: Option<&Arc<CachedKey>>) {
        let held = self.records.peek(&key);
        let Some(record) = record else {
            self.records.remove(&key);
            self.absent.insert(key, ());
            if held.is_some() {
                self.changed();
            }
            return;
        };
        if held.as_ref().is_some_and(|held| held.record.version() > record.version()) {
            return;
        }
        self.records
            .insert(ById(Arc::clone(record)), Held { record: Arc::clone(record), since: self.since(Instant::now()) });
        if held.is_some_and(|held| held.record.version() != record.version()) {
            self.changed();
        }
    }

    fn held_at(&self, key: &CacheKey, now: Instant) -> Option<Held> {
        self.records.get(key).filter(|held| self.is_current(held.since, now))
    }

    fn is_current(&self, since: Since, now: Instant) -> bool {
        self.age(since, now) < self.ttl
    }

    /// A number that is another one after each change: as long as it stays, no record that was held has been replaced or dropped
    /// because of one. A record found after the epoch was read is at least as young as the epoch.
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Makes known that something is not held any more, after it is so.
    fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn since(&self, now: Instant) -> Since {
        Since(u64::try_from(now.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX))
    }

    fn age(&self, since: Since, now: Instant) -> Duration {
        Duration::from_nanos(self.since(now).0.saturating_sub(since.0))
    }
}

/// A counter of the records that a cache did not take because they were older than a change.
fn refusals(level: &str) -> IntCounter {
    let help = "Records that were not taken from a read or another node because the key had changed";
    let options = Opts::new("keygate_cache_fills_refused_total", help).const_label("level", level);
    IntCounter::with_opts(options).expect("name and label are valid")
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
