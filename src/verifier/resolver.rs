//! Where records come from: the cache in this process, the cache that nodes share, the store; and what is done when the store
//! cannot be asked.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lookup_throttle::LookupThrottle;
use crate::cache::{CacheKey, Caches, ConnectionHint, KeyCache, SharedEntry, Trust};
use crate::key::{ApiKey, CachedKey};
use crate::store::{KeySource, StoreError};

/// How long a store that failed is left alone by a node that would have to ask it for every request.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long a request waits for the store when a record is held that may do.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// The keys, read through caches.
pub struct KeyResolver {
    store: Arc<dyn KeySource>,
    caches: Caches<StoreError>,
    throttle: Option<Arc<LookupThrottle>>,
}

/// How caches may take part in one lookup, and at whose expense the store is asked.
#[derive(Debug, Clone, Copy)]
pub struct CachePolicy {
    /// Whether an answer may come from them.
    pub read: bool,
    /// Whether the answer may be kept in them.
    pub write: bool,
    /// The client address that pays for a lookup of a credential of the imported shape, where lookups are guarded; nobody does
    /// when absent.
    pub charge: Option<IpAddr>,
}

/// What the caches did in one lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The one in this process answered.
    Hit,
    /// The one that nodes share answered.
    SharedHit,
    /// One of them answered because the store could not, with what may be outdated.
    StaleHit,
    /// They were asked and did not know.
    Miss,
    /// They were not asked.
    Skip,
}

type Found = Result<Option<Arc<CachedKey>>, StoreError>;

impl Default for CachePolicy {
    fn default() -> Self {
        Self { read: true, write: true, charge: None }
    }
}

impl CacheOutcome {
    /// Whether a cache answered.
    pub fn is_hit(self) -> bool {
        matches!(self, Self::Hit | Self::SharedHit | Self::StaleHit)
    }

    /// The name of who answered, in metric labels.
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
    /// A resolver over `store`, read through `caches`; without a local one every lookup asks the store.
    pub fn new(store: Arc<dyn KeySource>, caches: Caches<StoreError>) -> Self {
        Self { store, caches, throttle: None }
    }

    /// Asks the store by way of `throttle` where an address pays for it.
    #[must_use]
    pub fn throttled(self, throttle: Arc<LookupThrottle>) -> Self {
        Self { throttle: Some(throttle), ..self }
    }

    /// What is worth what this node has heard of.
    pub fn trust(&self) -> Trust {
        self.caches.freshness.trust(Instant::now)
    }

    /// The record of a key. Absence is an answer, failure is not.
    pub async fn find(&self, key: CacheKey, policy: CachePolicy) -> (Found, CacheOutcome) {
        let Some(cache) = &self.caches.local else {
            return (self.load(key, policy.charge).await, CacheOutcome::Skip);
        };
        if !policy.read {
            let found = keep(cache, key, policy, async || self.load(key, policy.charge).await).await;
            return (found, CacheOutcome::Skip);
        }
        match self.trust() {
            Trust::Fresh => self.find_fresh(cache, key, policy).await,
            trust => self.find_unconfirmed(cache, key, policy, trust).await,
        }
    }

    /// As [`KeyResolver::find`], for somebody who may have found it a moment ago and remembers `hint` of that, at `now`.
    pub async fn find_again(
        &self,
        key: CacheKey,
        policy: CachePolicy,
        hint: &mut Option<ConnectionHint>,
        now: Instant,
    ) -> (Found, CacheOutcome) {
        if policy.read
            && let Some(cache) = &self.caches.local
            && self.caches.freshness.trust(|| now) == Trust::Fresh
        {
            if let Some(record) = hint.as_ref().and_then(|hint| cache.get_by_hint(&key, hint, now)) {
                return (Ok(Some(record)), CacheOutcome::Hit);
            }
            if let Some((record, now_seen)) = cache.get_with_hint(&key, now) {
                *hint = Some(now_seen);
                return (Ok(Some(record)), CacheOutcome::Hit);
            }
        }
        self.find(key, policy).await
    }

    async fn find_fresh(
        &self,
        cache: &KeyCache<StoreError>,
        key: CacheKey,
        policy: CachePolicy,
    ) -> (Found, CacheOutcome) {
        if let Some(known) = cache.get(&key) {
            return (Ok(known.record()), CacheOutcome::Hit);
        }
        // Its time is over, but it is true: this node has heard of all changes.
        let held = if self.caches.freshness.serves_stale() { cache.get_stale(&key) } else { None };
        // Of a key that was good it is only to be hint that it still is.
        let charge = policy.charge.filter(|_| held.is_none());
        let shared_hit = AtomicBool::new(false);
        let load = async || {
            if let Some(shared) = &self.caches.shared {
                // A second reading comes from the store: the first one was outdated.
                if !shared_hit.load(Ordering::Relaxed)
                    && let Some(entry) = shared.get(key).await
                {
                    shared_hit.store(true, Ordering::Relaxed);
                    return Ok(entry.record().map(judged));
                }
                shared_hit.store(false, Ordering::Relaxed);
            }
            self.load_within(key, charge, limit(held.is_some())).await
        };
        match (keep(cache, key, policy, load).await, held) {
            (Err(StoreError::Unavailable(_) | StoreError::Timeout), Some(held)) => {
                (Ok(Some(held)), CacheOutcome::StaleHit)
            }
            (found, _) if shared_hit.into_inner() => (found, CacheOutcome::SharedHit),
            (found, _) => (found, CacheOutcome::Miss),
        }
    }

    /// Asks the store, as it alone knows; when it cannot tell, what is cached may do.
    async fn find_unconfirmed(
        &self,
        cache: &KeyCache<StoreError>,
        key: CacheKey,
        policy: CachePolicy,
        trust: Trust,
    ) -> (Found, CacheOutcome) {
        let mut failure = StoreError::Unavailable("it failed a moment ago".into());
        let freshness = &self.caches.freshness;
        if freshness.may_query_database(Instant::now(), STORE_PAUSE) {
            let known = cache.get_stale(&key).is_some();
            let (charge, limit) = (policy.charge.filter(|_| !known), limit(trust == Trust::Unconfirmed && known));
            match keep(cache, key, policy, async || self.load_within(key, charge, limit).await).await {
                // The database was not asked.
                Err(StoreError::Busy) => return (Err(StoreError::Busy), CacheOutcome::Miss),
                Err(error @ (StoreError::Unavailable(_) | StoreError::Timeout)) => {
                    freshness.database_failed(Instant::now(), STORE_PAUSE);
                    failure = error;
                }
                found => {
                    freshness.database_answered();
                    return (found, CacheOutcome::Miss);
                }
            }
        }
        if trust == Trust::Unconfirmed
            && let Some(record) = self.stale(cache, key).await
        {
            return (Ok(record), CacheOutcome::StaleHit);
        }
        (Err(failure), CacheOutcome::Miss)
    }

    /// The newest that any cache knows: a node that the store still answers may have told the others. That there was no such key
    /// a moment ago is not known of now.
    async fn stale(&self, cache: &KeyCache<StoreError>, key: CacheKey) -> Option<Option<Arc<CachedKey>>> {
        let local = cache.get_stale(&key);
        let shared = match &self.caches.shared {
            Some(shared) => shared.get(key).await,
            None => None,
        };
        match (local, shared) {
            (Some(local), shared) if shared.as_ref().is_none_or(|shared| local.version() >= shared.version()) => {
                Some(Some(local))
            }
            (_, shared) => Some(shared?.record().map(judged)),
        }
    }

    async fn load_within(&self, key: CacheKey, charge: Option<IpAddr>, limit: Duration) -> Found {
        tokio::time::timeout(limit, self.load(key, charge)).await.unwrap_or(Err(StoreError::Timeout))
    }

    async fn load(&self, key: CacheKey, charge: Option<IpAddr>) -> Found {
        let begun = Instant::now();
        let found = match (&self.throttle, charge) {
            (Some(throttle), Some(address)) => throttle.find(&*self.store, key, address).await?,
            _ => self.store.find(key.0, key.1).await?,
        };
        let found = found.map(Arc::new);
        if let (Some(shared), Some(record)) = (&self.caches.shared, &found) {
            shared.put(key, &SharedEntry::Key(Arc::clone(record)), begun).await;
        }
        Ok(found.map(judged))
    }
}

/// What judging needs of a key.
fn judged(key: impl AsRef<ApiKey>) -> Arc<CachedKey> {
    Arc::new(CachedKey::from(key.as_ref()))
}

/// How long to wait for the store.
fn limit(has_record: bool) -> Duration {
    if has_record { STALE_AFTER } else { Duration::MAX }
}

/// Loads a record, and keeps it if that is allowed.
async fn keep<F>(
    cache: &KeyCache<StoreError>,
    key: CacheKey,
    policy: CachePolicy,
    load: impl Fn() -> F + Send + Sync,
) -> Found
where
    F: Future<Output = Found> + Send,
{
    match if policy.write { cache.fetch(key, &load).await } else { load().await } {
        // It may have been the lookup of another address.
        Err(StoreError::Busy) => load().await,
        found => found,
    }
}
