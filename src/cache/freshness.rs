//! Whether the caches can be believed: only as long as this node hears of changes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a node does with cached keys when it hears of no changes and the database cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDatabaseDown {
    /// It uses them until it has heard of nothing for that long.
    ServeStale(Duration),
    /// It cannot decide.
    Deny,
}

/// When this node last knew of all changes. Cheap to ask.
#[derive(Debug)]
pub struct Freshness {
    begun: Instant,
    max_staleness: Duration,
    on_database_down: OnDatabaseDown,
    /// Microseconds since `begun`; `u64::MAX` when there is nobody else who could change anything.
    confirmed: AtomicU64,
    /// Microseconds since `begun` until which the database need not be asked; 0 while it answers.
    down_until: AtomicU64,
}

/// What cached records are worth at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// They are true.
    Fresh,
    /// The database has to be asked; if it cannot answer, they may be used.
    Unconfirmed,
    /// The database has to be asked; if it cannot answer, nobody can decide.
    Stale,
}

impl Freshness {
    /// Of a node that is alone: its caches are always true.
    pub fn alone(now: Instant) -> Self {
        let freshness = Self::new(Duration::ZERO, OnDatabaseDown::Deny, now);
        freshness.confirmed.store(u64::MAX, Ordering::Relaxed);
        freshness
    }

    /// Of a node that follows the changes of others, and has heard of all until now.
    pub fn new(max_staleness: Duration, on_database_down: OnDatabaseDown, now: Instant) -> Self {
        Self {
            begun: now,
            max_staleness,
            on_database_down,
            confirmed: AtomicU64::new(0),
            down_until: AtomicU64::new(0),
        }
    }

    /// Takes over that all changes until `when` are known.
    pub fn confirm(&self, when: Instant) {
        self.confirmed.fetch_max(self.micros(when), Ordering::Release);
        self.database_answered();
    }

    /// How long ago all changes were known; zero for a node that is alone.
    pub fn age(&self, now: Instant) -> Duration {
        Duration::from_micros(self.micros(now).saturating_sub(self.confirmed.load(Ordering::Acquire)))
    }

    /// What cached records are worth.
    pub fn trust(&self, now: impl FnOnce() -> Instant) -> Trust {
        if self.confirmed.load(Ordering::Acquire) == u64::MAX {
            return Trust::Fresh;
        }
        let age = self.age(now());
        match self.on_database_down {
            _ if age <= self.max_staleness => Trust::Fresh,
            OnDatabaseDown::ServeStale(limit) if age <= limit => Trust::Unconfirmed,
            _ => Trust::Stale,
        }
    }

    /// Whether records whose time is over may be used while the database cannot be asked.
    pub fn serves_stale(&self) -> bool {
        matches!(self.on_database_down, OnDatabaseDown::ServeStale(_))
    }

    /// Takes over that the database did not answer: for `pause` it need not be asked again.
    pub fn database_failed(&self, now: Instant, pause: Duration) {
        self.down_until.fetch_max(self.micros(now + pause), Ordering::AcqRel);
    }

    /// Takes over that the database answered.
    pub fn database_answered(&self) {
        self.down_until.store(0, Ordering::Release);
    }

    /// Whether to ask the database. Everybody may, but when it failed, one caller in each `pause`, so that not all wait for one
    /// that is still away.
    pub fn may_ask_database(&self, now: Instant, pause: Duration) -> bool {
        let until = self.down_until.load(Ordering::Acquire);
        until == 0
            || self.micros(now) >= until
                && self
                    .down_until
                    .compare_exchange(until, self.micros(now + pause), Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
    }

    fn micros(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn trust_ends_with_silence_and_comes_back_with_news() {
        let begun = Instant::now();
        let freshness = Freshness::new(SECOND * 5, OnDatabaseDown::ServeStale(SECOND * 300), begun);
        let trust = |after: u32| freshness.trust(|| begun + SECOND * after);
        assert_eq!(
            [0, 5, 6, 300, 301].map(trust),
            [Trust::Fresh, Trust::Fresh, Trust::Unconfirmed, Trust::Unconfirmed, Trust::Stale]
        );
        freshness.confirm(begun + SECOND * 300);
        freshness.confirm(begun + SECOND * 10);
        assert_eq!((trust(305), trust(306)), (Trust::Fresh, Trust::Unconfirmed));
        assert_eq!(freshness.age(begun + SECOND * 302), SECOND * 2);
    }

    #[test]
    fn denying_nodes_serve_nothing_stale_and_lone_nodes_are_never_stale() {
        let begun = Instant::now();
        let denying = Freshness::new(SECOND, OnDatabaseDown::Deny, begun);
        assert_eq!(denying.trust(|| begun + SECOND * 2), Trust::Stale);
        assert_eq!(Freshness::alone(begun).trust(|| begun + SECOND * 1_000_000), Trust::Fresh);
    }

    #[test]
    fn a_database_that_failed_is_asked_by_one_caller_at_a_time_until_it_answers() {
        let begun = Instant::now();
        let freshness = Freshness::new(SECOND, OnDatabaseDown::Deny, begun);
        let ask = |after: u32| [(); 3].map(|()| freshness.may_ask_database(begun + SECOND * after, SECOND * 2));
        assert_eq!(ask(0), [true; 3]);
        freshness.database_failed(begun, SECOND * 2);
        assert_eq!(
            [0, 1, 2, 3, 4].map(ask),
            [[false; 3], [false; 3], [true, false, false], [false; 3], [true, false, false]]
        );
        freshness.database_answered();
        assert_eq!(ask(4), [true; 3]);
        freshness.database_failed(begun, SECOND * 9);
        freshness.confirm(begun);
        assert_eq!(ask(4), [true; 3]);
    }
}
