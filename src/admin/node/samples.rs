//! Samples of the counters of the last minute, for rates.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::counts::Counts;

/// The longest window of a rate.
const WINDOW: Duration = Duration::from_secs(60);

/// The counters at times of the last minute.
#[derive(Default)]
pub(super) struct Samples(Mutex<VecDeque<(Instant, Counts)>>);

impl Samples {
    /// Adds a sample, and removes all that are older than the window.
    pub(super) fn add(&self, now: Instant, counts: Counts) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, counts));
        // The sample that begins the window stays.
        while samples.get(1).is_some_and(|(time, _)| now.saturating_duration_since(*time) >= WINDOW) {
            samples.pop_front();
        }
    }

    /// The sample that begins the window.
    pub(super) fn first(&self) -> Option<(Instant, Counts)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_begins_at_the_latest_sample_that_is_a_minute_old() {
        let (samples, start) = (Samples::default(), Instant::now());
        assert!(samples.first().is_none());
        for number in 0..30_u32 {
            let counts = Counts { requests: f64::from(number), ..Counts::default() };
            samples.add(start + Duration::from_secs(5) * number, counts);
        }
        let (time, counts) = samples.first().unwrap();
        assert_eq!((time, counts.requests), (start + Duration::from_secs(85), 17.0));
        assert_eq!(samples.0.lock().unwrap().len(), 13);
    }
}
