//! Records that are remembered beyond one request without being held.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{CacheKey, KeyCache, Since};
use crate::key::CachedKey;

/// A record as it was found. It is found again only as long as nothing changed, its time is not over and the cache still holds it.
#[derive(Debug)]
pub struct ConnectionHint {
    key: CacheKey,
    record: Weak<CachedKey>,
    since: Since,
    /// Of before it was found.
    epoch: u64,
}

impl<E: Clone + Send + Sync + 'static> KeyCache<E> {
    /// The record that is held, if its time is not over at `now`, and what finds it again.
    pub fn get_with_hint(&self, key: &CacheKey, now: Instant) -> Option<(Arc<CachedKey>, ConnectionHint)> {
        let epoch = self.epoch();
        let held = self.held_at(key, now)?;
        let hint = ConnectionHint { key: *key, record: Arc::downgrade(&held.record), since: held.since, epoch };
        Some((held.record, hint))
    }

    /// The record of a key that was hint before, if asking for it would give the same.
    pub fn get_by_hint(&self, key: &CacheKey, hint: &ConnectionHint, now: Instant) -> Option<Arc<CachedKey>> {
        let same = hint.key == *key && hint.epoch == self.epoch() && self.is_current(hint.since, now);
        if same { hint.record.upgrade() } else { None }
    }
}
