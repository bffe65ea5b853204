//! Buckets in the memory of this process.

use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use indexmap::IndexMap;
use indexmap::map::raw_entry_v1::{RawEntryApiV1, RawEntryMut};
use smallvec::SmallVec;

use super::gcra::{self, Tat};
use super::{Backend, BucketOwner, Charge, Decision, Limit, Micros, NamedLimit, Unavailable};
use crate::clock::Clock;
use crate::sharded::Sharded;

/// The number of owners compared to select one for eviction.
const CANDIDATES: usize = 8;

/// Buckets of a bounded number of owners.
///
/// Each charge also checks one other owner and removes it if all its buckets are full. So an idle owner is removed after at most
/// as many charges as there are owners. At the cap, a new owner evicts the one of eight owners whose buckets are full soonest.
/// The evicted owner then has its whole quota again.
pub struct Local {
    clock: Arc<dyn Clock>,
    shards: Sharded<Shard>,
}

#[derive(Default)]
struct Shard {
    /// Looked up by the hash that selected the shard.
    owners: IndexMap<BucketOwner, Buckets, ()>,
    max: usize,
    /// The index of the next owner to check.
    sweep_index: usize,
}

/// The buckets of an owner. Most have one: an owner that comes and goes costs no allocation then.
#[derive(Default)]
struct Buckets(SmallVec<[(Arc<str>, Tat); 1]>);

/// An owner's locked shard, and the owner's hash.
struct OwnerEntry<'a> {
    shard: MutexGuard<'a, Shard>,
    owner: BucketOwner,
    hash: u64,
}

impl Local {
    /// Keeps the buckets of `owners_max` owners, rounded up to a multiple of the number of shards.
    pub fn new(owners_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self::with_shards(Sharded::default(), owners_max, clock)
    }

    fn with_shards(shards: Sharded<Shard>, owners_max: usize, clock: Arc<dyn Clock>) -> Self {
        let max = owners_max.div_ceil(shards.count()).max(1);
        shards.lock_each().for_each(|mut shard| shard.max = max);
        Self { clock, shards }
    }

    /// Charges a request to all its buckets, or to none. A request of cost 0 changes nothing.
    pub fn charge(&self, charge: &Charge<'_>) -> Decision {
        self.charge_limits(charge, charge.each_limit())
    }

    /// Charges as one of `nodes` nodes that count separately: each limit is divided by their number.
    pub(super) fn charge_share(&self, charge: &Charge<'_>, nodes: u32) -> Decision {
        let shares: Vec<_> = charge.each_limit().map(|limit| limit.share(nodes)).collect();
        self.charge_limits(charge, shares.iter())
    }

    /// Refunds an admitted request.
    pub(crate) fn refund(&self, charge: &Charge<'_>) {
        let now = Micros(self.clock.unix_micros());
        let mut entry = self.entry(charge.owner);
        let buckets = entry.buckets(now);
        for named in charge.limits {
            let bucket = buckets.of(&named.name);
            *bucket = bucket.earlier(named.limit.increment(charge.cost));
        }
    }

    /// Raises the use of the buckets to that in another backend's decision. Decisions of concurrent requests arrive in any order, so an
    /// older one must not give tokens back.
    pub(super) fn update(&self, charge: &Charge<'_>, decision: &Decision) {
        let now = Micros(self.clock.unix_micros());
        let mut entry = self.entry(charge.owner);
        let buckets = entry.buckets(now);
        for (named, outcome) in charge.limits.iter().zip(&decision.outcomes) {
            let bucket = buckets.of(&named.name);
            *bucket = Tat::with_used(now, outcome.used).max(*bucket);
        }
    }

    /// The number of owners.
    pub fn len(&self) -> usize {
        self.shards.lock_each().map(|shard| shard.owners.len()).sum()
    }

    /// Whether there are no owners.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn charge_limits<'a>(&self, charge: &Charge<'_>, limits: impl Iterator<Item = &'a Limit> + Clone) -> Decision {
        let now = Micros(self.clock.unix_micros());
        let mut entry = self.entry(charge.owner);
        if charge.cost == 0 {
            return gcra::charge(&mut entry.tats(charge.limits), limits, now, 0);
        }
        let buckets = entry.buckets(now);
        let mut tats: SmallVec<[Tat; 2]> = charge.limits.iter().map(|named| *buckets.of(&named.name)).collect();
        let decision = gcra::charge(&mut tats, limits, now, charge.cost);
        for (named, tat) in charge.limits.iter().zip(tats) {
            *buckets.of(&named.name) = tat;
        }
        decision
    }

    fn entry(&self, owner: BucketOwner) -> OwnerEntry<'_> {
        let hash = self.shards.hash(&owner);
        OwnerEntry { shard: self.shards.lock_hash(hash), owner, hash }
    }
}

#[async_trait]
impl Backend for Local {
    async fn charge(&self, charge: &Charge<'_>) -> Result<Decision, Unavailable> {
        Ok(Self::charge(self, charge))
    }

    async fn refund(&self, charge: &Charge<'_>) {
        Self::refund(self, charge);
    }
}

impl OwnerEntry<'_> {
    /// The states of the buckets, in the order of the limits. It does not create the owner, because at the cap that evicts another one.
    fn tats(&self, limits: &[NamedLimit]) -> SmallVec<[Tat; 2]> {
        let index = self.shard.index(self.hash, &self.owner);
        let buckets = index.and_then(|index| self.shard.owners.get_index(index)).map(|(_, buckets)| buckets);
        let tat = |limit: &NamedLimit| buckets.and_then(|buckets| buckets.get(&limit.name)).unwrap_or_default();
        limits.iter().map(tat).collect()
    }

    /// The buckets of the owner, which is created if it does not exist.
    fn buckets(&mut self, now: Micros) -> &mut Buckets {
        let Self { shard, owner, hash } = self;
        shard.sweep(now);
        if shard.owners.len() >= shard.max && shard.index(*hash, owner).is_none() {
            shard.evict();
        }
        match shard.owners.raw_entry_mut_v1().from_hash(*hash, |other| other == owner) {
            RawEntryMut::Occupied(entry) => entry.into_mut(),
            RawEntryMut::Vacant(entry) => entry.insert_hashed_nocheck(*hash, *owner, Buckets::default()).1,
        }
    }
}

impl Shard {
    fn index(&self, hash: u64, owner: &BucketOwner) -> Option<usize> {
        self.owners.raw_entry_v1().index_from_hash(hash, |other| other == owner)
    }

    /// Checks the next owner and removes it if its buckets are full.
    fn sweep(&mut self, now: Micros) {
        match self.owners.get_index(self.sweep_index) {
            Some((_, buckets)) if buckets.full_at() <= Tat::full(now) => {
                self.owners.swap_remove_index(self.sweep_index);
            }
            Some(_) => self.sweep_index += 1,
            None => self.sweep_index = 0,
        }
    }

    fn evict(&mut self) {
        let count = self.owners.len();
        let candidates = (self.sweep_index..self.sweep_index + CANDIDATES).map(|index| index % count);
        let soonest =
            candidates.min_by_key(|index| self.owners.get_index(*index).map(|(_, buckets)| buckets.full_at()));
        if let Some(index) = soonest {
            self.owners.swap_remove_index(index);
        }
        self.sweep_index += CANDIDATES;
    }
}

impl Buckets {
    fn get(&self, name: &Arc<str>) -> Option<Tat> {
        self.0.iter().find(|(existing, _)| existing == name).map(|(_, tat)| *tat)
    }

    /// The bucket of this name, created full.
    fn of(&mut self, name: &Arc<str>) -> &mut Tat {
        let at = self.0.iter().position(|(existing, _)| existing == name).unwrap_or_else(|| {
            self.0.push((Arc::clone(name), Tat::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// When all of them are full.
    fn full_at(&self) -> Tat {
        self.0.iter().map(|(_, tat)| *tat).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
