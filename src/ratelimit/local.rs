//! Buckets in the memory of this process.

use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use indexmap::IndexMap;
use indexmap::map::raw_entry_v1::{RawEntryApiV1, RawEntryMut};
use smallvec::SmallVec;

use super::gcra::{self, Tat};
use super::{Backend, BucketOwner, Charge, Decision, Limit, Micros, Unavailable};
use crate::clock::Clock;
use crate::sharded::Sharded;

/// Owners that are looked at when one has to make room.
const CANDIDATES: usize = 8;

/// Buckets of a bounded number of owners.
///
/// Each request also looks at one owner more and forgets it if all its buckets are full, so what is idle is gone after as many
/// requests as there are owners. At the cap, of eight owners the one whose buckets are full soonest makes room; it then has its
/// whole quota anew, which is the least that can be forgotten.
pub struct Local {
    clock: Arc<dyn Clock>,
    shards: Sharded<Shard>,
}

#[derive(Default)]
struct Shard {
    /// Found by the hash that the shard was chosen by.
    owners: IndexMap<BucketOwner, Buckets, ()>,
    max: usize,
    /// The next owner to look at.
    hand: usize,
}

/// The few buckets of an owner.
#[derive(Default)]
struct Buckets(Vec<(Arc<str>, Tat)>);

/// An owner's place: its shard, locked, and its hash there.
struct Place<'a> {
    shard: MutexGuard<'a, Shard>,
    owner: BucketOwner,
    hash: u64,
}

impl Local {
    /// Buckets of at most `owners_max` owners, or a few more.
    pub fn new(owners_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self::with_shards(Sharded::default(), owners_max, clock)
    }

    fn with_shards(shards: Sharded<Shard>, owners_max: usize, clock: Arc<dyn Clock>) -> Self {
        let max = owners_max.div_ceil(shards.count()).max(1);
        shards.lock_each().for_each(|mut shard| shard.max = max);
        Self { clock, shards }
    }

    /// Charges a request to all its buckets, or to none.
    pub fn charge(&self, request: &Charge<'_>) -> Decision {
        self.charge_limits(request, request.each_limit())
    }

    /// Charges as one of several nodes that count alone, each for its part.
    pub(super) fn charge_share(&self, request: &Charge<'_>, nodes: u32) -> Decision {
        let shares: Vec<_> = request.each_limit().map(|limit| limit.share(nodes)).collect();
        self.charge_limits(request, shares.iter())
    }

    /// Returns the cost of an admitted request to its buckets.
    pub(crate) fn refund(&self, request: &Charge<'_>) {
        let now = Micros::of(self.clock.now());
        let mut place = self.place(request.owner);
        let buckets = place.buckets(now);
        for named in request.limits {
            let bucket = buckets.of(&named.name);
            *bucket = bucket.earlier(named.limit.price(request.cost));
        }
    }

    /// Takes over what was decided elsewhere, to go on from there.
    pub(super) fn learn(&self, request: &Charge<'_>, decision: &Decision) {
        let now = Micros::of(self.clock.now());
        let mut place = self.place(request.owner);
        let buckets = place.buckets(now);
        for (named, outcome) in request.limits.iter().zip(&decision.outcomes) {
            *buckets.of(&named.name) = Tat::with_used(now, outcome.used);
        }
    }

    /// Owners whose buckets are kept.
    pub fn len(&self) -> usize {
        self.shards.lock_each().map(|shard| shard.owners.len()).sum()
    }

    /// Whether no owner's buckets are kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn charge_limits<'a>(&self, request: &Charge<'_>, limits: impl Iterator<Item = &'a Limit> + Clone) -> Decision {
        let now = Micros::of(self.clock.now());
        let mut place = self.place(request.owner);
        let buckets = place.buckets(now);
        let mut tats: SmallVec<[Tat; 2]> = request.limits.iter().map(|named| *buckets.of(&named.name)).collect();
        let decision = gcra::charge(&mut tats, limits, now, request.cost);
        for (named, tat) in request.limits.iter().zip(tats) {
            *buckets.of(&named.name) = tat;
        }
        decision
    }

    fn place(&self, owner: BucketOwner) -> Place<'_> {
        let hash = self.shards.hash(&owner);
        Place { shard: self.shards.lock_hash(hash), owner, hash }
    }
}

#[async_trait]
impl Backend for Local {
    async fn charge(&self, request: &Charge<'_>) -> Result<Decision, Unavailable> {
        Ok(Self::charge(self, request))
    }

    async fn refund(&self, request: &Charge<'_>) {
        Self::refund(self, request);
    }
}

impl Place<'_> {
    fn buckets(&mut self, now: Micros) -> &mut Buckets {
        let Self { shard, owner, hash } = self;
        shard.sweep(now);
        if shard.owners.len() >= shard.max && shard.index(*hash, owner).is_none() {
            shard.make_room();
        }
        match shard.owners.raw_entry_mut_v1().from_hash(*hash, |held| held == owner) {
            RawEntryMut::Occupied(entry) => entry.into_mut(),
            RawEntryMut::Vacant(entry) => entry.insert_hashed_nocheck(*hash, *owner, Buckets::default()).1,
        }
    }
}

impl Shard {
    fn index(&self, hash: u64, owner: &BucketOwner) -> Option<usize> {
        self.owners.raw_entry_v1().index_from_hash(hash, |held| held == owner)
    }

    /// Looks at the next owner.
    fn sweep(&mut self, now: Micros) {
        match self.owners.get_index(self.hand) {
            Some((_, buckets)) if buckets.full_at() <= Tat::full(now) => {
                self.owners.swap_remove_index(self.hand);
            }
            Some(_) => self.hand += 1,
            None => self.hand = 0,
        }
    }

    fn make_room(&mut self) {
        let count = self.owners.len();
        let candidates = (self.hand..self.hand + CANDIDATES).map(|index| index % count);
        let soonest =
            candidates.min_by_key(|index| self.owners.get_index(*index).map(|(_, buckets)| buckets.full_at()));
        if let Some(index) = soonest {
            self.owners.swap_remove_index(index);
        }
        self.hand += CANDIDATES;
    }
}

impl Buckets {
    /// The bucket of that name; a full one if there was none.
    fn of(&mut self, name: &Arc<str>) -> &mut Tat {
        let at = self.0.iter().position(|(held, _)| held == name).unwrap_or_else(|| {
            self.0.push((Arc::clone(name), Tat::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// When the last of them is full.
    fn full_at(&self) -> Tat {
        self.0.iter().map(|(_, tat)| *tat).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
