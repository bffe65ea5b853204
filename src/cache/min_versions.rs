//! Minimum versions of keys that changed lately: an older record from the shared cache is outdated.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::cache_key::CacheKey;

/// The minimum versions of keys that changed within `life`. Bounded: at the cap the oldest is evicted, and until it would have expired
/// no record of a key without a minimum version is admitted. That costs lookups, but never admits an outdated record.
#[derive(Debug)]
pub(super) struct MinVersions {
    life: Duration,
    max: usize,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    versions: HashMap<CacheKey, (u64, Instant)>,
    /// By time. A key that changed again has several places, of which the last counts.
    order: VecDeque<(Instant, CacheKey)>,
    /// Until then a change may have been missed.
    closed_until: Option<Instant>,
    /// Until then a minimum version may have been evicted.
    overflown_until: Option<Instant>,
}

impl MinVersions {
    /// At most `max` minimum versions, each for `life`.
    pub(super) fn new(life: Duration, max: usize) -> Self {
        Self { life, max, table: RwLock::default() }
    }

    /// Refuses records of a key below `version` from now on. `now` must not go back between calls.
    pub(super) fn raise(&self, key: CacheKey, version: u64, now: Instant) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.remove_expired(|raised| now.saturating_duration_since(raised) > self.life);
        let version = table.versions.get(&key).map_or(version, |(current, _)| version.max(*current));
        table.versions.insert(key, (version, now));
        table.order.push_back((now, key));
        while table.order.len() > self.max {
            let Some(oldest) = table.remove_oldest() else { break };
            table.overflown_until = table.overflown_until.max(Some(oldest + self.life));
        }
    }

    /// Whether a record of that version may be used.
    pub(super) fn admits(&self, key: &CacheKey, version: u64, now: Instant) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        match table.versions.get(key) {
            Some((min_version, _)) => version >= *min_version,
            None => table.closed_until.max(table.overflown_until).is_none_or(|until| now > until),
        }
    }

    /// Admits records of keys without a minimum version again: all changes within `life` were raised. If some were evicted since, records
    /// stay refused until those would have expired.
    pub(super) fn open(&self) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).closed_until = None;
    }

    /// Refuses records of keys without a minimum version for `life`, or until [`MinVersions::open`]: changes may have been missed.
    pub(super) fn close(&self, now: Instant) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.closed_until = table.closed_until.max(Some(now + self.life));
    }
}

impl Table {
    fn remove_expired(&mut self, is_expired: impl Fn(Instant) -> bool) {
        while self.order.front().is_some_and(|(raised, _)| is_expired(*raised)) {
            self.remove_oldest();
        }
    }

    /// Removes the oldest place, and the minimum version with it if the key has no later place. Returns when it was raised.
    fn remove_oldest(&mut self) -> Option<Instant> {
        let (raised, key) = self.order.pop_front()?;
        if self.versions.get(&key).is_some_and(|(_, last)| *last == raised) {
            self.versions.remove(&key);
        }
        Some(raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyId, TenantId};

    const LIFE: Duration = Duration::from_secs(100);

    fn key(number: u128) -> CacheKey {
        (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(number)))
    }

    #[test]
    fn older_record_is_refused_for_the_life_of_a_min_version() {
        let (versions, start) = (MinVersions::new(LIFE, 10), Instant::now());
        assert!(versions.admits(&key(1), 1, start));
        versions.raise(key(1), 5, start);
        versions.raise(key(1), 3, start + LIFE / 2);
        let admits = |version, after| versions.admits(&key(1), version, start + after);
        assert_eq!([4, 5, 6].map(|version| admits(version, LIFE)), [false, true, true]);
        assert!(versions.admits(&key(2), 1, start), "other keys are not affected");
        versions.raise(key(2), 1, start + LIFE + Duration::from_secs(1));
        assert!(!admits(4, LIFE), "the key changed again meanwhile");
        versions.raise(key(2), 1, start + LIFE * 2);
        assert!(admits(4, LIFE * 2));
        assert_eq!(versions.table.read().unwrap().versions.len(), 1);
    }

    #[test]
    fn at_the_cap_unknown_keys_are_refused_until_the_evicted_version_would_have_expired() {
        let (versions, start) = (MinVersions::new(LIFE, 2), Instant::now());
        for number in 0..3 {
            versions.raise(key(number), 5, start);
        }
        assert!(!versions.admits(&key(0), 9, start) && !versions.admits(&key(7), 9, start + LIFE));
        assert!(versions.admits(&key(2), 5, start) && !versions.admits(&key(2), 4, start));
        assert!(versions.admits(&key(7), 9, start + LIFE + Duration::from_nanos(1)));
    }

    #[test]
    fn version_evicted_while_closed_keeps_unknown_keys_refused_after_opening() {
        let (versions, start) = (MinVersions::new(LIFE, 2), Instant::now());
        versions.close(start);
        for number in 0..3 {
            versions.raise(key(number), 5, start);
        }
        versions.open();
        assert!(!versions.admits(&key(0), 4, start) && versions.admits(&key(2), 5, start));
        assert!(versions.admits(&key(0), 4, start + LIFE * 2));
    }

    #[test]
    fn unknown_keys_are_refused_for_the_life_of_a_min_version_after_closing() {
        let (versions, start) = (MinVersions::new(LIFE, 2), Instant::now());
        versions.close(start);
        assert!(!versions.admits(&key(1), 1, start + LIFE));
        assert!(versions.admits(&key(1), 1, start + LIFE * 2));
    }
}
