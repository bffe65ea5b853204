//! Protects the store from floods of unknown credentials.
//!
//! Only the store can tell that a credential of the imported form is unknown. Each client address has a guessing budget of
//! unsuccessful lookups. Above it, lookups from that address are batched: each waits about 50 ms and is then looked up with
//! others in one statement. So a flood costs the store a few statements per second, and a valid key from the same address still
//! passes.
//!
//! Cache hits, and issued keys with a valid checksum, are not throttled.

mod batcher;
mod metrics;

pub use batcher::Batcher;
pub use metrics::LookupThrottleMetrics;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::batcher::PendingLookup;
use crate::cache::CacheKey;
use crate::clock::Clock;
use crate::key::ApiKey;
use crate::ratelimit::AddressBudget;
use crate::store::{KeySource, StoreError};

/// The guessing budget of an address, and the bound on pending lookups.
#[derive(Debug, Clone, Copy)]
pub struct LookupThrottleSettings {
    /// The size of the budget: unsuccessful lookups that an address may cause at once.
    pub burst: u32,
    /// The unsuccessful lookups per second by which the budget is refilled.
    pub per_second: u32,
    /// The maximum number of pending lookups of all addresses. Further ones fail with [`StoreError::Busy`].
    pub waiting: usize,
}

/// Decides whether a lookup is made at once or in a batch.
pub struct LookupThrottle {
    budget: AddressBudget,
    pending: mpsc::Sender<PendingLookup>,
    metrics: LookupThrottleMetrics,
}

/// A throttle, and the batcher that makes its pending lookups in `store`. The caller runs the batcher.
pub fn lookup_throttle(
    settings: LookupThrottleSettings,
    store: Arc<dyn KeySource>,
    clock: Arc<dyn Clock>,
    metrics: &LookupThrottleMetrics,
) -> (LookupThrottle, Batcher) {
    let (pending, receiver) = mpsc::channel(settings.waiting.max(1));
    let budget = AddressBudget::new(settings.burst, settings.per_second, clock);
    (LookupThrottle { budget, pending, metrics: metrics.clone() }, Batcher::new(receiver, store, metrics.clone()))
}

impl LookupThrottle {
    /// Looks up a key in `store`, and charges the budget of `address` if it is unknown.
    ///
    /// # Errors
    /// The store's error, or [`StoreError::Busy`] if too many lookups are pending.
    pub(super) async fn find(
        &self,
        store: &dyn KeySource,
        key: CacheKey,
        address: IpAddr,
    ) -> Result<Option<ApiKey>, StoreError> {
        // The budget is charged before the lookup, so that concurrent lookups are all counted.
        if !self.budget.charge(address) {
            return self.find_in_batch(key).await;
        }
        self.metrics.count_single();
        let found = store.find(key.0, key.1).await;
        if !matches!(found, Ok(None)) {
            self.budget.refund(address);
        }
        found
    }

    async fn find_in_batch(&self, key: CacheKey) -> Result<Option<ApiKey>, StoreError> {
        let (reply, result) = oneshot::channel();
        if self.pending.try_send(PendingLookup { key, reply }).is_err() {
            self.metrics.count_rejected();
            return Err(StoreError::Busy);
        }
        self.metrics.count_batched();
        result.await.unwrap_or(Err(StoreError::Busy))
    }
}

#[cfg(test)]
mod tests;
