//! Reading the usage of a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{LifecycleError, invalid};
use super::write_side::Lifecycle;
use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::request_context::{ActorScope, RequestContext};
use crate::store::{UsageCounts, UsageHour, UsageQuery};

/// The length of a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UsageStep {
    /// An hour.
    #[default]
    Hour,
    /// A day (UTC).
    Day,
}

/// Whole periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageRange {
    from: UsageHour,
    to: UsageHour,
    step: UsageStep,
}

/// The usage of a key in a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyUsage {
    /// Every period of the range, in order.
    pub periods: Vec<UsagePeriod>,
    /// The sum of the periods.
    pub total: UsageTotals,
    /// The number of requests of all keys in the range that a node could not count by key.
    pub requests_without_key: u64,
}

/// The usage of a key in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePeriod {
    /// The time at which the period begins.
    pub begin: Timestamp,
    /// What the requests of the period add up to.
    pub totals: UsageTotals,
}

/// What requests of a key add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageTotals {
    /// All requests, refused ones included.
    pub counts: UsageCounts,
    /// The number of refused requests by the code of the refusal.
    pub refusals: BTreeMap<String, u64>,
}

impl UsageStep {
    /// The number of hours in a period.
    fn hours(self) -> u32 {
        match self {
            Self::Hour => 1,
            Self::Day => 24,
        }
    }

    /// The maximum number of periods in a range.
    pub fn periods_max(self) -> u32 {
        match self {
            Self::Hour => 31 * 24,
            Self::Day => 366,
        }
    }

    /// The number of periods in a range without a beginning.
    fn periods_default(self) -> u32 {
        match self {
            Self::Hour => 24,
            Self::Day => 30,
        }
    }
}

impl UsageRange {
    /// The periods that have some of the time from `from` until before `to`. By default the range ends with the period of `now` and has 24
    /// hours or 30 days.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`] if the range has no period or more than [`UsageStep::periods_max`].
    pub fn new(
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        step: UsageStep,
        now: Timestamp,
    ) -> Result<Self, LifecycleError> {
        let hours = step.hours();
        let end_of = |hour: UsageHour| UsageHour(hour.period(hours).0.saturating_add(hours));
        let to = match to.map(|to| (UsageHour::of(to), to)) {
            None => end_of(UsageHour::of(now)),
            Some((hour, to)) if hour.period(hours).begin() == to => hour,
            Some((hour, _)) => end_of(hour),
        };
        let from = match from {
            None => UsageHour(to.0.saturating_sub(step.periods_default() * hours)),
            Some(from) => UsageHour::of(from).period(hours),
        };
        let periods = to.0.saturating_sub(from.0) / hours;
        if periods == 0 {
            return invalid("from must be before to".into());
        }
        if periods > step.periods_max() {
            let max = step.periods_max();
            return invalid(format!("the range has more than {max} periods; move from and to closer, or use step=day"));
        }
        Ok(Self { from, to, step })
    }

    /// The time at which the first period begins.
    pub fn from(&self) -> Timestamp {
        self.from.begin()
    }

    /// The time at which the last period ends.
    pub fn to(&self) -> Timestamp {
        self.to.begin()
    }

    /// The length of a period.
    pub fn step(&self) -> UsageStep {
        self.step
    }
}

impl Lifecycle {
    /// Returns the usage of a key of the actors of the context. A key that was deleted has no actor any more: only a context with every
    /// actor gets its usage.
    ///
    /// # Errors
    /// [`LifecycleError::NotFound`] if there is neither such a key nor usage of it, or a failure of the store.
    pub async fn usage(
        &self,
        context: &RequestContext,
        key: KeyId,
        range: &UsageRange,
    ) -> Result<KeyUsage, LifecycleError> {
        let found = self.get(context, key).await;
        if found.is_err() && context.actors != ActorScope::All {
            found?;
            return Err(LifecycleError::NotFound(key));
        }
        let Some(store) = Arc::clone(&self.store).usage() else { return Err(LifecycleError::NotFound(key)) };
        let (from, to, step) = (range.from, range.to, range.step.hours());
        let sums = store.usage_of(&UsageQuery { tenant: context.tenant, key, from, to, step }).await?;
        if !sums.iter().any(|sum| sum.is_of_key) {
            found?;
        }
        let period = |hour| UsagePeriod { begin: UsageHour(hour).begin(), totals: UsageTotals::default() };
        let periods = (from.0..to.0).step_by(step as usize).map(period).collect();
        let mut usage = KeyUsage { periods, ..KeyUsage::default() };
        for sum in sums {
            if !sum.is_of_key {
                usage.requests_without_key = usage.requests_without_key.saturating_add(sum.counts.requests);
                continue;
            }
            let index = sum.period.0.saturating_sub(from.0) / step;
            if let Some(period) = usage.periods.get_mut(index as usize) {
                period.totals.add(&sum.refusal, sum.counts);
                usage.total.add(&sum.refusal, sum.counts);
            }
        }
        Ok(usage)
    }
}

impl UsageTotals {
    /// The number of refused requests.
    pub fn refused(&self) -> u64 {
        self.refusals.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn add(&mut self, refusal: &str, counts: UsageCounts) {
        self.counts.add(counts);
        if !refusal.is_empty() {
            let count = self.refusals.entry(refusal.to_owned()).or_default();
            *count = count.saturating_add(counts.requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn range(from: Option<&str>, to: Option<&str>, step: UsageStep) -> Result<(String, String), String> {
        let now = time("2026-11-26T10:20:30.5Z");
        let range = UsageRange::new(from.map(time), to.map(time), step, now).map_err(|error| error.to_string())?;
        let text = |time: Timestamp| time.format("%Y-%m-%dT%H:%M:%S").to_string();
        Ok((text(range.from()), text(range.to())))
    }

    #[test]
    fn range_has_whole_periods_and_ends_with_the_current_one_by_default() {
        for (from, to, step, expected) in [
            (None, None, UsageStep::Hour, ("2026-11-25T11:00:00", "2026-11-26T11:00:00")),
            (None, None, UsageStep::Day, ("2026-10-28T00:00:00", "2026-11-27T00:00:00")),
            (Some("2026-11-26T08:59:59Z"), None, UsageStep::Hour, ("2026-11-26T08:00:00", "2026-11-26T11:00:00")),
            (
                Some("2026-11-26T01:00:00+02:00"),
                Some("2026-11-26T08:00:00Z"),
                UsageStep::Day,
                ("2026-11-25T00:00:00", "2026-11-27T00:00:00"),
            ),
            (
                Some("2026-11-26T01:00:00Z"),
                Some("2026-11-26T02:00:00Z"),
                UsageStep::Hour,
                ("2026-11-26T01:00:00", "2026-11-26T02:00:00"),
            ),
            (
                Some("2026-11-26T01:00:00Z"),
                Some("2026-11-26T02:00:00.000001Z"),
                UsageStep::Hour,
                ("2026-11-26T01:00:00", "2026-11-26T03:00:00"),
            ),
        ] {
            let expected = (expected.0.to_owned(), expected.1.to_owned());
            assert_eq!(range(from, to, step), Ok(expected), "{from:?} {to:?}");
        }
    }

    #[test]
    fn range_without_periods_or_with_too_many_is_rejected() {
        let hour = |from, to| range(Some(from), Some(to), UsageStep::Hour).unwrap_err();
        assert_eq!(hour("2026-11-26T02:00:00Z", "2026-11-26T02:00:00Z"), "from must be before to");
        assert_eq!(hour("2026-11-26T02:00:00Z", "2026-11-26T01:00:00Z"), "from must be before to");
        assert!(range(Some("2026-10-01T00:00:00Z"), Some("2026-11-01T00:00:00Z"), UsageStep::Hour).is_ok());
        assert!(hour("2026-10-01T00:00:00Z", "2026-11-01T01:00:00Z").contains("more than 744 periods"));
        assert!(range(Some("2025-11-26T00:00:00Z"), None, UsageStep::Day).is_ok());
        assert!(range(Some("0001-01-01T00:00:00Z"), Some("9999-01-01T00:00:00Z"), UsageStep::Day).is_err());
    }
}
