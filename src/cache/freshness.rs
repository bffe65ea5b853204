//! How far cached records can be trusted: only as long as this node receives changes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a node does with cached records when it receives no changes and the database is unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDatabaseDown {
    /// It uses them until it has received no changes for this long.
    ServeStale(Duration),
    /// It does not use them: requests fail as unavailable.
    Deny,
}

/// Until when this node knows all changes, and whether the database answers. Reading it takes no lock.
#[derive(Debug)]
pub struct Freshness {
    start: Instant,
    /// In microseconds.
    max_staleness: AtomicU64,
    /// The time of [`OnDatabaseDown::ServeStale`] in microseconds; 0 for [`OnDatabaseDown::Deny`], which is the same as a time of zero.
    stale_limit: AtomicU64,
    /// Until when all changes are known, in microseconds since `start`; `u64::MAX` when no other node makes changes.
    confirmed: AtomicU64,
    /// Until when the database is not tried again after a failure, in microseconds since `start`; 0 while it answers.
    down_until: AtomicU64,
}

/// How far cached records can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// They are up to date.
    Fresh,
    /// The database must be queried; if it is unavailable, they may be used.
    Unconfirmed,
    /// The database must be queried; if it is unavailable, the request fails.
    Stale,
}

impl OnDatabaseDown {
    /// How long records are used without changes.
    pub(super) fn stale_limit(self) -> Duration {
        match self {
            Self::ServeStale(limit) => limit,
            Self::Deny => Duration::ZERO,
        }
    }
}

impl Freshness {
    /// For the only node of an installation: its caches are always up to date.
    pub fn alone(now: Instant) -> Self {
        let freshness = Self::new(Duration::ZERO, OnDatabaseDown::Deny, now);
        freshness.confirmed.store(u64::MAX, Ordering::Relaxed);
        freshness
    }

    /// For a node that receives the changes of others, and has received all until now.
    pub fn new(max_staleness: Duration, on_database_down: OnDatabaseDown, now: Instant) -> Self {
        Self {
            start: now,
            max_staleness: AtomicU64::new(micros(max_staleness)),
            stale_limit: AtomicU64::new(micros(on_database_down.stale_limit())),
            confirmed: AtomicU64::new(0),
            down_until: AtomicU64::new(0),
        }
    }

    /// Changes how far cached records are trusted, from now on. The only node of an installation always trusts them.
    pub fn set_times(&self, max_staleness: Duration, on_database_down: OnDatabaseDown) {
        if !self.is_alone() {
            self.max_staleness.store(micros(max_staleness), Ordering::Relaxed);
            self.stale_limit.store(micros(on_database_down.stale_limit()), Ordering::Relaxed);
        }
    }

    /// Records that all changes until `when` are known, and that the database answers.
    pub fn confirm(&self, when: Instant) {
        self.confirmed.fetch_max(self.micros(when), Ordering::Release);
        self.database_answered();
    }

    /// The time since which changes may be missing; zero for the only node.
    pub fn age(&self, now: Instant) -> Duration {
        Duration::from_micros(self.micros(now).saturating_sub(self.confirmed.load(Ordering::Acquire)))
    }

    /// How far cached records can be trusted. `now` is called only if other nodes make changes.
    pub fn trust(&self, now: impl FnOnce() -> Instant) -> Trust {
        if self.is_alone() {
            return Trust::Fresh;
        }
        let age = micros(self.age(now()));
        if age <= self.max_staleness.load(Ordering::Relaxed) {
            Trust::Fresh
        } else if age <= self.stale_limit.load(Ordering::Relaxed) {
            Trust::Unconfirmed
        } else {
            Trust::Stale
        }
    }

    /// Whether stale records may be used while the database is unavailable.
    pub fn serves_stale(&self) -> bool {
        self.stale_limit.load(Ordering::Relaxed) > 0
    }

    /// Records that the database failed: it is not tried again for `pause`.
    pub fn database_failed(&self, now: Instant, pause: Duration) {
        self.down_until.fetch_max(self.micros(now + pause), Ordering::AcqRel);
    }

    /// Records that the database answered.
    pub fn database_answered(&self) {
        self.down_until.store(0, Ordering::Release);
    }

    /// Whether to query the database: always while it answers; after a failure one caller in each `pause`, so that not all requests wait
    /// for a database that is still unavailable.
    pub fn may_query_database(&self, now: Instant, pause: Duration) -> bool {
        let until = self.down_until.load(Ordering::Acquire);
        until == 0
            || self.micros(now) >= until
                && self
                    .down_until
                    .compare_exchange(until, self.micros(now + pause), Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
    }

    /// Whether no other node makes changes.
    fn is_alone(&self) -> bool {
        self.confirmed.load(Ordering::Acquire) == u64::MAX
    }

    fn micros(&self, when: Instant) -> u64 {
        micros(when.saturating_duration_since(self.start))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn trust_ends_without_changes_and_returns_when_they_are_confirmed() {
        let start = Instant::now();
        let freshness = Freshness::new(SECOND * 5, OnDatabaseDown::ServeStale(SECOND * 300), start);
        let trust = |after: u32| freshness.trust(|| start + SECOND * after);
        assert_eq!(
            [0, 5, 6, 300, 301].map(trust),
            [Trust::Fresh, Trust::Fresh, Trust::Unconfirmed, Trust::Unconfirmed, Trust::Stale]
        );
        freshness.confirm(start + SECOND * 300);
        freshness.confirm(start + SECOND * 10);
        assert_eq!((trust(305), trust(306)), (Trust::Fresh, Trust::Unconfirmed));
        assert_eq!(freshness.age(start + SECOND * 302), SECOND * 2);
    }

    #[test]
    fn changed_times_apply_at_once() {
        let start = Instant::now();
        let freshness = Freshness::new(SECOND * 5, OnDatabaseDown::ServeStale(SECOND * 300), start);
        let trust = |after: u32| freshness.trust(|| start + SECOND * after);
        freshness.set_times(SECOND * 2, OnDatabaseDown::ServeStale(SECOND * 10));
        assert_eq!([2, 3, 10, 11].map(trust), [Trust::Fresh, Trust::Unconfirmed, Trust::Unconfirmed, Trust::Stale]);
        freshness.set_times(SECOND * 9, OnDatabaseDown::Deny);
        assert_eq!([9, 10].map(trust), [Trust::Fresh, Trust::Stale]);
        assert!(!freshness.serves_stale());
        freshness.set_times(SECOND * 9, OnDatabaseDown::ServeStale(SECOND * 400));
        assert_eq!([9, 400, 401].map(trust), [Trust::Fresh, Trust::Unconfirmed, Trust::Stale]);
        assert!(freshness.serves_stale());
    }

    #[test]
    fn deny_uses_nothing_stale_and_a_single_node_is_always_fresh() {
        let start = Instant::now();
        let denying = Freshness::new(SECOND, OnDatabaseDown::Deny, start);
        assert_eq!(denying.trust(|| start + SECOND * 2), Trust::Stale);
        let alone = Freshness::alone(start);
        alone.set_times(SECOND, OnDatabaseDown::ServeStale(SECOND * 2));
        assert_eq!(alone.trust(|| start + SECOND * 1_000_000), Trust::Fresh);
        assert!(!alone.serves_stale());
    }

    #[test]
    fn failed_database_is_tried_by_one_caller_per_pause_until_it_answers() {
        let start = Instant::now();
        let freshness = Freshness::new(SECOND, OnDatabaseDown::Deny, start);
        let query = |after: u32| [(); 3].map(|()| freshness.may_query_database(start + SECOND * after, SECOND * 2));
        assert_eq!(query(0), [true; 3]);
        freshness.database_failed(start, SECOND * 2);
        assert_eq!(
            [0, 1, 2, 3, 4].map(query),
            [[false; 3], [false; 3], [true, false, false], [false; 3], [true, false, false]]
        );
        freshness.database_answered();
        assert_eq!(query(4), [true; 3]);
        freshness.database_failed(start, SECOND * 9);
        freshness.confirm(start);
        assert_eq!(query(4), [true; 3]);
    }
}
