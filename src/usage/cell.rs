//! What is counted of one key, and what has the same place in the table.

use crate::id::KeyId;
use crate::store::{UsageCounts, UsageHour, UsageRow};

/// The requests of a key in an hour that were not refused, or that were refused for one reason.
#[derive(Debug)]
pub(super) struct Cell {
    hour: UsageHour,
    /// The code of the refusal.
    refusal: Option<&'static str>,
    key: KeyId,
    counts: UsageCounts,
}

impl Cell {
    pub(super) fn new(key: KeyId, hour: UsageHour, refusal: Option<&'static str>, counts: UsageCounts) -> Self {
        Self { hour, refusal, key, counts }
    }

    /// Whether requests of `key` in `hour` with this outcome are counted here.
    #[inline]
    pub(super) fn is_for(&self, key: &KeyId, hour: UsageHour, refusal: Option<&'static str>) -> bool {
        let is_same_refusal = match (self.refusal, refusal) {
            (None, None) => true,
            (Some(mine), Some(other)) => mine == other,
            _ => false,
        };
        is_same_refusal && self.hour == hour && self.key == *key
    }

    /// Counts one request.
    #[inline]
    pub(super) fn count(&mut self, bytes_received: u64, bytes_sent: u64) {
        let counts = &mut self.counts;
        counts.requests += 1;
        counts.bytes_received = counts.bytes_received.wrapping_add(bytes_received);
        counts.bytes_sent = counts.bytes_sent.wrapping_add(bytes_sent);
    }

    /// The hour of the requests.
    pub(super) fn hour(&self) -> UsageHour {
        self.hour
    }

    /// The number of requests.
    pub(super) fn requests(&self) -> u64 {
        self.counts.requests
    }

    /// Takes what is counted. `None` if that is nothing.
    pub(super) fn take(&mut self) -> Option<UsageRow> {
        let counts = std::mem::take(&mut self.counts);
        (counts.requests > 0).then_some(UsageRow {
            key: Some(self.key),
            hour: self.hour,
            refusal: self.refusal,
            counts,
        })
    }
}
