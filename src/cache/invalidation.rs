//! What changed lately: versions below which a record from elsewhere is outdated.

use std::collections::{HashMap, VecDeque};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::CacheKey;

/// The lowest versions that still count, of keys that changed within some time. Bounded: at the cap the oldest makes room, and
/// until its time is over nothing is admitted any more, which costs lookups but never lets an outdated record in.
#[derive(Debug)]
pub(super) struct Invalidations {
    life: Duration,
    max: usize,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    lowest: HashMap<CacheKey, (u64, Instant)>,
    /// In the order of time. A key that changed again stands in it several times; its last place counts.
    order: VecDeque<(Instant, CacheKey)>,
    /// What is unknown may have been missed.
    closed_until: Option<Instant>,
    /// What is unknown may have been known once.
    overflown_until: Option<Instant>,
}

impl Invalidations {
    /// Invalidations that stand for `life`, `max` of them at the most.
    pub(super) fn new(life: Duration, max: usize) -> Self {
        Self { life, max, table: RwLock::default() }
    }

    /// Makes records of a key below `version` outdated. `now` may not go back.
    pub(super) fn raise(&self, key: CacheKey, version: u64, now: Instant) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.forget(|since| now.saturating_duration_since(since) > self.life);
        let lowest = table.lowest.get(&key).map_or(version, |(held, _)| version.max(*held));
        table.lowest.insert(key, (lowest, now));
        table.order.push_back((now, key));
        while table.order.len() > self.max {
            let Some(oldest) = table.drop_oldest() else { break };
            table.overflown_until = table.overflown_until.max(Some(oldest + self.life));
        }
    }

    /// Whether a record of that version may be used.
    pub(super) fn admits(&self, key: &CacheKey, version: u64, now: Instant) -> bool {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        match table.lowest.get(key) {
            Some((lowest, _)) => version >= *lowest,
            None => table.closed_until.max(table.overflown_until).is_none_or(|until| now > until),
        }
    }

    /// Admits what is unknown again, if it was not too much to remember: all changes within the life of a min_version were raised.
    pub(super) fn open(&self) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).closed_until = None;
    }

    /// Admits nothing that is not known to be young enough, for as long as a min_version stands: what changed before was missed.
    pub(super) fn close(&self, now: Instant) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.closed_until = table.closed_until.max(Some(now + self.life));
    }
}

impl Table {
    fn forget(&mut self, is_over: impl Fn(Instant) -> bool) {
        while self.order.front().is_some_and(|(since, _)| is_over(*since)) {
            self.drop_oldest();
        }
    }

    /// Takes out the oldest place; its time, if no later place of its key is left.
    fn drop_oldest(&mut self) -> Option<Instant> {
        let (since, key) = self.order.pop_front()?;
        if self.lowest.get(&key).is_some_and(|(_, last)| *last == since) {
            self.lowest.remove(&key);
        }
        Some(since)
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
    fn what_is_older_than_the_change_is_refused_for_as_long_as_a_fence_stands() {
        let (invalidations, begun) = (Invalidations::new(LIFE, 10), Instant::now());
        assert!(invalidations.admits(&key(1), 1, begun));
        invalidations.raise(key(1), 5, begun);
        invalidations.raise(key(1), 3, begun + LIFE / 2);
        let asked = |version, after| invalidations.admits(&key(1), version, begun + after);
        assert_eq!([4, 5, 6].map(|version| asked(version, LIFE)), [false, true, true]);
        assert!(invalidations.admits(&key(2), 1, begun), "others are not concerned");
        invalidations.raise(key(2), 1, begun + LIFE + Duration::from_secs(1));
        assert!(!asked(4, LIFE), "it changed again meanwhile");
        invalidations.raise(key(2), 1, begun + LIFE * 2);
        assert!(asked(4, LIFE * 2));
        assert_eq!(invalidations.table.read().unwrap().lowest.len(), 1);
    }

    #[test]
    fn at_the_cap_nothing_unknown_is_admitted_until_what_made_room_is_over() {
        let (invalidations, begun) = (Invalidations::new(LIFE, 2), Instant::now());
        for number in 0..3 {
            invalidations.raise(key(number), 5, begun);
        }
        assert!(!invalidations.admits(&key(0), 9, begun) && !invalidations.admits(&key(7), 9, begun + LIFE));
        assert!(invalidations.admits(&key(2), 5, begun) && !invalidations.admits(&key(2), 4, begun));
        assert!(invalidations.admits(&key(7), 9, begun + LIFE + Duration::from_nanos(1)));
    }

    #[test]
    fn what_was_too_much_to_remember_after_a_gap_is_not_admitted_either() {
        let (invalidations, begun) = (Invalidations::new(LIFE, 2), Instant::now());
        invalidations.close(begun);
        for number in 0..3 {
            invalidations.raise(key(number), 5, begun);
        }
        invalidations.open();
        assert!(!invalidations.admits(&key(0), 4, begun) && invalidations.admits(&key(2), 5, begun));
        assert!(invalidations.admits(&key(0), 4, begun + LIFE * 2));
    }

    #[test]
    fn after_a_gap_nothing_is_admitted_for_a_while() {
        let (invalidations, begun) = (Invalidations::new(LIFE, 2), Instant::now());
        invalidations.close(begun);
        assert!(!invalidations.admits(&key(1), 1, begun + LIFE));
        assert!(invalidations.admits(&key(1), 1, begun + LIFE * 2));
    }
}
