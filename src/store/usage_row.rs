//! Rows of the usage of keys, for every database.

use super::error::StoreError;
use super::row::{kind_text, read_id};
use super::usage_store::{UsageBatch, UsageCounts, UsageHour, UsageRow, UsageSum};
use crate::id::KeyId;

/// The columns `kind` and `key_id` of a row; both are empty for requests that were not counted by key.
pub(super) fn key_columns(key: Option<KeyId>) -> (&'static str, String) {
    key.map_or_else(|| ("", String::new()), |key| (kind_text(key.kind()), key.to_string()))
}

/// The rows of a batch in the order in which all writers add them, so that two of them cannot deadlock.
pub(super) fn ordered(batch: &UsageBatch) -> Vec<&UsageRow> {
    let mut rows: Vec<_> = batch.rows.iter().collect();
    rows.sort_unstable_by_key(|row| (row.key, row.hour, row.refusal));
    rows
}

/// A count as a column: no database has unsigned numbers.
pub(super) fn count_column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A row of sums as it is read.
pub(super) type SumRow = (bool, i64, String, i64, i64, i64);

/// Converts a row of sums.
pub(super) fn read_sum(row: SumRow) -> Result<UsageSum, StoreError> {
    let (is_of_key, period, refusal, requests, bytes_received, bytes_sent) = row;
    let negative = |_| StoreError::Corrupt(format!("usage of hour {period} has a negative number"));
    let count = |count: i64| u64::try_from(count).map_err(negative);
    let counts = UsageCounts {
        requests: count(requests)?,
        bytes_received: count(bytes_received)?,
        bytes_sent: count(bytes_sent)?,
    };
    let period = u32::try_from(period).map_err(negative)?;
    Ok(UsageSum { is_of_key, period: UsageHour(period), refusal, counts })
}

/// A row of the keys with the most requests as it is read: kind, id, requests.
pub(super) type TopRow = (String, String, i64);

/// Converts a row of the keys with the most requests.
pub(super) fn read_top((kind, id, requests): TopRow) -> Result<(KeyId, u64), StoreError> {
    let key = read_id(&kind, &id).ok_or_else(|| StoreError::Corrupt(format!("usage of the key {kind} {id}")))?;
    let requests = u64::try_from(requests).map_err(|_| StoreError::Corrupt(format!("usage of {id} is negative")))?;
    Ok((key, requests))
}
