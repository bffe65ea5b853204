//! Arithmetic of the generic cell rate algorithm. Knows no clock, no key and no storage: callers pass all three.
//!
//! All that is kept of a bucket is one instant, its theoretical arrival time ([`Tat`]): when it will be full again. A request
//! moves it on by one emission interval, and is refused where that would move it further ahead than a burst.
//!
//! Time is counted in integers: `now` in microseconds since the Unix epoch, the unit of Redis' own clock; a [`Tat`] in
//! femtoseconds, a thousand million of them to the microsecond. A [`Tat`] goes to Redis as two numbers, each below 2^53, so
//! that Lua's doubles hold both exactly. Intervals are rounded up to a femtosecond: never is more admitted than promised, and
//! at a million requests in a second less than one in a thousand million is lost.

use std::num::NonZeroU64;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::policy::RateLimitPolicy;

/// Femtoseconds in a microsecond.
const MICRO: u128 = 1_000_000_000;
/// The longest window that is counted, a century: sums of such times and of today's date stay below 2^53 microseconds.
const WINDOW_MAX: Duration = Duration::from_secs(36_500 * 86_400);
const WINDOW_MIN: Duration = Duration::from_micros(1);

/// An instant in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

/// When a bucket is full again, in femtoseconds since the Unix epoch. The default is a bucket that nobody has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat(u128);

/// An amount of time in femtoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u128);

/// So many requests in a window: all of them at once, or evenly, or anything between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    quota: NonZeroU64,
    window: Duration,
    interval: u128,
    /// The quota's worth of intervals: the window, and less than a femtosecond more for each request.
    burst: u128,
}

/// What a limit says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether this limit admits the request.
    pub admitted: bool,
    /// Requests that it would admit now, after this one.
    pub remaining: u64,
    /// How much of the burst is used, after this request.
    pub(super) used: Span,
    /// How long until it would admit the refused request, to the microsecond; zero for one that it admits, and
    /// [`Duration::MAX`] for one that costs more than the quota.
    pub retry_after: Duration,
}

/// What each limit of an owner says. Few have more than two.
pub type Outcomes = SmallVec<[Outcome; 2]>;

/// What all limits of a request say to it. They are charged all or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether every limit admits the request.
    pub admitted: bool,
    /// What each says, in the order in which they were asked. What one admits is charged only if all admit it.
    pub outcomes: Outcomes,
}

impl Micros {
    /// That instant; the epoch for what is before it.
    pub fn of(time: Timestamp) -> Self {
        Self(u64::try_from(time.timestamp_micros()).unwrap_or(0))
    }

    /// How long it is since `earlier`; zero when that lies ahead.
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
    /// `quota` requests in a `window`. A window longer than a century is taken for a century: nothing that counts lasts so
    /// long.
    pub fn new(quota: NonZeroU64, window: Duration) -> Self {
        let window = window.clamp(WINDOW_MIN, WINDOW_MAX);
        let interval = (window.as_nanos() * 1_000_000).div_ceil(quota.get().into());
        Self { quota, window, interval, burst: interval * u128::from(quota.get()) }
    }

    /// Requests in a window.
    pub fn quota(&self) -> NonZeroU64 {
        self.quota
    }

    /// The window.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// What is left for each of several nodes that count alone: an equal part, but one request at least.
    #[must_use]
    pub fn share(&self, nodes: u32) -> Self {
        let quota = NonZeroU64::new(self.quota.get() / u64::from(nodes.max(1))).unwrap_or(NonZeroU64::MIN);
        Self::new(quota, self.window)
    }

    /// What `count` requests take; of more than the quota, an amount that no bucket has.
    pub(super) fn price(&self, count: u64) -> Span {
        Span(if count > self.quota.get() { self.burst + 1 } else { self.interval * u128::from(count) })
    }

    /// What the whole quota takes.
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
    /// Whole microseconds, and femtoseconds beyond them.
    pub(super) fn parts(self) -> (u128, u128) {
        (self.0 / MICRO, self.0 % MICRO)
    }
}

impl Tat {
    /// From whole microseconds, and femtoseconds beyond them.
    #[cfg(any(test, feature = "redis"))]
    pub(super) fn from_parts(micros: u64, femtos: u64) -> Self {
        Self(u128::from(micros) * MICRO + u128::from(femtos))
    }

    /// A bucket of which so much is used.
    pub(super) fn with_used(now: Micros, used: Span) -> Self {
        Self(now.femtos() + used.0)
    }

    /// A bucket that is full from now on.
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

    /// No emptier than empty. So a clock that went back, or a limit that became smaller, keeps nobody waiting for longer than
    /// a window.
    fn at_most_empty(self, now: Micros, limit: &Limit) -> Self {
        self.min(Self(now.femtos() + limit.burst))
    }

    /// The bucket after the request, or how long the request has to wait.
    pub(super) fn take(self, now: Micros, limit: &Limit, cost: u64) -> Result<Self, Duration> {
        if cost > limit.quota.get() {
            return Err(Duration::MAX);
        }
        // Time that nobody used is not saved up beyond a full bucket.
        let next = self.0.max(now.femtos()) + limit.price(cost).0;
        let empty = now.femtos() + limit.burst;
        if next <= empty { Ok(Self(next)) } else { Err(micros(next - empty)) }
    }

    /// What a bucket holds, whatever is asked of it.
    pub(super) fn look(self, now: Micros, limit: &Limit) -> Outcome {
        let used = self.0.saturating_sub(now.femtos()).min(limit.burst);
        let remaining = u64::try_from((limit.burst - used) / limit.interval).unwrap_or(u64::MAX);
        Outcome { admitted: true, remaining, used: Span(used), retry_after: Duration::ZERO }
    }
}

impl Outcome {
    /// How long until the limit would admit its whole quota at once, to the microsecond.
    pub fn reset(&self) -> Duration {
        micros(self.used.0)
    }

    /// The same after the request was taken back.
    #[must_use]
    pub(super) fn refunded(self, limit: &Limit, cost: u64) -> Self {
        let used = Span(self.used.0.saturating_sub(limit.price(cost).0));
        Self { remaining: self.remaining.saturating_add(cost).min(limit.quota.get()), used, ..self }
    }

    /// The refusal of a request that has to wait.
    #[must_use]
    pub(super) fn refused(self, wait: Duration) -> Self {
        Self { admitted: false, retry_after: wait, ..self }
    }
}

impl Decision {
    /// How long until no limit would refuse; zero when none does, [`Duration::MAX`] for a request that costs more than a
    /// quota.
    pub fn retry_after(&self) -> Duration {
        self.outcomes.iter().map(|outcome| outcome.retry_after).max().unwrap_or_default()
    }
}

/// Charges a request that costs as much as `cost` plain ones to all buckets, or to none. With a cost of 0 it looks.
///
/// Buckets and limits go in pairs. A bucket may be changed also when the request is refused, and has to be kept then too.
pub fn charge<'a>(
    tats: &mut [Tat],
    limits: impl Iterator<Item = &'a Limit> + Clone,
    now: Micros,
    cost: u64,
) -> Decision {
    for (tat, limit) in tats.iter_mut().zip(limits.clone()) {
        *tat = tat.at_most_empty(now, limit);
    }
    let admitted = tats.iter().zip(limits.clone()).all(|(tat, limit)| tat.take(now, limit, cost).is_ok());
    let outcomes = tats.iter_mut().zip(limits).map(|(tat, limit)| match tat.take(now, limit, cost) {
        Ok(next) => {
            *tat = if admitted { next } else { *tat };
            tat.look(now, limit)
        }
        Err(wait) => tat.look(now, limit).refused(wait),
    });
    Decision { outcomes: outcomes.collect(), admitted }
}

/// Whole microseconds, rounded up: never too early.
fn micros(femtos: u128) -> Duration {
    Duration::from_micros(u64::try_from(femtos.div_ceil(MICRO)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
