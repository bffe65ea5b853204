//! Records that a connection finds again without a lookup.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::cache_key::CacheKey;
use super::key_cache::KeyCache;
use super::records::CacheTime;
use crate::key::CachedKey;

/// A record that a connection has used. It gives the record as long as no key has changed since, the record is not stale and is still
/// in memory. It does not keep the record in memory.
#[derive(Debug)]
pub struct ConnectionHint {
    key: CacheKey,
    record: Weak<CachedKey>,
    inserted: CacheTime,
    /// The epoch of the cache before the record was found.
    epoch: u64,
}

impl<E: Clone + Send + Sync + 'static> KeyCache<E> {
    /// The cached record, if it is not stale at `now`, and a hint for the next request.
    pub fn get_with_hint(&self, key: &CacheKey, now: Instant) -> Option<(Arc<CachedKey>, ConnectionHint)> {
        let epoch = self.epoch();
        let entry = self.get_current(key, now)?;
        let record = Arc::downgrade(&entry.record);
        Some((entry.record, ConnectionHint { key: *key, record, inserted: entry.inserted, epoch }))
    }

    /// The record that the hint was made for, if a lookup at `now` would give the same.
    pub fn get_by_hint(&self, key: &CacheKey, hint: &ConnectionHint, now: Instant) -> Option<Arc<CachedKey>> {
        let holds = hint.key == *key && hint.epoch == self.epoch() && self.is_current(hint.inserted, now);
        if holds { hint.record.upgrade() } else { None }
    }
}
