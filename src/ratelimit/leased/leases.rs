//! The leases that this node holds.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use crate::ratelimit::gcra::Tat;
use crate::ratelimit::{
    BucketOwner, Charge, ChargeRequest, ChargeResponse, Decision, Limit, Micros, NamedLimit, Outcome,
};
use crate::sharded::Sharded;

/// All leases of a bucket together are this part of its quota at the most.
const SLICES_PART: u64 = 10;
/// A slice that is used up sooner is too small, one that lasts longer is too large.
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(500);
/// What was not touched for so long goes back.
const IDLE: Duration = Duration::from_secs(1);

/// What was given up: for each owner, so many requests of each limit.
pub(super) type Unused = Vec<(BucketOwner, Vec<(NamedLimit, u64)>)>;

/// Leases of a bounded number of owners.
pub(super) struct Leases {
    shards: Sharded<Shard>,
    /// Owners in a shard.
    max: usize,
}

type Shard = HashMap<BucketOwner, OwnerLeases>;

/// The leases of one owner.
#[derive(Default)]
struct OwnerLeases {
    /// Whoever has it may lease: else many requests at once would lease many leases.
    turn: Arc<tokio::sync::Mutex<()>>,
    leases: Vec<Lease>,
    used: Micros,
    /// Whether a background lease is on its way.
    is_refilling: bool,
}

struct Lease {
    named: NamedLimit,
    /// Requests that are charged and not used.
    held: u64,
    /// A whole slice is 2^bits - 1 requests.
    bits: u8,
    /// The bucket as last known, with what is held put back.
    bucket: Tat,
    leased: Micros,
    dry: Option<Dry>,
}

/// The bucket does not have so much.
#[derive(Clone, Copy)]
struct Dry {
    cost: u64,
    since: Micros,
    until: Micros,
}

impl Leases {
    /// Leases of at most `owners_max` owners, or a few more.
    pub(super) fn new(owners_max: usize) -> Self {
        let shards = Sharded::<Shard>::default();
        Self { max: owners_max.div_ceil(shards.count()), shards }
    }

    /// The owner's turn to lease; nothing at the cap.
    pub(super) fn turn(&self, owner: BucketOwner) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let mut shard = self.shard(&owner);
        if shard.len() >= self.max && !shard.contains_key(&owner) {
            return None;
        }
        Some(Arc::clone(&shard.entry(owner).or_default().turn))
    }

    /// Decides by what is held and known here, if that is enough; and tells whether leases have to be leased soon.
    pub(super) fn spend(&self, request: &Charge<'_>, now: Micros, nodes: u32) -> Option<(Decision, bool)> {
        let mut shard = self.shard(&request.owner);
        shard.get_mut(&request.owner)?.spend(request, now, nodes)
    }

    /// For each bucket of a request, how much is to be leased beyond it, in bits.
    pub(super) fn wanted(&self, request: &Charge<'_>, now: Micros, nodes: u32) -> Vec<u8> {
        let mut shard = self.shard(&request.owner);
        let Some(lease) = shard.get_mut(&request.owner) else { return Vec::new() };
        let wanted = request.limits.iter().map(|named| lease.lease(named).wanted(named.limit, now, nodes));
        wanted.collect()
    }

    /// Takes over what was leased, and tells what became of the request.
    pub(super) fn record(&self, order: &ChargeRequest<'_>, receipt: ChargeResponse, now: Micros) -> Decision {
        let mut shard = self.shard(&order.request.owner);
        let Some(lease) = shard.get_mut(&order.request.owner) else { return receipt.decision };
        let ChargeResponse { mut decision, extras } = receipt;
        for (index, (named, outcome)) in order.request.limits.iter().zip(&mut decision.outcomes).enumerate() {
            let extra = extras.get(index).copied().unwrap_or_default();
            let is_all = !outcome.admitted || extra == size(order.bits(index));
            *outcome = lease.lease(named).record(*outcome, order.request.cost, (extra, is_all), now);
        }
        decision
    }

    /// A background lease has ended.
    pub(super) fn refilled(&self, owner: BucketOwner) {
        if let Some(lease) = self.shard(&owner).get_mut(&owner) {
            lease.is_refilling = false;
        }
    }

    /// Gives up what nobody used for a while.
    pub(super) fn take_idle(&self, now: Micros) -> Unused {
        self.take(|lease| now < lease.used || now.since(lease.used) >= IDLE)
    }

    /// Gives up everything.
    pub(super) fn take_all(&self) -> Unused {
        self.take(|_| true)
    }

    fn take(&self, is_taken: impl Fn(&OwnerLeases) -> bool) -> Unused {
        let mut unused = Vec::new();
        for mut shard in self.shards.lock_each() {
            shard.retain(|owner, lease| {
                // Whoever has the turn is about to use it.
                if Arc::strong_count(&lease.turn) > 1 || !is_taken(lease) {
                    return true;
                }
                let held = lease.leases.drain(..).filter(|slice| slice.held > 0);
                let held: Vec<_> = held.map(|slice| (slice.named, slice.held)).collect();
                if !held.is_empty() {
                    unused.push((*owner, held));
                }
                false
            });
        }
        unused
    }

    /// Requests that are held of all of an owner's limits.
    #[cfg(test)]
    pub(super) fn held(&self, owner: BucketOwner) -> u64 {
        self.shard(&owner).get(&owner).map_or(0, |lease| lease.leases.iter().map(|slice| slice.held).sum())
    }

    fn shard(&self, owner: &BucketOwner) -> MutexGuard<'_, Shard> {
        self.shards.lock(owner)
    }
}

impl OwnerLeases {
    fn lease(&mut self, named: &NamedLimit) -> &mut Lease {
        let at = self.leases.iter().position(|slice| slice.named.name == named.name).unwrap_or_else(|| {
            self.leases.push(Lease::new(named.clone()));
            self.leases.len() - 1
        });
        &mut self.leases[at]
    }

    fn spend(&mut self, request: &Charge<'_>, now: Micros, nodes: u32) -> Option<(Decision, bool)> {
        self.used = now;
        let cost = request.cost;
        let (mut is_enough, mut is_dry) = (true, false);
        for named in request.limits {
            let slice = self.lease(named);
            slice.follow(named.limit, nodes);
            is_enough &= slice.leased != Micros::default() && slice.held >= cost;
            is_dry |= slice.wait(cost, now).is_some();
        }
        if !is_enough {
            let refusal = || request.limits.iter().map(|named| self.lease(named).refuse(cost, now)).collect();
            return is_dry.then(refusal).map(|outcomes| (Decision { admitted: false, outcomes }, false));
        }
        let outcomes = request.limits.iter().map(|named| self.lease(named).spend(cost, now)).collect();
        let is_low = !self.is_refilling && request.limits.iter().any(|named| self.lease(named).is_low(now));
        self.is_refilling |= is_low;
        Some((Decision { admitted: true, outcomes }, is_low))
    }
}

impl Lease {
    fn new(named: NamedLimit) -> Self {
        Self { named, held: 0, bits: 0, bucket: Tat::default(), leased: Micros::default(), dry: None }
    }

    /// Obeys a limit that may have changed, and a number of nodes that may have. What is too much then is lost.
    fn follow(&mut self, limit: Limit, nodes: u32) {
        if self.named.limit != limit {
            self.named.limit = limit;
            self.dry = None;
        }
        let most = bits_max(&limit, nodes);
        self.bits = self.bits.min(most);
        self.held = self.held.min(size(most));
    }

    /// How long a request of that cost is known to have to wait.
    fn wait(&self, cost: u64, now: Micros) -> Option<Duration> {
        let dry = self.dry.filter(|dry| self.held < cost && cost >= dry.cost && dry.since <= now && now < dry.until)?;
        Some(dry.until.since(now))
    }

    fn spend(&mut self, cost: u64, now: Micros) -> Outcome {
        self.held -= cost;
        let price = self.named.limit.price(cost);
        self.bucket = self.bucket.max(Tat::full(now)).later(price);
        self.bucket.look(now, &self.named.limit)
    }

    fn refuse(&self, cost: u64, now: Micros) -> Outcome {
        let outcome = self.bucket.look(now, &self.named.limit);
        self.wait(cost, now).map_or(outcome, |wait| refused(outcome, cost, wait))
    }

    fn is_low(&self, now: Micros) -> bool {
        self.bits > 0 && self.held <= size(self.bits) / 2 && self.wait(u64::MAX, now).is_none()
    }

    /// What is to be leased now: what a whole slice lacks, or the most bits that are no more.
    fn wanted(&mut self, limit: Limit, now: Micros, nodes: u32) -> u8 {
        let since = now.since(self.leased);
        if since < SHORT {
            self.bits += 1;
        } else if since > LONG {
            self.bits = self.bits.saturating_sub(1);
        }
        self.follow(limit, nodes);
        bits_within(size(self.bits).saturating_sub(self.held))
    }

    /// Takes over what the ledger says: how the bucket is without the extras, the extras, and whether that is all it was
    /// asked for.
    fn record(&mut self, said: Outcome, cost: u64, (extra, is_all): (u64, bool), now: Micros) -> Outcome {
        let limit = self.named.limit;
        let bucket = Tat::with_used(now, said.used);
        self.dry = if said.retry_after == Duration::MAX {
            self.dry
        } else if !said.admitted {
            Some(Dry { cost, since: now, until: now.after(said.retry_after) })
        } else if is_all {
            None
        } else {
            let wait = bucket.later(limit.price(extra)).take(now, &limit, 1).err();
            wait.map(|wait| Dry { cost: 1, since: now, until: now.after(wait) })
        };
        self.bucket = bucket.earlier(limit.price(self.held));
        self.held += extra;
        self.leased = now;
        let outcome = self.bucket.look(now, &limit);
        if said.admitted { outcome } else { refused(outcome, cost, said.retry_after) }
    }
}

fn refused(outcome: Outcome, cost: u64, wait: Duration) -> Outcome {
    // What others hold may come back, but it is not there.
    Outcome { remaining: outcome.remaining.min(cost.saturating_sub(1)), ..outcome.refused(wait) }
}

/// The largest slice that every node may have.
fn bits_max(limit: &Limit, nodes: u32) -> u8 {
    bits_within(limit.quota().get() / SLICES_PART / u64::from(nodes))
}

/// The most bits whose requests are not more than that.
fn bits_within(count: u64) -> u8 {
    u8::try_from(count.saturating_add(1).ilog2()).unwrap_or_default()
}

/// The requests of a slice.
fn size(bits: u8) -> u64 {
    (1 << bits) - 1
}
