//! A value split into shards, each behind its own mutex, so that threads rarely contend for one lock.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;

/// The default number of shards.
const SHARDS: usize = 64;

/// Shards of one table. The hash of a key selects its shard.
///
/// A lock that a panicking thread has poisoned is taken anyway: no caller leaves a shard half-changed.
pub(crate) struct Sharded<T> {
    /// Their number is a power of two.
    shards: Box<[Mutex<T>]>,
    hasher: RandomState,
}

impl<T> Sharded<T> {
    /// 64 shards, each made by `shard`.
    pub(crate) fn new(shard: impl FnMut() -> T) -> Self {
        Self::with_count(SHARDS, shard)
    }

    /// `count` shards, rounded up to a power of two, each made by `shard`.
    pub(crate) fn with_count(count: usize, mut shard: impl FnMut() -> T) -> Self {
        let shards = (0..count.next_power_of_two()).map(|_| Mutex::new(shard())).collect();
        Self { shards, hasher: RandomState::new() }
    }

    /// The number of shards.
    pub(crate) fn count(&self) -> usize {
        self.shards.len()
    }

    /// The hash of a key, for [`Sharded::lock_hash`] and for a table inside the shard.
    pub(crate) fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Locks the shard of a key.
    pub(crate) fn lock(&self, key: &impl Hash) -> MutexGuard<'_, T> {
        self.lock_hash(self.hash(key))
    }

    /// Locks the shard of the key with this hash.
    pub(crate) fn lock_hash(&self, hash: u64) -> MutexGuard<'_, T> {
        // Hash tables use the lowest and the highest bits, so the bits in the middle select the shard.
        let middle = usize::try_from(hash >> 32 & u64::from(u16::MAX)).unwrap_or_default();
        lock(&self.shards[middle & (self.shards.len() - 1)])
    }

    /// Locks each shard, one after the other.
    pub(crate) fn lock_each(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.shards.iter().map(lock)
    }
}

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn key_always_selects_the_same_shard_and_keys_spread_over_all() {
        let sharded = Sharded::<HashSet<u32>>::default();
        for _ in 0..2 {
            for key in 0..10_000 {
                sharded.lock(&key).insert(key);
            }
        }
        let sizes: Vec<_> = sharded.lock_each().map(|shard| shard.len()).collect();
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (64, 10_000));
        assert!(sizes.iter().all(|size| (80..320).contains(size)), "{sizes:?}");
    }

    #[test]
    fn number_of_shards_is_a_power_of_two() {
        for (count, expected) in [(0, 1), (1, 1), (3, 4), (64, 64)] {
            let sharded = Sharded::with_count(count, || 0);
            for key in 0..1000 {
                *sharded.lock(&key) += 1;
            }
            assert_eq!((sharded.count(), sharded.lock_each().map(|shard| *shard).sum()), (expected, 1000));
        }
    }

    #[test]
    fn poisoned_shard_can_be_locked() {
        let sharded = Sharded::with_count(1, || 7);
        std::thread::scope(|scope| {
            let panicking = scope.spawn(|| {
                let _shard = sharded.lock(&0);
                panic!("poisons the lock");
            });
            assert!(panicking.join().is_err());
        });
        assert_eq!(*sharded.lock(&0), 7);
    }
}
