//! Records that are remembered beyond one request without being held.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{CacheKey, KeyCache, Since};
use crate::key::Record;

/// A record as it was found. It is found again only as long as nothing changed, its time is not over and the cache still holds it.
#[derive(Debug)]
pub struct Seen {
    key: CacheKey,
    record: Weak<Record>,
    since: Since,
    /// Of before it was found.
    epoch: u64,
}

impl<E: Clone + Send + Sync + 'static> KeyCache<E> {
    /// The record that is held, if its time is not over at `now`, and what finds it again.
    pub fn see(&self, key: &CacheKey, now: Instant) -> Option<(Arc<Record>, Seen)> {
        let epoch = self.epoch();
        let held = self.held_at(key, now)?;
        let seen = Seen { key: *key, record: Arc::downgrade(&held.record), since: held.since, epoch };
        Some((held.record, seen))
    }

    /// The record of a key that was seen before, if asking for it would give the same.
    pub fn see_again(&self, key: &CacheKey, seen: &Seen, now: Instant) -> Option<Arc<Record>> {
        let same = seen.key == *key && seen.epoch == self.epoch() && self.is_current(seen.since, now);
        if same { seen.record.upgrade() } else { None }
    }
}
