//! What is counted of one key in one hour.

use crate::id::KeyId;
use crate::store::{UsageCounts, UsageHour, UsageRow};

/// The requests of a key in an hour that were not refused, or that were refused for one reason. One cache line of a processor.
#[derive(Debug)]
pub(super) struct Cell {
    hour: UsageHour,
    key: KeyId,
    counts: UsageCounts,
}

/// The cells of a few keys.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Of requests that were not refused.
    accepted: Vec<Cell>,
    /// Of requests that were refused, with the code of the refusal.
    refused: Vec<(&'static str, Cell)>,
}

impl Cell {
    fn new(key: KeyId, hour: UsageHour) -> Self {
        Self { hour, key, counts: UsageCounts::default() }
    }

    #[inline]
    fn is_for(&self, key: &KeyId, hour: UsageHour) -> bool {
        self.hour == hour && self.key == *key
    }

    /// Counts one request.
    #[inline]
    pub(super) fn count(&mut self, bytes_received: u64, bytes_sent: u64) {
        let counts = &mut self.counts;
        counts.requests += 1;
        counts.bytes_received = counts.bytes_received.wrapping_add(bytes_received);
        counts.bytes_sent = counts.bytes_sent.wrapping_add(bytes_sent);
    }

    /// Moves what is counted to `rows`. Returns whether that is anything.
    fn take(&mut self, refusal: Option<&'static str>, rows: &mut Vec<UsageRow>) -> bool {
        let counts = std::mem::take(&mut self.counts);
        if counts.requests > 0 {
            rows.push(UsageRow { key: Some(self.key), hour: self.hour, refusal, counts });
        }
        counts.requests > 0
    }
}

impl Bucket {
    /// The cell of the accepted requests of a key.
    #[inline]
    pub(super) fn accepted(&mut self, key: &KeyId, hour: UsageHour) -> Option<&mut Cell> {
        self.accepted.iter_mut().find(|cell| cell.is_for(key, hour))
    }

    /// The cell of the refused requests of a key.
    pub(super) fn refused(&mut self, key: &KeyId, hour: UsageHour, code: &str) -> Option<&mut Cell> {
        let cell = self.refused.iter_mut().find(|(refusal, cell)| cell.is_for(key, hour) && *refusal == code);
        cell.map(|(_, cell)| cell)
    }

    /// Adds a cell that the bucket does not have.
    pub(super) fn add(&mut self, key: KeyId, hour: UsageHour, refusal: Option<&'static str>) -> Option<&mut Cell> {
        let cell = Cell::new(key, hour);
        match refusal {
            None => {
                self.accepted.push(cell);
                self.accepted.last_mut()
            }
            Some(code) => {
                self.refused.push((code, cell));
                self.refused.last_mut().map(|(_, cell)| cell)
            }
        }
    }

    /// Moves what is counted to `rows`. A cell that was used stays if it is of `hour`. Returns the number of removed cells.
    pub(super) fn take(&mut self, hour: Option<UsageHour>, rows: &mut Vec<UsageRow>) -> usize {
        let before = self.len();
        self.accepted.retain_mut(|cell| cell.take(None, rows) && Some(cell.hour) == hour);
        self.refused.retain_mut(|(code, cell)| cell.take(Some(code), rows) && Some(cell.hour) == hour);
        let after = self.len();
        if after == 0 {
            // Without this, the memory of all keys that were ever used would stay.
            *self = Self::default();
        }
        before - after
    }

    /// The number of requests.
    pub(super) fn requests(&self) -> u64 {
        self.accepted.iter().chain(self.refused.iter().map(|(_, cell)| cell)).map(|cell| cell.counts.requests).sum()
    }

    fn len(&self) -> usize {
        self.accepted.len() + self.refused.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_fits_in_a_cache_line() {
        assert!(size_of::<Cell>() <= 64);
    }
}
