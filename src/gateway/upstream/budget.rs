//! The retry budget of an upstream: retries as a percentage of its requests, so that retries cannot multiply the load of an upstream that
//! fails.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// The length of half a window, in seconds. A window is the current half and the one before it.
const HALF: u64 = 5;
/// Retries that are allowed in a window whatever the number of requests is, so that an upstream with few requests may close its idle
/// connections.
const MINIMUM: u32 = 100;

/// Counts requests and retries of the last five to ten seconds.
#[derive(Debug)]
pub(super) struct RetryBudget {
    percent: u32,
    start: Instant,
    /// The number of the current half.
    half: AtomicU64,
    /// Counts of the halves with an even and with an odd number.
    requests: [AtomicU32; 2],
    retries: [AtomicU32; 2],
}

impl RetryBudget {
    pub(super) fn new(percent: u32) -> Self {
        Self {
            percent,
            start: Instant::now(),
            half: AtomicU64::new(0),
            requests: Default::default(),
            retries: Default::default(),
        }
    }

    /// Counts a request.
    pub(super) fn add_request(&self, now: Instant) {
        self.requests[self.slot(now)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a retry if the budget allows it. Concurrent calls may exceed the budget by their number.
    pub(super) fn try_retry(&self, now: Instant) -> bool {
        let slot = self.slot(now);
        let sum = |counts: &[AtomicU32; 2]| counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum();
        let (requests, retries): (u64, u64) = (sum(&self.requests), sum(&self.retries));
        let is_allowed = retries < (requests * u64::from(self.percent) / 100).max(u64::from(MINIMUM));
        if is_allowed {
            self.retries[slot].fetch_add(1, Ordering::Relaxed);
        }
        is_allowed
    }

    /// The slot of the current half. The first call in a half discards what the slot has counted before.
    fn slot(&self, now: Instant) -> usize {
        let half = now.saturating_duration_since(self.start).as_secs() / HALF;
        let previous = self.half.load(Ordering::Relaxed);
        let slot = usize::from(half % 2 == 1);
        if half > previous && self.half.compare_exchange(previous, half, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.clear(slot);
            if half > previous + 1 {
                self.clear(1 - slot);
            }
        }
        slot
    }

    fn clear(&self, slot: usize) {
        self.requests[slot].store(0, Ordering::Relaxed);
        self.retries[slot].store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn retries(budget: &RetryBudget, now: Instant) -> usize {
        (0..1_000).take_while(|_| budget.try_retry(now)).count()
    }

    #[test]
    fn budget_is_a_percentage_of_recent_requests_with_a_minimum() {
        let budget = RetryBudget::new(20);
        let start = budget.start;
        assert_eq!(retries(&budget, start), 100);
        (0..1_000).for_each(|_| budget.add_request(start));
        assert_eq!(retries(&budget, start), 100, "200 of 1,000, of which 100 were before");
        let next_half = start + Duration::from_secs(5);
        assert_eq!(retries(&budget, next_half), 0);
        let later = start + Duration::from_secs(10);
        assert_eq!(retries(&budget, later), 100);
        let much_later = start + Duration::from_secs(100);
        assert_eq!(retries(&budget, much_later), 100);
    }
}
