//! Where records come from: the cache in this process, then the store.

use std::sync::Arc;

use crate::cache::{CacheKey, KeyCache};
use crate::key::ApiKey;
use crate::store::{KeySource, StoreError};

/// The keys, read through a cache.
pub struct Directory {
    store: Arc<dyn KeySource>,
    cache: Option<Arc<KeyCache<StoreError>>>,
}

/// How the cache may take part in one lookup.
#[derive(Debug, Clone, Copy)]
pub struct CachePolicy {
    /// Whether an answer may come from it.
    pub read: bool,
    /// Whether the answer may be kept in it.
    pub write: bool,
}

/// What the cache did in one lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    /// It answered.
    Hit,
    /// It was asked and did not know.
    Miss,
    /// It was not asked.
    Skip,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self { read: true, write: true }
    }
}

impl Directory {
    /// A directory over `store`; without a cache every lookup asks the store.
    pub fn new(store: Arc<dyn KeySource>, cache: Option<Arc<KeyCache<StoreError>>>) -> Self {
        Self { store, cache }
    }

    /// The record of a key. Absence is an answer, failure is not.
    pub async fn find(
        &self,
        key: CacheKey,
        policy: CachePolicy,
    ) -> (Result<Option<Arc<ApiKey>>, StoreError>, CacheOutcome) {
        let Some(cache) = &self.cache else {
            return (self.load(key).await.map(|record| record.map(Arc::new)), CacheOutcome::Skip);
        };
        if policy.read
            && let Some(known) = cache.get(&key)
        {
            return (Ok(known.record()), CacheOutcome::Hit);
        }
        let outcome = if policy.read { CacheOutcome::Miss } else { CacheOutcome::Skip };
        let found = if policy.write {
            cache.fetch(key, || self.load(key)).await
        } else {
            self.load(key).await.map(|record| record.map(Arc::new))
        };
        (found, outcome)
    }

    async fn load(&self, (tenant, id): CacheKey) -> Result<Option<ApiKey>, StoreError> {
        self.store.find(tenant, id).await
    }
}
