//! Access to the current time. The only module that reads the wall clock.

use std::cell::Cell;
use std::sync::Mutex;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// An instant in UTC.
pub type Timestamp = DateTime<Utc>;

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// The current time in microseconds since the Unix epoch; the epoch for an earlier time. Cheaper than [`Clock::now`], which computes a
    /// date.
    fn unix_micros(&self) -> u64 {
        u64::try_from(self.now().timestamp_micros()).unwrap_or(0)
    }
}

const SECONDS_PER_DAY: u64 = 86_400;

thread_local! {
    /// A day since the Unix epoch, and its date: to compute a date costs more than to read the clock.
    static DAY: Cell<(u64, NaiveDate)> = const { Cell::new((0, NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date"))) };
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// A clock for tests that is set explicitly.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let now = SystemTime::now();
        let date_and_time = now.duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|since| {
            let second = u32::try_from(since.as_secs() % SECONDS_PER_DAY).ok()?;
            let time = NaiveTime::from_num_seconds_from_midnight_opt(second, since.subsec_nanos())?;
            Some(date_of_day(since.as_secs() / SECONDS_PER_DAY)?.and_time(time).and_utc())
        });
        date_and_time.unwrap_or_else(|| now.into())
    }

    #[expect(clippy::disallowed_methods, reason = "the only place that reads the wall clock")]
    fn unix_micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// The date of a day since the Unix epoch.
#[inline]
fn date_of_day(day: u64) -> Option<NaiveDate> {
    let (known, date) = DAY.get();
    if known == day { Some(date) } else { compute_date(day) }
}

#[cold]
fn compute_date(day: u64) -> Option<NaiveDate> {
    let seconds = i64::try_from(day.checked_mul(SECONDS_PER_DAY)?).ok()?;
    let date = DateTime::from_timestamp(seconds, 0)?.date_naive();
    DAY.set((day, date));
    Some(date)
}

impl ManualClock {
    /// Creates a clock that is set to `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        *self.lock() = now;
    }

    /// Advances the clock by `by`.
    pub fn advance(&self, by: std::time::Duration) {
        *self.lock() += by;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is compared is the wall clock")]
    fn time_is_that_of_the_system() {
        for _ in 0..3 {
            let (before, now, after) = (Utc::now(), SystemClock.now(), Utc::now());
            assert!(before <= now && now <= after, "{before} {now} {after}");
        }
    }

    #[test]
    fn date_is_that_of_the_day() {
        for day in [0, 1, 0, 59, 60, 11_016, 20_000, 20_000, 2_932_896] {
            let seconds = i64::try_from(day * SECONDS_PER_DAY + 86_399).unwrap();
            assert_eq!(date_of_day(day).unwrap(), DateTime::from_timestamp(seconds, 0).unwrap().date_naive(), "{day}");
        }
        assert_eq!(date_of_day(u64::MAX), None);
        assert_eq!(date_of_day(1_000_000_000), None, "chrono has no such date");
    }
}
