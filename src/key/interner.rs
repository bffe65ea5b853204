//! Interning: equal values of many keys share one object.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::sharded::Sharded;

/// A shard with fewer objects is not swept.
const SWEEP_MIN: usize = 64;

/// The interned objects.
///
/// A shard removes its unused objects when it has doubled in size since the last sweep. So at most as many objects are unused as
/// were in use at that time, plus [`SWEEP_MIN`] for each shard.
pub(super) struct Interner<T> {
    shards: Sharded<Shard<T>>,
}

struct Shard<T> {
    objects: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { shards: Sharded::new(|| Shard { objects: HashSet::new(), sweep_at: SWEEP_MIN }) }
    }
}

impl<T: Hash + Eq> Interner<T> {
    /// The shared object that equals `value`.
    pub(super) fn share(&self, value: T) -> Arc<T> {
        let mut shard = self.shards.lock(&value);
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
        // If this table has the only reference, no other thread can clone it while the shard is locked.
        self.objects.retain(|object| Arc::strong_count(object) > 1);
        self.sweep_at = SWEEP_MIN.max(self.objects.len() * 2);
        self.objects.shrink_to(self.sweep_at);
    }
}

/// The number of references to an interned object, without the interner's own; at least 1.
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
        let count: usize = interner.shards.lock_each().map(|shard| shard.objects.len()).sum();
        assert!(count <= interner.shards.count() * (SWEEP_MIN + kept.len()), "{count}");
        assert!(kept.iter().all(|object| Arc::ptr_eq(object, &interner.share(**object))));
    }
}
