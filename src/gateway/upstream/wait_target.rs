//! Whether a queue drains: the controlled delay of `CoDel` (RFC 8289), for requests that wait.
//!
//! A queue that takes up a burst is useful: it is empty again soon. A queue in which every request waits longer than a target for an
//! interval does not drain; it adds its waiting time to each response and serves no request more. Requests are refused early then.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The interval is this multiple of the target, as RFC 8289 section 4.3 recommends.
const INTERVAL: u32 = 10;
/// Requests that are spared may wait this multiple of the target.
const SPARED: u32 = 2;

/// The target of a queue, and since when it is exceeded.
#[derive(Debug)]
pub(super) struct WaitTarget {
    target: Duration,
    /// Since when every request has waited longer than the target.
    exceeded_since: Mutex<Option<Instant>>,
}

impl WaitTarget {
    pub(super) fn new(target: Duration) -> Self {
        Self { target, exceeded_since: Mutex::new(None) }
    }

    /// Notes that the queue was empty.
    pub(super) fn emptied(&self) {
        *self.exceeded_since.lock() = None;
    }

    /// Notes at `now` for how long a request has waited that got its turn, or whose time is over.
    pub(super) fn observe(&self, waited: Duration, now: Instant) {
        let mut since = self.exceeded_since.lock();
        // While requests are refused at the target, none waits longer. Those that get their turn just before do not end that.
        let target = if self.is_overloaded(*since, now) { self.target / 2 } else { self.target };
        if waited <= target {
            *since = None;
        } else {
            since.get_or_insert(now);
        }
    }

    /// How long a request may wait, at `now`; `None` while the queue drains.
    pub(super) fn limit(&self, is_spared: bool, now: Instant) -> Option<Duration> {
        let factor = if is_spared { SPARED } else { 1 };
        self.is_overloaded(*self.exceeded_since.lock(), now).then(|| self.target * factor)
    }

    fn is_overloaded(&self, since: Option<Instant>, now: Instant) -> bool {
        since.is_some_and(|since| now.duration_since(since) >= self.target * INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(10);
    const MS: Duration = Duration::from_millis(1);

    /// The limit at the end of a series of waits in ms, one each 10 ms.
    fn limit_after(waits: &[u32]) -> Option<Duration> {
        let (queue, begin) = (WaitTarget::new(TARGET), Instant::now());
        let mut now = begin;
        for wait in waits {
            queue.observe(MS * *wait, now);
            now += MS * 10;
        }
        queue.limit(false, now)
    }

    #[test]
    fn limit_applies_when_every_wait_of_an_interval_exceeds_the_target() {
        assert_eq!(limit_after(&[11; 9]), None, "the interval is not over");
        assert_eq!(limit_after(&[11; 10]), Some(TARGET));
        assert_eq!(limit_after(&[10; 20]), None, "no wait exceeds the target");
        let mut waits = [500; 15];
        waits[8] = 10;
        assert_eq!(limit_after(&waits), None, "one wait was short enough");
    }

    #[test]
    fn limit_stays_while_requests_wait_for_most_of_the_target() {
        let overloaded = [11; 10];
        assert_eq!(limit_after(&[&overloaded[..], &[10, 6, 9]].concat()), Some(TARGET));
        assert_eq!(limit_after(&[&overloaded[..], &[10, 5, 9]].concat()), None);
    }

    #[test]
    fn empty_queue_ends_the_limit_and_spared_requests_wait_twice_as_long() {
        let (queue, begin) = (WaitTarget::new(TARGET), Instant::now());
        queue.observe(MS * 11, begin);
        let now = begin + TARGET * INTERVAL;
        assert_eq!(queue.limit(false, now - MS), None);
        assert_eq!((queue.limit(false, now), queue.limit(true, now)), (Some(TARGET), Some(TARGET * 2)));
        queue.emptied();
        assert_eq!(queue.limit(false, now), None);
    }
}
