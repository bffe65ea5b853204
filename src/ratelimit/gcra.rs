//! The generic cell rate algorithm (GCRA) as pure functions. The caller passes the time, the limit and the bucket's state.
//!
//! The state of a bucket is one instant, its theoretical arrival time ([`Tat`]): when the bucket is full again. An admitted
//! request moves it forward by one emission interval. A request that would move it more than the burst ahead of now is
//! rejected.
//!
//! All times are integers. `now` is in microseconds since the Unix epoch, the unit of the Redis clock. A [`Tat`] is in
//! femtoseconds, 10^9 to the microsecond. It is stored in Redis as two numbers below 2^53, which Lua's doubles represent
//! exactly. Intervals are rounded up to a femtosecond, so no limit admits more than its quota; at a million requests per
//! second the rounding loses less than one request in 10^9.

use std::num::NonZeroU64;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::policy::RateLimitPolicy;

/// Femtoseconds in a microsecond.
const MICRO: u128 = 1_000_000_000;
/// The longest window, a century: the sum of such times and of today's date stays below 2^53 microseconds.
const WINDOW_MAX: Duration = Duration::from_secs(36_500 * 86_400);
const WINDOW_MIN: Duration = Duration::from_micros(1);

/// An instant in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// When a bucket is full again, in femtoseconds since the Unix epoch. The default is a bucket that was never charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat(u128);

/// A duration in femtoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u128);

/// A quota of requests per window. The quota is also the burst size; it is replenished evenly over the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    quota: NonZeroU64,
    window: Duration,
    interval: u128,
    /// The burst tolerance, `quota` intervals: the window plus less than a femtosecond for each request.
    burst: u128,
}

/// The result of one limit for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether this limit admits the request.
    pub admitted: bool,
    /// The number of requests that the limit would admit now, after this one.
    pub remaining: u64,
    /// The used part of the burst, after this request.
    pub(super) used: Span,
    /// The time until the limit would admit the rejected request, to the microsecond. Zero for an admitted request,
    /// [`Duration::MAX`] for one that costs more than the quota.
    pub retry_after: Duration,
}

/// One outcome for each limit of an owner. Most owners have one or two.
pub type Outcomes = SmallVec<[Outcome; 2]>;

/// The result of all limits of a request. Either all of them are charged or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether every limit admits the request.
    pub admitted: bool,
    /// The outcome of each limit, in the order of the limits. The request is charged only if all of them admit it.
    pub outcomes: Outcomes,
}

impl Micros {
    /// The instant in microseconds; the epoch for an earlier one.
    pub fn of(time: Timestamp) -> Self {
        Self(u64::try_from(time.timestamp_micros()).unwrap_or(0))
    }

    /// The time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
    }

    fn femtos(self) -> u128 {
        u128::from(self.0) * MICRO
    }
}

impl Limit {
    /// `quota` requests per `window`. The window is clamped to the range from a microsecond to a century.
    pub fn new(quota: NonZeroU64, window: Duration) -> Self {
        let window = window.clamp(WINDOW_MIN, WINDOW_MAX);
        let interval = (window.as_nanos() * 1_000_000).div_ceil(quota.get().into());
        Self { quota, window, interval, burst: interval * u128::from(quota.get()) }
    }

    /// The number of requests per window, and the burst size.
    pub fn quota(&self) -> NonZeroU64 {
        self.quota
    }

    /// The window.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// The share of one of `nodes` nodes that count separately: an equal part of the quota, at least one request.
    #[must_use]
    pub fn share(&self, nodes: u32) -> Self {
        let quota = NonZeroU64::new(self.quota.get() / u64::from(nodes.max(1))).unwrap_or(NonZeroU64::MIN);
        Self::new(quota, self.window)
    }

    /// The increment of the arrival time for `count` requests. Above the quota, it is more than any bucket holds.
    pub(super) fn increment(&self, count: u64) -> Span {
        Span(if count > self.quota.get() { self.burst + 1 } else { self.interval * u128::from(count) })
    }

    /// The increment for the whole quota.
    #[cfg(any(test, feature = "redis"))]
    pub(super) fn burst(&self) -> Span {
        Span(self.burst)
    }
}

impl From<RateLimitPolicy> for Limit {
    fn from(policy: RateLimitPolicy) -> Self {
        Self::new(policy.quota, policy.window)
    }
}

#[cfg(feature = "redis")]
impl Span {
    /// Whole microseconds and the remaining femtoseconds.
    pub(super) fn parts(self) -> (u128, u128) {
        (self.0 / MICRO, self.0 % MICRO)
    }
}

impl Tat {
    /// From whole microseconds and the remaining femtoseconds.
    #[cfg(any(test, feature = "redis"))]
    pub(super) fn from_parts(micros: u64, femtos: u64) -> Self {
        Self(u128::from(micros) * MICRO + u128::from(femtos))
    }

    /// A bucket of which `used` is used.
    pub(super) fn with_used(now: Micros, used: Span) -> Self {
        Self(now.femtos() + used.0)
    }

    /// A bucket that is full at `now`.
    pub(super) fn full(now: Micros) -> Self {
        Self(now.femtos())
    }

    #[must_use]
    pub(super) fn later(self, by: Span) -> Self {
        Self(self.0 + by.0)
    }

    #[must_use]
    pub(super) fn earlier(self, by: Span) -> Self {
        Self(self.0.saturating_sub(by.0))
    }

    /// The bucket, empty at most. So after a clock step backwards or a reduction of the limit, a request waits at most one
    /// window.
    fn clamp_to_empty(self, now: Micros, limit: &Limit) -> Self {
        self.min(Self(now.femtos() + limit.burst))
    }

    /// The bucket after the request, or the time until the request would be admitted.
    pub(super) fn take(self, now: Micros, limit: &Limit, cost: u64) -> Result<Self, Duration> {
        if cost > limit.quota.get() {
            return Err(Duration::MAX);
        }
        // A full bucket gains nothing from idle time.
        let next = self.0.max(now.femtos()) + limit.increment(cost).0;
        let empty = now.femtos() + limit.burst;
        if next <= empty { Ok(Self(next)) } else { Err(micros(next - empty)) }
    }

    /// The state of the bucket, as the outcome of an admitted request of cost 0.
    pub(super) fn peek(self, now: Micros, limit: &Limit) -> Outcome {
        let used = self.0.saturating_sub(now.femtos()).min(limit.burst);
        let remaining = u64::try_from((limit.burst - used) / limit.interval).unwrap_or(u64::MAX);
        Outcome { admitted: true, remaining, used: Span(used), retry_after: Duration::ZERO }
    }
}

impl Outcome {
    /// The time until the bucket is full, to the microsecond.
    pub fn reset(&self) -> Duration {
        micros(self.used.0)
    }

    /// The outcome after the request is refunded.
    #[must_use]
    pub(super) fn refunded(self, limit: &Limit, cost: u64) -> Self {
        let used = Span(self.used.0.saturating_sub(limit.increment(cost).0));
        Self { remaining: self.remaining.saturating_add(cost).min(limit.quota.get()), used, ..self }
    }

    /// The outcome of a request of this cost after a reading of the bucket. Charges nothing.
    #[must_use]
    pub fn preview(self, limit: &Limit, cost: u64) -> Self {
        let now = Micros::default();
        match Tat::with_used(now, self.used).take(now, limit, cost) {
            Ok(_) => self,
            Err(wait) => self.rejected(wait),
        }
    }

    /// The outcome for a rejected request that would be admitted after `wait`.
    #[must_use]
    pub(super) fn rejected(self, wait: Duration) -> Self {
        Self { admitted: false, retry_after: wait, ..self }
    }
}

impl Decision {
    /// The time until every limit would admit the request. Zero for an admitted request, [`Duration::MAX`] for one that costs
    /// more than a quota.
    pub fn retry_after(&self) -> Duration {
        self.outcomes.iter().map(|outcome| outcome.retry_after).max().unwrap_or_default()
    }
}

/// Charges `cost` to all buckets, or to none if one of them rejects it. A cost of 0 reads the buckets.
///
/// `tats` and `limits` are parallel. The caller stores the buckets of a rejected request too: they may have been clamped.
pub fn charge<'a>(
    tats: &mut [Tat],
    limits: impl Iterator<Item = &'a Limit> + Clone,
    now: Micros,
    cost: u64,
) -> Decision {
    for (tat, limit) in tats.iter_mut().zip(limits.clone()) {
        *tat = tat.clamp_to_empty(now, limit);
    }
    let admitted = tats.iter().zip(limits.clone()).all(|(tat, limit)| tat.take(now, limit, cost).is_ok());
    let outcomes = tats.iter_mut().zip(limits).map(|(tat, limit)| match tat.take(now, limit, cost) {
        Ok(next) => {
            *tat = if admitted { next } else { *tat };
            tat.peek(now, limit)
        }
        Err(wait) => tat.peek(now, limit).rejected(wait),
    });
    Decision { outcomes: outcomes.collect(), admitted }
}

/// Microseconds, rounded up so that no retry comes too early.
fn micros(femtos: u128) -> Duration {
    Duration::from_micros(u64::try_from(femtos.div_ceil(MICRO)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
