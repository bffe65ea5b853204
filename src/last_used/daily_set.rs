//! Which keys were noted today: a table of fixed size without locks.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;
use crate::key::CachedKey;

/// Places for the marks of one set: a line of a processor's cache.
const WAYS: usize = 8;
/// With the ways: 1 MiB, for some 100,000 keys a day.
const SETS: usize = 1 << 14;
const DAY_BITS: u32 = 16;
const DAY: u64 = (1 << DAY_BITS) - 1;
const SECONDS: i64 = 86_400;

/// A key on a day: its hash, and in the lowest bits the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// The marks of keys that were noted. When a set is full, a mark of an earlier day goes first, then any: that key is noted again,
/// which costs a place in a batch and changes nothing.
pub(super) struct Today {
    sets: Box<[Set]>,
    hasher: RandomState,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

impl Today {
    pub(super) fn new() -> Self {
        Self { sets: (0..SETS).map(|_| Set::default()).collect(), hasher: RandomState::new() }
    }

    /// The mark of a key at `now`. The same key imported again after its deletion has another one.
    pub(super) fn mark(&self, key: &CachedKey, now: Timestamp) -> Mark {
        let hash = self.hasher.hash_one((key.tenant(), key.id(), key.creation()));
        let day = now.timestamp().div_euclid(SECONDS).cast_unsigned();
        Mark(hash & !DAY | day & DAY)
    }

    /// Remembers a mark; `false` when it is remembered already.
    pub(super) fn add(&self, mark: Mark) -> bool {
        let set = self.set(mark);
        for _ in 0..WAYS {
            // One reading for both questions, so that of two that add the same mark both want the same place.
            let held: [u64; WAYS] = std::array::from_fn(|way| set[way].load(Ordering::Relaxed));
            if held.contains(&mark.0) {
                return false;
            }
            let way = held.iter().position(|held| (held ^ mark.0) & DAY != 0).unwrap_or_else(|| mark.any_way());
            if set[way].compare_exchange(held[way], mark.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
        true
    }

    /// Forgets a mark, so that it can be added again.
    pub(super) fn forget(&self, mark: Mark) {
        for place in self.set(mark) {
            // What stands there otherwise stays.
            let _ = place.compare_exchange(mark.0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn set(&self, mark: Mark) -> &[AtomicU64; WAYS] {
        let index = usize::try_from(mark.0 >> DAY_BITS).unwrap_or_default() % SETS;
        &self.sets[index].0
    }
}

impl Mark {
    /// A way that bits beside those of the set choose.
    fn any_way(self) -> usize {
        usize::try_from(self.0 >> (u64::BITS - WAYS.ilog2())).unwrap_or_default()
    }
}
