//! A lock-free set of fixed size that holds the keys of a day.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ahash::RandomState;

use crate::clock::Timestamp;
use crate::key::CachedKey;

/// Slots per set: one cache line of a processor.
const WAYS: usize = 8;
/// Number of sets: with the ways 1 MiB, enough for some 100,000 keys a day.
const SETS: usize = 1 << 14;
const DAY_BITS: u32 = 16;
const DAY: u64 = (1 << DAY_BITS) - 1;
const SECONDS: i64 = 86_400;

/// A key on a day: the hash of the key, with the day in the lowest bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// Identifies a use of a key that was noted. A connection keeps it, so that the next use on the same day is not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    creation: u32,
    removals: u32,
    day: u64,
}

/// A set-associative hash set of marks. A full set evicts a mark of another day, or else any mark: that key may then be queued
/// twice on a day, which is harmless.
pub(super) struct DailySet {
    sets: Box<[Set]>,
    hasher: RandomState,
    /// How many marks were removed.
    removals: AtomicU32,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

impl DailySet {
    pub(super) fn new() -> Self {
        let sets = (0..SETS).map(|_| Set::default()).collect();
        Self { sets, hasher: RandomState::new(), removals: AtomicU32::new(0) }
    }

    /// The mark of a key at `now`. A key that was deleted and imported again has another mark.
    pub(super) fn mark(&self, key: &CachedKey, now: Timestamp) -> Mark {
        let hash = self.hasher.hash_one((key.tenant(), key.id(), key.creation()));
        Mark(hash & !DAY | day(now) & DAY)
    }

    /// Identifies a use of a key as long as no mark is removed: equal for two uses on the same day.
    #[inline]
    pub(super) fn noted(&self, key: &CachedKey, now: Timestamp) -> Noted {
        Noted { creation: key.creation(), removals: self.removals.load(Ordering::Acquire), day: day(now) }
    }

    /// Inserts a mark. Returns `false` if it was in the set already.
    pub(super) fn insert(&self, mark: Mark) -> bool {
        let set = self.set(mark);
        for _ in 0..WAYS {
            // Both decisions use one read, so that two threads that insert the same mark choose the same slot.
            let slots: [u64; WAYS] = std::array::from_fn(|way| set[way].load(Ordering::Relaxed));
            if slots.contains(&mark.0) {
                return false;
            }
            let way = slots.iter().position(|slot| (slot ^ mark.0) & DAY != 0).unwrap_or_else(|| mark.any_way());
            if set[way].compare_exchange(slots[way], mark.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
        true
    }

    /// Removes a mark.
    pub(super) fn remove(&self, mark: Mark) {
        for slot in self.set(mark) {
            // A slot with another mark stays unchanged.
            let _ = slot.compare_exchange(mark.0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        // After the removal of the mark, so that a use that was noted before it is noted again.
        self.removals.fetch_add(1, Ordering::Release);
    }

    fn set(&self, mark: Mark) -> &[AtomicU64; WAYS] {
        let index = usize::try_from(mark.0 >> DAY_BITS).unwrap_or_default() % SETS;
        &self.sets[index].0
    }
}

/// Days since 1970.
#[inline]
fn day(now: Timestamp) -> u64 {
    now.timestamp().div_euclid(SECONDS).cast_unsigned()
}

impl Mark {
    /// The way to evict, from bits that do not select the set.
    fn any_way(self) -> usize {
        usize::try_from(self.0 >> (u64::BITS - WAYS.ilog2())).unwrap_or_default()
    }
}
