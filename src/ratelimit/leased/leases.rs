//! The leases that this node holds.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use crate::ratelimit::gcra::Tat;
use crate::ratelimit::{
    BucketOwner, Charge, ChargeRequest, ChargeResponse, Decision, Limit, Micros, NamedLimit, Outcome,
};
use crate::sharded::Sharded;

/// All leases of a bucket together are at most one part in this many of its quota.
const LEASED_PART: u64 = 10;
/// A lease that is used up sooner grows; one that lasts longer shrinks.
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(500);
/// A lease that was not used for this long is released.
const IDLE: Duration = Duration::from_secs(1);

/// Unused requests: for each owner, their number for each limit.
pub(super) type Unused = Vec<(BucketOwner, Vec<(NamedLimit, u64)>)>;

/// The leases of a bounded number of owners.
pub(super) struct Leases {
    shards: Sharded<Shard>,
    /// The maximum number of owners in a shard.
    max: usize,
}

type Shard = HashMap<BucketOwner, OwnerLeases>;

/// The leases of one owner.
#[derive(Default)]
struct OwnerLeases {
    /// Held while the leases are refilled, so that concurrent requests refill them once.
    refill_lock: Arc<tokio::sync::Mutex<()>>,
    leases: Vec<Lease>,
    last_used: Micros,
    /// Whether a refill is queued or running in the background.
    is_refilling: bool,
}

struct Lease {
    named: NamedLimit,
    /// Requests that are charged in the store and not yet spent.
    available: u64,
    /// A full lease is 2^bits - 1 requests.
    bits: u8,
    /// The bucket as last known, with the available requests refunded.
    bucket: Tat,
    refilled_at: Micros,
    exhausted: Option<Exhausted>,
}

/// The bucket does not hold `cost` requests until `until`.
#[derive(Clone, Copy)]
struct Exhausted {
    cost: u64,
    since: Micros,
    until: Micros,
}

impl Leases {
    /// Leases of `owners_max` owners, rounded up to a multiple of the number of shards.
    pub(super) fn new(owners_max: usize) -> Self {
        let shards = Sharded::<Shard>::default();
        Self { max: owners_max.div_ceil(shards.count()), shards }
    }

    /// The lock for refilling an owner's leases; `None` for a new owner at the cap.
    pub(super) fn refill_lock(&self, owner: BucketOwner) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let mut shard = self.shard(&owner);
        if shard.len() >= self.max && !shard.contains_key(&owner) {
            return None;
        }
        Some(Arc::clone(&shard.entry(owner).or_default().refill_lock))
    }

    /// Decides from the leases and what is known of the buckets, if possible. The flag tells whether to refill the leases soon.
    pub(super) fn spend(&self, charge: &Charge<'_>, now: Micros, nodes: u32) -> Option<(Decision, bool)> {
        let mut shard = self.shard(&charge.owner);
        shard.get_mut(&charge.owner)?.spend(charge, now, nodes)
    }

    /// For each bucket of a charge, the size in bits of the lease to take with it.
    pub(super) fn lease_bits(&self, charge: &Charge<'_>, now: Micros, nodes: u32) -> Vec<u8> {
        let mut shard = self.shard(&charge.owner);
        let Some(leases) = shard.get_mut(&charge.owner) else { return Vec::new() };
        charge.limits.iter().map(|named| leases.of(named).resize(named.limit, now, nodes)).collect()
    }

    /// Adds what was leased, and returns the decision about the charge.
    pub(super) fn apply(&self, request: &ChargeRequest<'_>, response: ChargeResponse, now: Micros) -> Decision {
        let charge = request.charge;
        let mut shard = self.shard(&charge.owner);
        let Some(leases) = shard.get_mut(&charge.owner) else { return response.decision };
        let ChargeResponse { mut decision, leased } = response;
        for (index, (named, outcome)) in charge.limits.iter().zip(&mut decision.outcomes).enumerate() {
            let count = leased.get(index).copied().unwrap_or_default();
            let is_all = !outcome.admitted || count == size(request.lease_bits_of(index));
            *outcome = leases.of(named).refill(*outcome, charge.cost, (count, is_all), now);
        }
        decision
    }

    /// Marks the background refill of an owner's leases as finished.
    pub(super) fn end_refill(&self, owner: BucketOwner) {
        if let Some(leases) = self.shard(&owner).get_mut(&owner) {
            leases.is_refilling = false;
        }
    }

    /// Removes the leases that were not used for a while.
    pub(super) fn take_idle(&self, now: Micros) -> Unused {
        self.take(|leases| now < leases.last_used || now.since(leases.last_used) >= IDLE)
    }

    /// Removes all leases.
    pub(super) fn take_all(&self) -> Unused {
        self.take(|_| true)
    }

    fn take(&self, is_taken: impl Fn(&OwnerLeases) -> bool) -> Unused {
        let mut unused = Vec::new();
        for mut shard in self.shards.lock_each() {
            shard.retain(|owner, leases| {
                // A clone of the lock means that a request is about to refill the leases.
                if Arc::strong_count(&leases.refill_lock) > 1 || !is_taken(leases) {
                    return true;
                }
                let nonempty = leases.leases.drain(..).filter(|lease| lease.available > 0);
                let counts: Vec<_> = nonempty.map(|lease| (lease.named, lease.available)).collect();
                if !counts.is_empty() {
                    unused.push((*owner, counts));
                }
                false
            });
        }
        unused
    }

    /// The available requests in all leases of an owner.
    #[cfg(test)]
    pub(super) fn available(&self, owner: BucketOwner) -> u64 {
        self.shard(&owner).get(&owner).map_or(0, |leases| leases.leases.iter().map(|lease| lease.available).sum())
    }

    fn shard(&self, owner: &BucketOwner) -> MutexGuard<'_, Shard> {
        self.shards.lock(owner)
    }
}

impl OwnerLeases {
    /// The lease of a limit, created empty.
    fn of(&mut self, named: &NamedLimit) -> &mut Lease {
        let index = self.leases.iter().position(|lease| lease.named.name == named.name).unwrap_or_else(|| {
            self.leases.push(Lease::new(named.clone()));
            self.leases.len() - 1
        });
        &mut self.leases[index]
    }

    fn spend(&mut self, charge: &Charge<'_>, now: Micros, nodes: u32) -> Option<(Decision, bool)> {
        self.last_used = now;
        let cost = charge.cost;
        let (mut is_enough, mut is_exhausted) = (true, false);
        for named in charge.limits {
            let lease = self.of(named);
            lease.set_limit(named.limit, nodes);
            is_enough &= lease.refilled_at != Micros::default() && lease.available >= cost;
            is_exhausted |= lease.wait(cost, now).is_some();
        }
        if !is_enough {
            let rejection = || charge.limits.iter().map(|named| self.of(named).reject(cost, now)).collect();
            return is_exhausted.then(rejection).map(|outcomes| (Decision { admitted: false, outcomes }, false));
        }
        let outcomes = charge.limits.iter().map(|named| self.of(named).spend(cost, now)).collect();
        let is_low = !self.is_refilling && charge.limits.iter().any(|named| self.of(named).is_low(now));
        self.is_refilling |= is_low;
        Some((Decision { admitted: true, outcomes }, is_low))
    }
}

impl Lease {
    fn new(named: NamedLimit) -> Self {
        Self { named, available: 0, bits: 0, bucket: Tat::default(), refilled_at: Micros::default(), exhausted: None }
    }

    /// Applies the current limit and number of nodes. Requests above the new maximum size are dropped.
    fn set_limit(&mut self, limit: Limit, nodes: u32) {
        if self.named.limit != limit {
            self.named.limit = limit;
            self.exhausted = None;
        }
        let max = bits_max(&limit, nodes);
        self.bits = self.bits.min(max);
        self.available = self.available.min(size(max));
    }

    /// The time until a request of this cost is admitted, if the bucket is known not to hold enough.
    fn wait(&self, cost: u64, now: Micros) -> Option<Duration> {
        let applies = |exhausted: &Exhausted| {
            self.available < cost && cost >= exhausted.cost && exhausted.since <= now && now < exhausted.until
        };
        Some(self.exhausted.filter(applies)?.until.since(now))
    }

    fn spend(&mut self, cost: u64, now: Micros) -> Outcome {
        self.available -= cost;
        let increment = self.named.limit.increment(cost);
        self.bucket = self.bucket.max(Tat::full(now)).later(increment);
        self.bucket.peek(now, &self.named.limit)
    }

    fn reject(&self, cost: u64, now: Micros) -> Outcome {
        let outcome = self.bucket.peek(now, &self.named.limit);
        self.wait(cost, now).map_or(outcome, |wait| rejected(outcome, cost, wait))
    }

    fn is_low(&self, now: Micros) -> bool {
        self.bits > 0 && self.available <= size(self.bits) / 2 && self.wait(u64::MAX, now).is_none()
    }

    /// Adapts the size of the lease to its use. Returns the bits of the refill: as many as fit into what a full lease lacks.
    fn resize(&mut self, limit: Limit, now: Micros, nodes: u32) -> u8 {
        let since = now.since(self.refilled_at);
        if since < SHORT {
            self.bits += 1;
        } else if since > LONG {
            self.bits = self.bits.saturating_sub(1);
        }
        self.set_limit(limit, nodes);
        bits_within(size(self.bits).saturating_sub(self.available))
    }

    /// Adds `count` leased requests. `outcome` is the store's, without the lease; `is_all` tells whether the store leased as much
    /// as was requested.
    fn refill(&mut self, outcome: Outcome, cost: u64, (count, is_all): (u64, bool), now: Micros) -> Outcome {
        let limit = self.named.limit;
        let bucket = Tat::with_used(now, outcome.used);
        self.exhausted = if outcome.retry_after == Duration::MAX {
            self.exhausted
        } else if !outcome.admitted {
            Some(Exhausted { cost, since: now, until: now.after(outcome.retry_after) })
        } else if is_all {
            None
        } else {
            let wait = bucket.later(limit.increment(count)).take(now, &limit, 1).err();
            wait.map(|wait| Exhausted { cost: 1, since: now, until: now.after(wait) })
        };
        self.bucket = bucket.earlier(limit.increment(self.available));
        self.available += count;
        self.refilled_at = now;
        let local = self.bucket.peek(now, &limit);
        if outcome.admitted { local } else { rejected(local, cost, outcome.retry_after) }
    }
}

fn rejected(outcome: Outcome, cost: u64, wait: Duration) -> Outcome {
    // Leases of other nodes may be released later. Until then, less than the cost remains.
    Outcome { remaining: outcome.remaining.min(cost.saturating_sub(1)), ..outcome.rejected(wait) }
}

/// The maximum size of a lease, in bits, if each node holds one.
fn bits_max(limit: &Limit, nodes: u32) -> u8 {
    bits_within(limit.quota().get() / LEASED_PART / u64::from(nodes))
}

/// The largest lease size, in bits, of at most `count` requests.
fn bits_within(count: u64) -> u8 {
    u8::try_from(count.saturating_add(1).ilog2()).unwrap_or_default()
}

/// The number of requests in a full lease.
fn size(bits: u8) -> u64 {
    (1 << bits) - 1
}
