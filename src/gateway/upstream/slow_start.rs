//! Slow start of an endpoint that returns: its share of the requests grows.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The share of an endpoint right after its return, in percent.
const FIRST_SHARE: u32 = 10;
/// The origin of times in milliseconds.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The share of requests that an endpoint gets, from 10 % at its return to 100 % after a window.
#[derive(Debug)]
pub(super) struct SlowStart {
    window: u64,
    /// When the endpoint has returned, in milliseconds since [`EPOCH`]; 0 once the window is over.
    returned: AtomicU64,
    turns: AtomicU32,
}

impl SlowStart {
    /// An endpoint with its full share.
    pub(super) fn new(window: Duration) -> Self {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { window, returned: AtomicU64::new(0), turns: AtomicU32::new(0) }
    }

    /// Begins the window.
    pub(super) fn begin(&self, now: Instant) {
        self.returned.store(millis(now).max(1), Ordering::Relaxed);
    }

    /// The current share in percent, 10 to 100.
    pub(super) fn share(&self) -> u32 {
        let returned = self.returned.load(Ordering::Relaxed);
        if returned == 0 { 100 } else { self.share_at(returned, millis(Instant::now())) }
    }

    fn share_at(&self, returned: u64, now: u64) -> u32 {
        let elapsed = now.saturating_sub(returned);
        if elapsed >= self.window {
            self.returned.store(0, Ordering::Relaxed);
            return 100;
        }
        u32::try_from(elapsed * 100 / self.window).unwrap_or(100).max(FIRST_SHARE)
    }

    /// Whether the endpoint takes this turn. Of 100 calls it takes as many as its share says, evenly distributed.
    pub(super) fn takes_turn(&self) -> bool {
        let share = self.share();
        if share >= 100 {
            return true;
        }
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) % 100;
        (turn + 1) * share / 100 > turn * share / 100
    }

    /// Whether the endpoint takes requests with this hash. A hash that is taken once is taken until the end of the window.
    pub(super) fn takes_hash(&self, hash: u64) -> bool {
        let share = self.share();
        share >= 100 || hash % 100 < u64::from(share)
    }
}

fn millis(time: Instant) -> u64 {
    u64::try_from(time.saturating_duration_since(*EPOCH).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_grows_from_a_tenth_to_the_whole() {
        let start = SlowStart::new(Duration::from_secs(10));
        assert_eq!(start.share(), 100);
        for (elapsed, share) in [(0, 10), (500, 10), (2_000, 20), (5_000, 50), (9_990, 99), (10_000, 100)] {
            assert_eq!(start.share_at(1_000, 1_000 + elapsed), share, "{elapsed}");
        }
    }

    #[test]
    fn turns_are_taken_as_the_share_says() {
        let start = SlowStart::new(Duration::from_secs(3600));
        start.begin(Instant::now());
        let taken: Vec<_> = (0..200).filter(|_| start.takes_turn()).collect();
        assert_eq!(taken.len(), 20, "{taken:?}");
        assert!(taken.windows(2).all(|pair| pair[1] - pair[0] == 10), "{taken:?}");
        assert_eq!((0..1_000).filter(|hash| start.takes_hash(*hash)).count(), 100);
    }
}
