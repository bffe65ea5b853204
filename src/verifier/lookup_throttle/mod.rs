//! Keeps floods of unknown credentials away from the store. A credential of the imported shape is known to be garbage only when
//! the store has said so. Each client address may cause some such lookups in vain; beyond that, its lookups wait for a moment
//! and are made together with others. So a flood costs the store a few statements a second, and whoever has a good key at the
//! same address is served, a moment later than others.
//!
//! What a cache knows, and keys that their checksum vouches for, never come here.

mod batcher;
mod budget;
mod metrics;

pub use batcher::Batcher;
pub use metrics::LookupThrottleMetrics;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::batcher::PendingLookup;
use self::budget::Budget;
use crate::cache::CacheKey;
use crate::clock::Clock;
use crate::key::ApiKey;
use crate::store::{KeySource, StoreError};

/// What an address may cause, and how many lookups may wait.
#[derive(Debug, Clone, Copy)]
pub struct LookupThrottleSettings {
    /// Lookups in vain that an address may cause at once.
    pub burst: u32,
    /// How many of them it may cause again each second.
    pub per_second: u32,
    /// Lookups that may wait to be made together, of all addresses; what comes beyond is refused.
    pub waiting: usize,
}

/// Decides whether a lookup is made at once or together with others.
pub struct LookupThrottle {
    budget: Budget,
    queue: mpsc::Sender<PendingLookup>,
    metrics: LookupThrottleMetrics,
}

/// A throttle, and what makes the lookups that wait at it; `store` is where both look.
pub fn lookup_throttle(
    settings: LookupThrottleSettings,
    store: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    metrics: &LookupThrottleMetrics,
) -> (LookupThrottle, Batcher) {
    let (queue, asked) = mpsc::channel(settings.waiting.max(1));
    let budget = Budget::new(settings.burst, settings.per_second, clock);
    (LookupThrottle { budget, queue, metrics: metrics.clone() }, Batcher::new(asked, store, metrics.clone()))
}

impl LookupThrottle {
    /// Looks a key up in `store`, at the expense of an address.
    ///
    /// # Errors
    /// What the store fails with, or [`StoreError::Busy`] when too many lookups wait already.
    pub(super) async fn find(
        &self,
        store: &dyn KeySource,
        key: CacheKey,
        address: IpAddr,
    ) -> Result<Option<ApiKey>, StoreError> {
        // Charged before the answer is there, so that a thousand lookups at once are a thousand lookups.
        if !self.budget.charge(address) {
            return self.find_with_others(key).await;
        }
        self.metrics.alone();
        let found = store.find(key.0, key.1).await;
        if !matches!(found, Ok(None)) {
            self.budget.refund(address);
        }
        found
    }

    async fn find_with_others(&self, key: CacheKey) -> Result<Option<ApiKey>, StoreError> {
        let (answer, answered) = oneshot::channel();
        if self.queue.try_send(PendingLookup { key, answer }).is_err() {
            self.metrics.refused();
            return Err(StoreError::Busy);
        }
        self.metrics.together();
        answered.await.unwrap_or(Err(StoreError::Busy))
    }
}

#[cfg(test)]
mod tests;
