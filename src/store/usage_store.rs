//! The trait of stores of the usage of keys, and the values that it takes and returns.

use async_trait::async_trait;
use uuid::Uuid;

use super::error::StoreError;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::request_context::RequestContext;

const SECONDS_PER_HOUR: i64 = 3600;
/// The maximum number of rows that [`UsageStore::top_usage`] reads.
pub const TOP_ROWS_MAX: u32 = 50_000;

/// The usage of keys: what their requests add up to, by key, hour and refusal.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Adds the rows of a batch to those that are stored, in one transaction. Adds nothing if this batch or a later one of the same
    /// writer was added before: a batch of which it is not known whether it was added can be added again. Each row of a batch has
    /// another key, hour or refusal.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the rows were added: all of them or none.
    async fn add_usage(&self, context: &RequestContext, batch: &UsageBatch) -> Result<(), StoreError>;

    /// Returns the sums of the rows of a key and of the rows without a key, ascending by their period.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn usage_of(&self, query: &UsageQuery) -> Result<Vec<UsageSum>, StoreError>;

    /// Returns the keys with the most requests, the highest number first, then by kind and id. Sums at most [`TOP_ROWS_MAX`] rows: with more
    /// of them, the numbers may be too low.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn top_usage(&self, query: &TopUsageQuery) -> Result<Vec<(KeyId, u64)>, StoreError>;

    /// Removes rows of every tenant of hours before `before`, at most `limit`. Returns how many. Only for
    /// [`Principal::System`](crate::request_context::Principal::System).
    ///
    /// # Errors
    /// [`StoreError`] when it is not known which were removed.
    async fn prune_usage(&self, context: &RequestContext, before: UsageHour, limit: u32) -> Result<u64, StoreError>;
}

/// An hour (UTC), as the number of hours since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageHour(pub u32);

/// What requests add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// Their number.
    pub requests: u64,
    /// The bytes of their bodies.
    pub bytes_received: u64,
    /// The bytes of the bodies of their responses.
    pub bytes_sent: u64,
}

/// The requests of a key in an hour that were not refused, or that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The key; `None` for the requests of all keys that a node could not count apart.
    pub key: Option<KeyId>,
    /// The hour in which the requests ended.
    pub hour: UsageHour,
    /// The code of the refusal; `None` for requests that were not refused.
    pub refusal: Option<&'static str>,
    /// What the requests add up to.
    pub counts: UsageCounts,
}

/// Rows that are added together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageBatch {
    /// The tenant of the keys.
    pub tenant: TenantId,
    /// The process that counted the requests.
    pub writer: Uuid,
    /// The number of the batch, ascending for each writer.
    pub number: u64,
    /// The hour in which the batch was made.
    pub hour: UsageHour,
    /// The rows.
    pub rows: Vec<UsageRow>,
}

/// Which usage to sum up.
#[derive(Debug, Clone, Copy)]
pub struct UsageQuery {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// The first hour.
    pub from: UsageHour,
    /// The hour after the last one.
    pub to: UsageHour,
    /// The number of hours in a period: periods begin at multiples of it.
    pub step: u32,
}

/// Which keys have the most requests.
#[derive(Debug, Clone, Copy)]
pub struct TopUsageQuery {
    /// The tenant of the keys.
    pub tenant: TenantId,
    /// The first hour.
    pub from: UsageHour,
    /// Whether only refused requests count.
    pub only_refused: bool,
    /// The maximum number of keys.
    pub limit: u32,
}

/// What the requests of a period add up to that were not refused, or that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSum {
    /// Whether these are requests of the key; otherwise requests of all keys that a node could not count apart.
    pub is_of_key: bool,
    /// The first hour of the period.
    pub period: UsageHour,
    /// The code of the refusal; empty for requests that were not refused.
    pub refusal: String,
    /// What the requests add up to.
    pub counts: UsageCounts,
}

impl UsageHour {
    /// The hour of a time; the first or the last one for a time before 1970 or after the year 491936.
    pub fn of(time: Timestamp) -> Self {
        let hours = time.timestamp().div_euclid(SECONDS_PER_HOUR);
        Self(u32::try_from(hours.max(0)).unwrap_or(u32::MAX))
    }

    /// The time at which the hour begins; the latest time for an hour after the year 262142.
    pub fn begin(self) -> Timestamp {
        Timestamp::from_timestamp(i64::from(self.0) * SECONDS_PER_HOUR, 0).unwrap_or(Timestamp::MAX_UTC)
    }

    /// The first hour of the period that has this hour.
    #[must_use]
    pub fn period(self, step: u32) -> Self {
        Self(self.0 - self.0 % step.max(1))
    }
}

impl UsageCounts {
    /// Adds other counts.
    pub fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
        self.bytes_sent = self.bytes_sent.saturating_add(other.bytes_sent);
    }
}

impl UsageBatch {
    /// The number of requests in the batch.
    pub fn requests(&self) -> u64 {
        self.rows.iter().map(|row| row.counts.requests).sum()
    }
}
