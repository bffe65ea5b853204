//! Leases: parts of the shared buckets that this node has charged in advance and spends locally.
//!
//! Leased requests are already charged in the store. So in any span of time all nodes together admit at most the quota, what is
//! replenished during the span, and the leases held at its beginning, one for each node. All leases of a bucket together are at
//! most a tenth of its quota. A key that is used on only one node gets its whole quota: if the bucket has less than a full
//! lease, what is left is leased.
//!
//! A lease starts at size zero, so that every request is charged in the store. Its size doubles when it is refilled soon after the
//! last refill, and halves when that was long ago. Idle leases are released.

mod leases;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::leases::{Leases, Unused};
use super::bucket_store::refund_charge;
use super::{
    Backend, BucketOwner, BucketStore, Charge, ChargeRequest, Decision, Micros, NamedLimit, Nodes, Unavailable,
};
use crate::clock::Clock;

/// Refills that can be queued. When the queue is full, the next request that needs a lease refills it.
const QUEUE: usize = 4096;
/// Concurrent background tasks.
const TASKS_MAX: usize = 64;
/// The time between two searches for idle leases.
const IDLE_CHECK_EVERY: Duration = Duration::from_millis(500);

/// Spends leases of the buckets in a [`BucketStore`].
pub struct Leased {
    store: Arc<dyn BucketStore>,
    clock: Arc<dyn Clock>,
    nodes: Arc<Nodes>,
    leases: Leases,
    queue: mpsc::Sender<Refill>,
}

/// Refills leases in the background, and releases idle ones.
pub struct LeaseWorker {
    leased: Arc<Leased>,
    queue: mpsc::Receiver<Refill>,
}

/// Leases of an owner that will soon be used up.
struct Refill {
    owner: BucketOwner,
    limits: Vec<NamedLimit>,
}

impl Leased {
    /// Holds leases of `owners_max` owners, rounded up to a multiple of the number of shards. Requests of further owners are
    /// charged in the store. The caller runs the worker. Without it, requests refill the leases, and idle leases are not released.
    pub fn new(
        store: Arc<dyn BucketStore>,
        clock: Arc<dyn Clock>,
        nodes: Arc<Nodes>,
        owners_max: usize,
    ) -> (Arc<Self>, LeaseWorker) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let leased = Arc::new(Self { store, clock, nodes, leases: Leases::new(owners_max), queue: sender });
        (Arc::clone(&leased), LeaseWorker { leased, queue })
    }

    /// Releases all leases, before the process stops. If a release fails, the buckets refill with time.
    pub async fn release_all(&self) {
        self.release(self.leases.take_all()).await;
    }

    fn now(&self) -> Micros {
        Micros::of(self.clock.now())
    }

    /// Decides from the leases; `None` if the store must decide.
    fn spend(&self, charge: &Charge<'_>) -> Option<Decision> {
        let (decision, is_low) = self.leases.spend(charge, self.now(), self.nodes.count())?;
        if is_low {
            let refill = Refill { owner: charge.owner, limits: charge.limits.to_vec() };
            if self.queue.try_send(refill).is_err() {
                self.leases.end_refill(charge.owner);
            }
        }
        Some(decision)
    }

    /// Charges a request in the store and refills the leases with it. The caller holds the owner's refill lock.
    async fn charge_and_refill(&self, charge: &Charge<'_>) -> Result<Decision, Unavailable> {
        let lease_bits = self.leases.lease_bits(charge, self.now(), self.nodes.count());
        let request = ChargeRequest { charge, lease_bits: &lease_bits };
        let response = self.store.charge(&request).await?;
        Ok(self.leases.apply(&request, response, self.now()))
    }

    async fn refill(&self, refill: Refill) {
        let charge = Charge { owner: refill.owner, limits: &refill.limits, cost: 0 };
        if let Some(refill_lock) = self.leases.refill_lock(refill.owner)
            // If the lock is taken, a request refills the leases already.
            && let Ok(_guard) = refill_lock.try_lock()
        {
            // On failure, the next request that needs a lease reports the error.
            let _ = self.charge_and_refill(&charge).await;
        }
        self.leases.end_refill(refill.owner);
    }

    async fn release(&self, unused: Unused) {
        for (owner, unused) in unused {
            if let Err(error) = self.store.refund(owner, &unused).await {
                tracing::debug!(%error, "a lease could not be released");
            }
        }
    }
}

#[async_trait]
impl Backend for Leased {
    async fn charge(&self, charge: &Charge<'_>) -> Result<Decision, Unavailable> {
        if let Some(decision) = self.spend(charge) {
            return Ok(decision);
        }
        let Some(refill_lock) = self.leases.refill_lock(charge.owner) else {
            return Ok(self.store.charge(&ChargeRequest::without_leases(charge)).await?.decision);
        };
        let _guard = refill_lock.lock().await;
        // The previous holder of the lock may have leased enough.
        match self.spend(charge) {
            Some(decision) => Ok(decision),
            None => self.charge_and_refill(charge).await,
        }
    }

    async fn refund(&self, charge: &Charge<'_>) {
        // Spent leases are charged in the store.
        refund_charge(&*self.store, charge).await;
    }
}

impl LeaseWorker {
    /// Runs for as long as it is polled.
    pub async fn run(mut self) {
        let mut idle_check = tokio::time::interval(IDLE_CHECK_EVERY);
        idle_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tasks = JoinSet::new();
        loop {
            let leased = Arc::clone(&self.leased);
            tokio::select! {
                Some(refill) = self.queue.recv(), if tasks.len() < TASKS_MAX => {
                    tasks.spawn(async move { leased.refill(refill).await });
                }
                _ = idle_check.tick() => {
                    let idle = leased.leases.take_idle(leased.now());
                    if !idle.is_empty() {
                        tasks.spawn(async move { leased.release(idle).await });
                    }
                }
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
