//! Leases of the shared buckets, leased by this node and spent without asking.
//!
//! What a node holds has been charged in the ledger. So in any span of time all nodes together admit at most the quota, what
//! the length of the span adds to it, and what they held when it began: one slice for each node. All slices of a bucket
//! together are at most a tenth of its quota, and a key that only one node sees gets its whole quota: where a slice is no
//! longer to be had, as much is leased as there is.
//!
//! Leases begin at nothing, which is to ask about every request. They double while a key asks again soon, and shrink while it
//! does not. What lies idle goes back.

mod leases;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::leases::Leases;
use super::ledger::give_back_request;
use super::{Backend, BucketOwner, Charge, ChargeRequest, Decision, Ledger, Micros, NamedLimit, Nodes, Unavailable};
use crate::clock::Clock;

/// Leases that may wait to be leased in the background; beyond, a request that needs one leases it.
const QUEUE: usize = 4096;
/// Leases that are leased in the background at the same time.
const UNDER_WAY: usize = 64;
/// Between two looks for what lies idle.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Spends slices of the ledger's buckets.
pub struct Leased {
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    nodes: Arc<Nodes>,
    leases: Leases,
    queue: mpsc::Sender<Refill>,
}

/// Leases in the background, and gives back what lies idle.
pub struct Leasing {
    leased: Arc<Leased>,
    queue: mpsc::Receiver<Refill>,
}

/// Leases that are about to be used up.
struct Refill {
    owner: BucketOwner,
    limits: Vec<NamedLimit>,
}

impl Leased {
    /// Leases of at most `owners_max` owners, or a few more; about requests of others the ledger is asked. The second part is
    /// to be run beside; without it requests lease by themselves, and nothing is given back.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Arc<dyn Clock>,
        nodes: Arc<Nodes>,
        owners_max: usize,
    ) -> (Arc<Self>, Leasing) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let leased = Arc::new(Self { ledger, clock, nodes, leases: Leases::new(owners_max), queue: sender });
        (Arc::clone(&leased), Leasing { leased, queue })
    }

    /// Gives back all that is not used; before the process stops. What cannot be given back comes back with time.
    pub async fn give_back_all(&self) {
        self.give_back(self.leases.take_all()).await;
    }

    fn now(&self) -> Micros {
        Micros::of(self.clock.now())
    }

    /// Decides without asking, if that can be done.
    fn spend(&self, request: &Charge<'_>) -> Option<Decision> {
        let (decision, is_low) = self.leases.spend(request, self.now(), self.nodes.count())?;
        if is_low {
            let refill = Refill { owner: request.owner, limits: request.limits.to_vec() };
            if self.queue.try_send(refill).is_err() {
                self.leases.refilled(request.owner);
            }
        }
        Some(decision)
    }

    /// Has the request charged in the ledger, and leases what is to come. The caller has the owner's turn.
    async fn lease(&self, request: &Charge<'_>) -> Result<Decision, Unavailable> {
        let extra_bits = self.leases.wanted(request, self.now(), self.nodes.count());
        let order = ChargeRequest { request, extra_bits: &extra_bits };
        let receipt = self.ledger.charge(&order).await?;
        Ok(self.leases.record(&order, receipt, self.now()))
    }

    async fn refill(&self, refill: Refill) {
        let request = Charge { owner: refill.owner, limits: &refill.limits, cost: 0 };
        if let Some(turn) = self.leases.turn(refill.owner)
            // Whoever has the turn leases already.
            && let Ok(_turn) = turn.try_lock()
        {
            // If it fails, the request that needs a slice will say so.
            let _ = self.lease(&request).await;
        }
        self.leases.refilled(refill.owner);
    }

    async fn give_back(&self, unused: Vec<(BucketOwner, Vec<(NamedLimit, u64)>)>) {
        for (owner, unused) in unused {
            if let Err(error) = self.ledger.give_back(owner, &unused).await {
                tracing::debug!(%error, "unused requests are not given back");
            }
        }
    }
}

#[async_trait]
impl Backend for Leased {
    async fn charge(&self, request: &Charge<'_>) -> Result<Decision, Unavailable> {
        if let Some(decision) = self.spend(request) {
            return Ok(decision);
        }
        let Some(turn) = self.leases.turn(request.owner) else {
            return Ok(self.ledger.charge(&ChargeRequest { request, extra_bits: &[] }).await?.decision);
        };
        let _turn = turn.lock().await;
        // Whoever had the turn before may have leased enough.
        match self.spend(request) {
            Some(decision) => Ok(decision),
            None => self.lease(request).await,
        }
    }

    async fn refund(&self, request: &Charge<'_>) {
        // What a slice was spent on is charged in the ledger.
        give_back_request(&*self.ledger, request).await;
    }
}

impl Leasing {
    /// Works for as long as it is polled.
    pub async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = JoinSet::new();
        loop {
            let leased = Arc::clone(&self.leased);
            tokio::select! {
                Some(refill) = self.queue.recv(), if under_way.len() < UNDER_WAY => {
                    under_way.spawn(async move { leased.refill(refill).await });
                }
                _ = look.tick() => {
                    let idle = leased.leases.take_idle(leased.now());
                    if !idle.is_empty() {
                        under_way.spawn(async move { leased.give_back(idle).await });
                    }
                }
                Some(_) = under_way.join_next(), if !under_way.is_empty() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
