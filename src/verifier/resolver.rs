//! Resolves keys to records: through the cache in this process, the shared cache and the store, and with stale records while the store
//! is unavailable.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lookup_throttle::LookupThrottle;
use crate::cache::{CacheEntry, CacheKey, Caches, ConnectionHint, KeyCache, Loaded, SharedEntry, Source, Trust};
use crate::key::{ApiKey, CachedKey};
use crate::store::{KeySource, StoreError};

/// How long a store that failed is not tried again by a node that would need it for every request.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long a request waits for the store when a stale record can be used instead.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Resolves keys through the caches of a node.
pub struct KeyResolver {
    store: Arc<dyn KeySource>,
    caches: Caches<StoreError>,
    throttle: Option<Arc<LookupThrottle>>,
}

/// How the caches take part in a lookup.
#[derive(Debug, Clone, Copy)]
pub struct CachePolicy {
    /// Whether the result may come from a cache.
    pub read: bool,
    /// Whether the result may be cached.
    pub write: bool,
}

/// A request for the record of a key.
#[derive(Debug)]
pub struct Lookup<'a> {
    /// Which key.
    pub key: CacheKey,
    /// How the caches take part.
    pub policy: CachePolicy,
    /// The client address whose lookup budget is charged, where lookups are throttled; none is charged when absent.
    pub charge: Option<IpAddr>,
    /// What the connection keeps of the last record that was found for it. Replaced when another record is found.
    pub hint: Option<&'a mut Option<ConnectionHint>>,
    /// The time at which cached records must be fresh: now, or when the request arrived.
    pub now: Instant,
}

/// What the caches did in one lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The result came from the cache in this process.
    Hit,
    /// The result came from the shared cache.
    SharedHit,
    /// The store was unavailable, and the result, which may be outdated, came from a cache.
    StaleHit,
    /// No cache had the key.
    Miss,
    /// No cache was read.
    Skip,
}

/// Why the cache in this process does not have the result of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncached {
    /// There is no cache.
    NoCache,
    /// The policy does not let the result come from a cache.
    NotRead,
    /// The cache does not have the key.
    Missing,
    /// What the cache has must be confirmed, because changes may be missing.
    Unconfirmed(Trust),
}

/// A record, or `None` for an absent key.
type LookupResult = Result<Option<Arc<CachedKey>>, StoreError>;

impl Default for CachePolicy {
    fn default() -> Self {
        Self { read: true, write: true }
    }
}

impl Lookup<'_> {
    /// A lookup through all caches that charges no address.
    pub fn new(key: CacheKey, now: Instant) -> Self {
        Self { key, policy: CachePolicy::default(), charge: None, hint: None, now }
    }

    /// What is cached and not stale at `now`, found by the hint if it holds.
    fn cached(&mut self, cache: &KeyCache<StoreError>) -> Option<CacheEntry> {
        let Some(hint) = &mut self.hint else {
            return cache.get_at(&self.key, self.now);
        };
        if let Some(record) = hint.as_ref().and_then(|hint| cache.get_by_hint(&self.key, hint, self.now)) {
            return Some(CacheEntry::Key(record));
        }
        let Some((record, new_hint)) = cache.get_with_hint(&self.key, self.now) else {
            return cache.is_absent(&self.key, self.now).then_some(CacheEntry::Absent);
        };
        **hint = Some(new_hint);
        Some(CacheEntry::Key(record))
    }
}

impl CacheOutcome {
    /// Whether the result came from a cache.
    pub fn is_hit(self) -> bool {
        matches!(self, Self::Hit | Self::SharedHit | Self::StaleHit)
    }

    /// Where the result came from, in metric labels.
    pub fn level(self) -> &'static str {
        match self {
            Self::Hit => "memory",
            Self::SharedHit => "shared",
            Self::StaleHit => "stale",
            Self::Miss => "database",
            Self::Skip => "none",
        }
    }
}

impl KeyResolver {
    /// Reads `store` through `caches`. Without a local cache every lookup reads the store.
    pub fn new(store: Arc<dyn KeySource>, caches: Caches<StoreError>) -> Self {
        Self { store, caches, throttle: None }
    }

    /// Reads the store through `throttle` where a lookup charges an address.
    #[must_use]
    pub fn throttled(self, throttle: Arc<LookupThrottle>) -> Self {
        Self { throttle: Some(throttle), ..self }
    }

    /// How far cached records can be trusted now.
    pub fn trust(&self) -> Trust {
        self.caches.freshness.trust(Instant::now)
    }

    /// The record of a key, or `None` if there is no such key. A hit in the cache of this process neither suspends nor allocates.
    pub async fn find(&self, mut lookup: Lookup<'_>) -> (LookupResult, CacheOutcome) {
        match self.find_now(&mut lookup) {
            Ok(found) => found,
            Err(uncached) => self.find_later(lookup, uncached).await,
        }
    }

    /// The result of a lookup that the cache in this process has.
    ///
    /// # Errors
    /// What [`KeyResolver::find_later`] needs to know.
    pub fn find_now(&self, lookup: &mut Lookup<'_>) -> Result<(LookupResult, CacheOutcome), Uncached> {
        let Some(cache) = &self.caches.local else {
            return Err(Uncached::NoCache);
        };
        if !lookup.policy.read {
            return Err(Uncached::NotRead);
        }
        match self.caches.freshness.trust(|| lookup.now) {
            Trust::Fresh => match lookup.cached(cache) {
                Some(entry) => Ok((Ok(entry.record()), CacheOutcome::Hit)),
                None => Err(Uncached::Missing),
            },
            trust => Err(Uncached::Unconfirmed(trust)),
        }
    }

    /// The result of a lookup that [`KeyResolver::find_now`] could not answer: from the shared cache or the store.
    pub async fn find_later(&self, lookup: Lookup<'_>, uncached: Uncached) -> (LookupResult, CacheOutcome) {
        let Some(cache) = &self.caches.local else {
            return (self.load(lookup.key, lookup.charge).await, CacheOutcome::Skip);
        };
        match uncached {
            Uncached::NoCache | Uncached::NotRead => {
                let load = async |_| self.load(lookup.key, lookup.charge).await.map(from_store);
                (fetch(cache, &lookup, load).await.map(|loaded| loaded.record), CacheOutcome::Skip)
            }
            Uncached::Missing => self.find_missing(cache, &lookup).await,
            Uncached::Unconfirmed(trust) => self.find_unconfirmed(cache, &lookup, trust).await,
        }
    }

    /// The record that the cache in this process has, however old. Its status may be outdated.
    pub fn any_cached(&self, key: &CacheKey) -> Option<Arc<CachedKey>> {
        self.caches.local.as_ref()?.get_stale(key)
    }

    /// Reads the shared cache and the store, while cached records are fresh.
    async fn find_missing(&self, cache: &KeyCache<StoreError>, lookup: &Lookup<'_>) -> (LookupResult, CacheOutcome) {
        let key = lookup.key;
        // It is older than the TTL but not outdated: all changes were applied.
        let stale = if self.caches.freshness.serves_stale() { cache.get_stale(&key) } else { None };
        // A lookup of a key that was found before is no guess.
        let charge = lookup.charge.filter(|_| stale.is_none());
        let load = async |refused| {
            // A read that ended between the lookup and the start of this one has stored its result.
            if refused == 0
                && let Some(entry) = cache.get_at(&key, lookup.now)
            {
                return Ok(Loaded { record: entry.record(), source: Source::Local });
            }
            // A refused result may have come from the shared cache, so that the next one comes from the store.
            if refused == 0
                && let Some(shared) = &self.caches.shared
                && let Some(entry) = shared.get(key).await
            {
                return Ok(Loaded { record: entry.record().map(cached_key), source: Source::Shared });
            }
            self.load_within(key, charge, store_timeout(stale.is_some())).await.map(from_store)
        };
        match (fetch(cache, lookup, load).await, stale) {
            (Err(StoreError::Unavailable(_) | StoreError::Timeout), Some(stale)) => {
                (Ok(Some(stale)), CacheOutcome::StaleHit)
            }
            (Ok(Loaded { record, source: Source::Local }), _) => (Ok(record), CacheOutcome::Hit),
            (Ok(Loaded { record, source: Source::Shared }), _) => (Ok(record), CacheOutcome::SharedHit),
            (loaded, _) => (loaded.map(|loaded| loaded.record), CacheOutcome::Miss),
        }
    }

    /// Reads the store, because changes may be missing here. While it is unavailable a cached record may be used.
    async fn find_unconfirmed(
        &self,
        cache: &KeyCache<StoreError>,
        lookup: &Lookup<'_>,
        trust: Trust,
    ) -> (LookupResult, CacheOutcome) {
        let key = lookup.key;
        let mut failure = StoreError::Unavailable("it failed a moment ago".into());
        let freshness = &self.caches.freshness;
        if freshness.may_query_database(Instant::now(), STORE_PAUSE) {
            let is_cached = cache.get_stale(&key).is_some();
            let charge = lookup.charge.filter(|_| !is_cached);
            let timeout = store_timeout(trust == Trust::Unconfirmed && is_cached);
            let load = async |_| self.load_within(key, charge, timeout).await.map(from_store);
            match fetch(cache, lookup, load).await {
                // The throttle refused the lookup; the store was not read.
                Err(StoreError::Busy) => return (Err(StoreError::Busy), CacheOutcome::Miss),
                Err(error @ (StoreError::Unavailable(_) | StoreError::Timeout)) => {
                    freshness.database_failed(Instant::now(), STORE_PAUSE);
                    failure = error;
                }
                loaded => {
                    freshness.database_answered();
                    return (loaded.map(|loaded| loaded.record), CacheOutcome::Miss);
                }
            }
        }
        if trust == Trust::Unconfirmed
            && let Some(record) = self.newest_cached(cache, key).await
        {
            return (Ok(record), CacheOutcome::StaleHit);
        }
        (Err(failure), CacheOutcome::Miss)
    }

    /// The newest record in any cache: a node that still reaches the store may have written it to the shared one. The negative cache is
    /// not used, since the key may have been created meanwhile.
    async fn newest_cached(&self, cache: &KeyCache<StoreError>, key: CacheKey) -> Option<Option<Arc<CachedKey>>> {
        let local = cache.get_stale(&key);
        let shared = match &self.caches.shared {
            Some(shared) => shared.get(key).await,
            None => None,
        };
        match (local, shared) {
            (Some(local), shared) if shared.as_ref().is_none_or(|shared| local.version() >= shared.version()) => {
                Some(Some(local))
            }
            (_, shared) => Some(shared?.record().map(cached_key)),
        }
    }

    async fn load_within(&self, key: CacheKey, charge: Option<IpAddr>, timeout: Duration) -> LookupResult {
        tokio::time::timeout(timeout, self.load(key, charge)).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// Reads the store, and writes the record to the shared cache.
    async fn load(&self, key: CacheKey, charge: Option<IpAddr>) -> LookupResult {
        let start = Instant::now();
        let record = match (&self.throttle, charge) {
            (Some(throttle), Some(address)) => throttle.find(&*self.store, key, address).await?,
            _ => self.store.find(key.0, key.1).await?,
        };
        let record = record.map(Arc::new);
        if let (Some(shared), Some(record)) = (&self.caches.shared, &record) {
            shared.put(key, &SharedEntry::Key(Arc::clone(record)), start).await;
        }
        Ok(record.map(cached_key))
    }
}

fn cached_key(key: impl AsRef<ApiKey>) -> Arc<CachedKey> {
    Arc::new(CachedKey::from(key.as_ref()))
}

fn from_store(record: Option<Arc<CachedKey>>) -> Loaded {
    Loaded { record, source: Source::Store }
}

/// How long to wait for the store.
fn store_timeout(has_record: bool) -> Duration {
    if has_record { STALE_AFTER } else { Duration::MAX }
}

/// Loads a record, through the cache if the policy lets the result be cached. `load` gets the number of results that were refused.
async fn fetch<F>(
    cache: &KeyCache<StoreError>,
    lookup: &Lookup<'_>,
    load: impl Fn(u32) -> F + Send + Sync,
) -> Result<Loaded, StoreError>
where
    F: Future<Output = Result<Loaded, StoreError>> + Send,
{
    match if lookup.policy.write { cache.fetch(lookup.key, &load).await } else { load(0).await } {
        // The shared lookup may have charged another address.
        Err(StoreError::Busy) => load(0).await,
        loaded => loaded,
    }
}
