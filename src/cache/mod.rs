//! Records of keys in the memory of this process. Knows neither the store nor what a record means; never holds a
//! verdict, so every request judges the record again.
//!
//! What must hold: once [`KeyCache::outdate`] has returned, no lookup that begins afterwards sees an older record, however
//! long a read that began before it may still take.

mod ended;
mod fences;
mod flight;
mod freshness;
mod shared;
mod weight;

pub use ended::{Ended, EndedKeys};
pub use freshness::{Freshness, OnDatabaseDown, Trust};
#[cfg(feature = "redis")]
pub use shared::RedisStorage;
pub use shared::{SharedCache, SharedEntry, SharedStorage};
pub use weight::weigh_metadata;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::ops::compute::Op;
use moka::sync::Cache;
use prometheus::{IntCounter, Opts};

use crate::id::{KeyId, TenantId};
use crate::key::ApiKey;
use flight::{Fence, Flights};
use weight::weigh;

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
    records: Cache<CacheKey, Held>,
    ttl: Duration,
    absent: Cache<CacheKey, ()>,
    flights: Flights<Result<Option<Arc<ApiKey>>, E>>,
    /// Raised by [`KeyCache::clear`]: what a read that began before brings is not kept.
    generation: AtomicU64,
    refusals: IntCounter,
}

/// A record, and since when it is held.
#[derive(Clone)]
struct Held {
    record: Arc<ApiKey>,
    since: Instant,
}

/// All that remembers keys on a node, and what that is worth.
pub struct Caches<E> {
    /// The cache in this process, if there is one.
    pub local: Option<Arc<KeyCache<E>>>,
    /// The cache that nodes share, if there is one.
    pub shared: Option<Arc<SharedCache>>,
    /// The keys whose tokens have ended with them.
    pub ended: Arc<EndedKeys>,
    /// Until when all changes are known.
    pub freshness: Arc<Freshness>,
}

/// What the cache knows of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// Its record.
    Record(Arc<ApiKey>),
    /// That there was no such key a moment ago.
    Absent,
}

impl<E> Caches<E> {
    /// Of a node that makes all changes itself.
    pub fn alone(local: Option<Arc<KeyCache<E>>>, ended: Arc<EndedKeys>) -> Self {
        Self { local, shared: None, ended, freshness: Arc::new(Freshness::alone(Instant::now())) }
    }
}

impl<E> Clone for Caches<E> {
    fn clone(&self) -> Self {
        Self {
            local: self.local.clone(),
            shared: self.shared.clone(),
            ended: Arc::clone(&self.ended),
            freshness: Arc::clone(&self.freshness),
        }
    }
}

impl Known {
    /// The record, if there is one.
    pub fn record(self) -> Option<Arc<ApiKey>> {
        match self {
            Self::Record(key) => Some(key),
            Self::Absent => None,
        }
    }
}

impl<E: Clone + Send + Sync + 'static> KeyCache<E> {
    /// A cache of at most `max_bytes` of records, each for at most `ttl`. At the cap the records used least go first.
    pub fn new(max_bytes: u64, ttl: Duration) -> Self {
        Self::with_stale(max_bytes, ttl, Duration::ZERO)
    }

    /// As [`KeyCache::new`]; a record whose time is over is held for `longer`, for [`KeyCache::get_stale`].
    pub fn with_stale(max_bytes: u64, ttl: Duration, longer: Duration) -> Self {
        let records = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, held: &Held| weigh(&held.record))
            .time_to_live(ttl.saturating_add(longer).min(HELD_MAX))
            .build();
        let absent = Cache::builder().max_capacity(ABSENT_MAX).time_to_live(ABSENT_TTL.min(ttl)).build();
        Self {
            records,
            ttl,
            absent,
            flights: Flights::default(),
            generation: AtomicU64::new(0),
            refusals: refusals("memory"),
        }
    }

    /// What is known without asking anybody.
    pub fn get(&self, key: &CacheKey) -> Option<Known> {
        match self.records.get(key) {
            Some(held) if held.since.elapsed() < self.ttl => Some(Known::Record(held.record)),
            _ => self.absent.contains_key(key).then_some(Known::Absent),
        }
    }

    /// The record that is held, also when its time is over.
    pub fn get_stale(&self, key: &CacheKey) -> Option<Arc<ApiKey>> {
        self.records.get(key).map(|held| held.record)
    }

    /// Asks `load` for the record and remembers the answer; callers that want the same key meanwhile share the answer.
    ///
    /// # Errors
    /// What `load` fails with; a failure is remembered nowhere.
    pub async fn fetch<F, L>(&self, key: CacheKey, load: L) -> Result<Option<Arc<ApiKey>>, E>
    where
        L: Fn() -> F + Send,
        F: Future<Output = Result<Option<Arc<ApiKey>>, E>> + Send,
    {
        let flight = self.flights.join(key);
        flight
            .result(async {
                loop {
                    // A fence that stands already is no concern of a read that begins now.
                    let (before, generation) = (flight.fence(), self.generation.load(Ordering::SeqCst));
                    let loaded = load().await?;
                    let version = loaded.as_ref().map(|record| record.version);
                    let kept = flight.undisturbed(|fence| {
                        let current = fence == before || fence.admits(version);
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
    pub fn forget(&self, key: CacheKey, last_version: u64) {
        self.flights.raise_fence(&key, Fence::deleted(last_version));
        self.drop_below(key, last_version + 1);
    }

    /// Takes over that a key changed and has this version now: what is older is dropped, and refused when a read that began before
    /// brings it. The new record itself is not taken: whoever made it may be late, and the key may have changed again.
    pub fn outdate(&self, key: CacheKey, version: u64) {
        self.flights.raise_fence(&key, Fence::changed(version));
        self.absent.invalidate(&key);
        self.drop_below(key, version);
    }

    /// Drops everything, and what reads under way bring: changes may have been missed.
    pub fn clear(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.flights.settle();
        self.records.invalidate_all();
        self.absent.invalidate_all();
    }

    /// Counts the records that came too late to be kept, for a registry of metrics.
    pub fn refusals(&self) -> IntCounter {
        self.refusals.clone()
    }

    /// How many records are held, about.
    pub fn len(&self) -> u64 {
        self.records.entry_count()
    }

    /// Whether no record is held, about.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn drop_below(&self, key: CacheKey, version: u64) {
        self.records.entry(key).and_compute_with(|held| match held {
            Some(held) if held.value().record.version < version => Op::Remove,
            _ => Op::Nop,
        });
    }

    fn remember(&self, key: CacheKey, record: Option<&Arc<ApiKey>>) {
        let Some(record) = record else {
            self.records.invalidate(&key);
            self.absent.insert(key, ());
            return;
        };
        self.records.entry(key).and_compute_with(|held| match held {
            Some(held) if held.value().record.version > record.version => Op::Nop,
            _ => Op::Put(Held { record: Arc::clone(record), since: Instant::now() }),
        });
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
