//! String interning, generalized to any hashable value: equal values share one [`Arc`].

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// Enough that concurrent loads rarely contend for a lock and that sweeping one shard is short.
const SHARDS: usize = 64;
/// A shard with fewer objects is not swept.
const SWEEP_MIN: usize = 64;

/// A sharded intern pool. Each shard removes unused objects when its size has doubled since its last sweep. The number of
/// unused objects is thus bounded by the number in use at the last sweep plus [`SWEEP_MIN`] for each shard.
pub(super) struct Interner<T> {
    shards: Box<[Mutex<Shard<T>>]>,
    hasher: RandomState,
}

struct Shard<T> {
    objects: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        let shard = || Mutex::new(Shard { objects: HashSet::new(), sweep_at: SWEEP_MIN });
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher: RandomState::new() }
    }
}

impl<T: Hash + Eq> Interner<T> {
    /// Returns the shared object that equals `value`, and inserts it if there is none.
    pub(super) fn share(&self, value: T) -> Arc<T> {
        let index = usize::try_from(self.hasher.hash_one(&value) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(object) = shard.objects.get(&value) {
            return Arc::clone(object);
        }
        if shard.objects.len() >= shard.sweep_at {
            shard.sweep();
        }
        let object = Arc::new(value);
        shard.objects.insert(Arc::clone(&object));
        object
    }
}

impl<T: Hash + Eq> Shard<T> {
    fn sweep(&mut self) {
        // With a count of 1 only this set holds a reference. The shard's lock prevents new clones from here.
        self.objects.retain(|object| Arc::strong_count(object) > 1);
        self.sweep_at = SWEEP_MIN.max(self.objects.len() * 2);
        self.objects.shrink_to(self.sweep_at);
    }
}

/// The number of references to an object outside the pool, at least 1.
pub(super) fn users<T>(object: &Arc<T>) -> usize {
    Arc::strong_count(object).saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_one_object() {
        let interner = Interner::default();
        let (first, second) = (interner.share(7), interner.share(7));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &interner.share(8)));
        assert_eq!(users(&first), 2);
    }

    #[test]
    fn unused_objects_are_removed() {
        let interner = Interner::default();
        let kept: Vec<_> = (0..10).map(|number| interner.share(number)).collect();
        for number in 0..100_000 {
            interner.share(number);
        }
        let remaining: usize = interner.shards.iter().map(|shard| shard.lock().unwrap().objects.len()).sum();
        assert!(remaining <= SHARDS * (SWEEP_MIN + kept.len()), "{remaining}");
        assert!(kept.iter().all(|object| Arc::ptr_eq(object, &interner.share(**object))));
    }
}
