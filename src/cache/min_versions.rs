//! Minimum versions of keys that changed lately: an older record from the shared cache is outdated.
//!
//! A record was read from the store at some time. It is outdated if its key has changed since, and this node knows that as long as it has
//! the minimum version of that change. So a record of a key without a minimum version is admitted only if it was read after the last time
//! at which a minimum version was dropped, or a change may have been missed. This needs no relation between the time for which minimum
//! versions are kept and the time for which records live, which can differ between nodes and change while they run: if minimum versions are
//! dropped too early, older records are refused, and none is wrongly admitted.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::cache_key::CacheKey;

/// The minimum versions of keys that changed lately. Bounded: at the cap the oldest is dropped. That costs lookups, but never admits an
/// outdated record.
#[derive(Debug)]
pub(super) struct MinVersions {
    max: usize,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    versions: HashMap<CacheKey, (u64, Instant)>,
    /// By time. A key that changed again has several places, of which the last counts.
    order: VecDeque<(Instant, CacheKey)>,
    /// Changes before that may have been missed.
    missed_until: Instant,
    /// When the last minimum version was raised that is no longer here.
    dropped_until: Option<Instant>,
}

impl MinVersions {
    /// At most `max` minimum versions. Changes before `now` may have been missed.
    pub(super) fn new(max: usize, now: Instant) -> Self {
        let table = Table { versions: HashMap::new(), order: VecDeque::new(), missed_until: now, dropped_until: None };
        Self { max, table: RwLock::new(table) }
    }

    /// Refuses records of a key below `version` from now on, and drops what was raised more than `kept` ago. `now` must not go back between
    /// calls.
    pub(super) fn raise(&self, key: CacheKey, version: u64, kept: Duration, now: Instant) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        while table.order.front().is_some_and(|(raised, _)| now.saturating_duration_since(*raised) > kept) {
            table.drop_oldest();
        }
        let version = table.versions.get(&key).map_or(version, |(current, _)| version.max(*current));
        table.versions.insert(key, (version, now));
        table.order.push_back((now, key));
        while table.order.len() > self.max {
            table.drop_oldest();
        }
    }

    /// Whether a record of that version may be used, which was read from the store at `read_at` or later.
    pub(super) fn admits(&self, key: &CacheKey, version: u64, read_at: Instant) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        match table.versions.get(key) {
            Some((min_version, _)) => version >= *min_version,
            None => read_at >= table.missed_until && table.dropped_until.is_none_or(|dropped| read_at > dropped),
        }
    }

    /// No change after `since` was missed: their minimum versions were raised.
    pub(super) fn open(&self, since: Instant) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).missed_until = since;
    }

    /// Changes before `now` may have been missed.
    pub(super) fn close(&self, now: Instant) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.missed_until = table.missed_until.max(now);
    }
}

impl Table {
    /// Drops the oldest place, and the minimum version with it if the key has no later place.
    fn drop_oldest(&mut self) {
        let Some((raised, key)) = self.order.pop_front() else { return };
        if self.versions.get(&key).is_some_and(|(_, last)| *last == raised) {
            self.versions.remove(&key);
            self.dropped_until = self.dropped_until.max(Some(raised));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyId, TenantId};

    const KEPT: Duration = Duration::from_secs(100);
    const SECOND: Duration = Duration::from_secs(1);

    fn key(number: u128) -> CacheKey {
        (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(number)))
    }

    #[test]
    fn older_record_is_refused_as_long_as_its_min_version_is_kept() {
        let start = Instant::now();
        let versions = MinVersions::new(10, start);
        assert!(versions.admits(&key(1), 1, start));
        versions.raise(key(1), 5, KEPT, start);
        versions.raise(key(1), 3, KEPT, start + KEPT / 2);
        let admits = |version| versions.admits(&key(1), version, start + KEPT * 9);
        assert_eq!([4, 5, 6].map(admits), [false, true, true]);
        assert!(versions.admits(&key(2), 1, start), "other keys are not affected");
        versions.raise(key(2), 1, KEPT, start + KEPT + SECOND);
        assert!(!admits(4), "the key changed again meanwhile");
        versions.raise(key(2), 1, KEPT, start + KEPT * 2);
        assert!(admits(4));
        assert_eq!(versions.table.read().unwrap().versions.len(), 1);
    }

    #[test]
    fn record_that_was_read_before_a_dropped_change_is_refused_however_long_it_lives() {
        let start = Instant::now();
        let versions = MinVersions::new(10, start);
        versions.raise(key(1), 5, KEPT, start + SECOND);
        versions.raise(key(2), 1, KEPT, start + KEPT * 2);
        let admits = |number, version, read_at| versions.admits(&key(number), version, start + read_at);
        assert!(!admits(1, 4, Duration::ZERO) && !admits(1, 4, SECOND));
        assert!(!admits(3, 9, Duration::ZERO), "any key may have been dropped");
        assert!(admits(1, 4, SECOND * 2), "it is the version of after the change");
        // Kept for a longer time from now on: what was dropped stays dropped.
        versions.raise(key(4), 1, KEPT * 9, start + KEPT * 4);
        assert!(!admits(1, 4, Duration::ZERO) && !admits(2, 0, KEPT) && admits(2, 1, KEPT));
        // And for a shorter one: all of before are dropped, and records of before are refused.
        versions.raise(key(5), 1, SECOND, start + KEPT * 4 + SECOND * 2);
        assert!(!admits(2, 0, KEPT * 2) && !admits(4, 0, KEPT * 4) && admits(4, 1, KEPT * 4 + SECOND));
    }

    #[test]
    fn at_the_cap_records_of_before_the_dropped_change_are_refused() {
        let start = Instant::now();
        let versions = MinVersions::new(2, start);
        for number in 0..3 {
            versions.raise(key(number), 5, KEPT, start);
        }
        assert!(!versions.admits(&key(0), 9, start) && !versions.admits(&key(7), 9, start));
        assert!(versions.admits(&key(2), 5, start) && !versions.admits(&key(2), 4, start));
        assert!(versions.admits(&key(7), 9, start + Duration::from_nanos(1)));
    }

    #[test]
    fn key_that_changes_again_and_again_drops_no_other_min_version() {
        let start = Instant::now();
        let versions = MinVersions::new(2, start);
        for version in 0..9 {
            versions.raise(key(1), version, KEPT, start + SECOND * u32::try_from(version).unwrap());
        }
        assert!(versions.admits(&key(7), 1, start), "the last change of the key is kept");
        assert!(!versions.admits(&key(1), 7, start));
    }

    #[test]
    fn version_dropped_while_closed_keeps_records_refused_after_opening() {
        let start = Instant::now();
        let versions = MinVersions::new(2, start);
        versions.close(start + SECOND);
        for number in 0..3 {
            versions.raise(key(number), 5, KEPT, start + SECOND);
        }
        versions.open(start);
        assert!(!versions.admits(&key(0), 4, start) && versions.admits(&key(2), 5, start));
        assert!(versions.admits(&key(0), 4, start + SECOND * 2));
    }

    #[test]
    fn record_of_before_a_missed_change_is_refused_until_the_changes_since_then_are_known() {
        let start = Instant::now();
        let versions = MinVersions::new(2, start);
        versions.close(start + SECOND * 9);
        let admits = |read_at| versions.admits(&key(1), 1, start + read_at);
        assert!(!admits(SECOND * 8) && admits(SECOND * 9));
        versions.open(start + SECOND * 5);
        assert!(!admits(SECOND * 4) && admits(SECOND * 5));
    }
}
