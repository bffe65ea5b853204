//! Values that many records have in common: one object for all of them.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

/// Enough that two loads rarely meet at one lock, and that sweeping a part is soon done.
const SHARDS: usize = 64;
/// A part with fewer objects is not swept.
const SWEEP_MIN: usize = 64;

/// The objects that are in use. What nobody uses any more is swept out when a part has doubled since the last time, so that there
/// are at most as many unused objects as there were used ones, and some [`SWEEP_MIN`] for each part.
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
    /// The object for a value.
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
        // Who has the only reference is this table, and nobody can take another one meanwhile.
        self.objects.retain(|object| Arc::strong_count(object) > 1);
        self.sweep_at = SWEEP_MIN.max(self.objects.len() * 2);
        self.objects.shrink_to(self.sweep_at);
    }
}

/// How many share an object beside the table of all.
pub(super) fn users<T>(object: &Arc<T>) -> usize {
    Arc::strong_count(object).saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_one_object_as_long_as_it_is_used() {
        let interner = Interner::default();
        let (first, second) = (interner.share(7), interner.share(7));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &interner.share(8)));
        assert_eq!(users(&first), 2);
    }

    #[test]
    fn what_is_not_used_any_more_is_swept_out() {
        let interner = Interner::default();
        let kept: Vec<_> = (0..10).map(|number| interner.share(number)).collect();
        for number in 0..100_000 {
            interner.share(number);
        }
        let held: usize = interner.shards.iter().map(|shard| shard.lock().unwrap().objects.len()).sum();
        assert!(held <= SHARDS * (SWEEP_MIN + kept.len()), "{held}");
        assert!(kept.iter().all(|object| Arc::ptr_eq(object, &interner.share(**object))));
    }
}
