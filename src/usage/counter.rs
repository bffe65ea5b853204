//! The table of counters: a fixed number of buckets with few cells each, every bucket behind its own mutex.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::cell::Bucket;
use super::metrics::Metrics;
use crate::clock::Clock;
use crate::id::KeyId;
use crate::store::{UsageCounts, UsageHour, UsageRow};

/// Cells for each bucket of a full table.
const CELLS_PER_BUCKET: usize = 4;
/// How long [`UsageCounter::follow_hours`] sleeps at most: a clock that is set is noticed after that.
const HOUR_CHECK: Duration = Duration::from_secs(10);

/// Counts requests by key, hour and refusal, until they are written. Bounded: further keys are counted together.
///
/// A key that was counted before costs one uncontended lock and some comparisons, and no allocation. There is one table for each tenant.
pub struct UsageCounter {
    buckets: Box<[Mutex<Bucket>]>,
    /// Selects the bucket by the upper bits of a product: random, so that a caller cannot choose keys of one bucket.
    multiplier: u64,
    shift: u32,
    /// The current hour, see [`UsageHour`]: the clock is not read for each request.
    hour: AtomicU32,
    cells: AtomicUsize,
    max_cells: usize,
    /// The requests by hour that found no free cell.
    without_key: Mutex<BTreeMap<UsageHour, UsageCounts>>,
    /// Wakes the writer.
    wake: Notify,
    is_closed: AtomicBool,
    metrics: Metrics,
}

/// Where [`UsageCounter::take`] continues.
#[derive(Debug)]
pub(super) struct Cursor {
    /// `None` at the end of the table.
    bucket: Option<usize>,
}

impl UsageCounter {
    /// An empty table of at most `max_cells` cells. `random` is a random number.
    pub(super) fn new(max_cells: usize, random: u64, hour: UsageHour, metrics: Metrics) -> Self {
        let max_cells = max_cells.max(1);
        let buckets = (max_cells / CELLS_PER_BUCKET).next_power_of_two().max(2);
        Self {
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
            // An odd number maps different keys to different products.
            multiplier: random | 1,
            shift: u64::BITS - buckets.ilog2(),
            hour: AtomicU32::new(hour.0),
            cells: AtomicUsize::new(0),
            max_cells,
            without_key: Mutex::default(),
            wake: Notify::new(),
            is_closed: AtomicBool::new(false),
            metrics,
        }
    }

    /// Counts a request of a key that has ended: the code of the refusal, if it was refused, and the bytes of the two bodies.
    #[inline]
    pub fn count(&self, key: &KeyId, refusal: Option<&'static str>, bytes_received: u64, bytes_sent: u64) {
        match refusal {
            None => self.count_accepted(key, bytes_received, bytes_sent),
            Some(_) => self.count_rare(key, refusal, bytes_received, bytes_sent),
        }
    }

    /// The path of almost all requests.
    fn count_accepted(&self, key: &KeyId, bytes_received: u64, bytes_sent: u64) {
        let mut bucket = lock(self.bucket(key));
        if let Some(cell) = bucket.accepted(key, self.hour()) {
            return cell.count(bytes_received, bytes_sent);
        }
        drop(bucket);
        self.count_rare(key, None, bytes_received, bytes_sent);
    }

    /// Counts a request, adding a cell for it if there is none.
    #[cold]
    fn count_rare(&self, key: &KeyId, refusal: Option<&'static str>, bytes_received: u64, bytes_sent: u64) {
        let hour = self.hour();
        let mut bucket = lock(self.bucket(key));
        let cell = match refusal {
            None => bucket.accepted(key, hour),
            Some(code) => bucket.refused(key, hour, code),
        };
        if let Some(cell) = cell {
            return cell.count(bytes_received, bytes_sent);
        }
        let cells = self.cells.fetch_add(1, Ordering::Relaxed);
        if cells >= self.max_cells {
            self.cells.fetch_sub(1, Ordering::Relaxed);
            let counts = UsageCounts { requests: 1, bytes_received, bytes_sent };
            lock(&self.without_key).entry(hour).or_default().add(counts);
            self.metrics.without_key();
            return;
        }
        if cells == self.max_cells / 2 {
            self.wake.notify_one();
        }
        if let Some(cell) = bucket.add(*key, hour, refusal) {
            cell.count(bytes_received, bytes_sent);
        }
    }

    #[inline]
    fn bucket(&self, key: &KeyId) -> &Mutex<Bucket> {
        // Either id is random or a digest, so a part of it is as good as a hash of all.
        let id: &[u8] = match key {
            KeyId::Issued(id) => id.as_bytes(),
            KeyId::Imported(digest) => digest,
        };
        let part = id.first_chunk().map_or(0, |part| u64::from_ne_bytes(*part));
        let index = usize::try_from(part.wrapping_mul(self.multiplier) >> self.shift).unwrap_or_default();
        &self.buckets[index]
    }

    /// Takes about `limit` rows out of the table. A cell that was used since it was last taken stays in the table, so that its next
    /// request allocates nothing, unless its hour is over or half of the cells are used.
    pub(super) fn take(&self, cursor: &mut Cursor, limit: usize) -> Vec<UsageRow> {
        let is_crowded = self.cells.load(Ordering::Relaxed) > self.max_cells / 2;
        let stays = (!is_crowded).then(|| self.hour());
        let mut rows = Vec::new();
        while let Some(bucket) = cursor.bucket.and_then(|index| self.buckets.get(index)) {
            if rows.len() >= limit {
                return rows;
            }
            let removed = lock(bucket).take(stays, &mut rows);
            self.cells.fetch_sub(removed, Ordering::Relaxed);
            cursor.bucket = cursor.bucket.map(|index| index + 1);
        }
        if cursor.bucket.take().is_some() {
            let without_key = std::mem::take(&mut *lock(&self.without_key));
            rows.extend(without_key.into_iter().map(|(hour, counts)| UsageRow {
                key: None,
                hour,
                refusal: None,
                counts,
            }));
        }
        rows
    }

    /// The number of cells.
    pub(super) fn cells(&self) -> usize {
        self.cells.load(Ordering::Relaxed)
    }

    /// The number of requests in the table.
    pub(super) fn requests(&self) -> u64 {
        let in_cells = self.buckets.iter().map(|bucket| lock(bucket).requests()).sum::<u64>();
        in_cells + lock(&self.without_key).values().map(|counts| counts.requests).sum::<u64>()
    }

    /// Waits until half of the cells are used or the table is closed, at most `time`.
    pub(super) async fn wait(&self, time: Duration) {
        // The time is over in the usual case.
        let _ = timeout(time, self.wake.notified()).await;
    }

    /// Makes the writer write what is left and end.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The hour of the requests that end now.
    #[inline]
    pub(super) fn hour(&self) -> UsageHour {
        UsageHour(self.hour.load(Ordering::Relaxed))
    }

    pub(super) fn set_hour(&self, hour: UsageHour) {
        self.hour.store(hour.0, Ordering::Relaxed);
    }

    /// Counts requests in the hour of the clock. Never returns.
    pub async fn follow_hours(&self, clock: &dyn Clock) {
        loop {
            let now = clock.now();
            let hour = UsageHour::of(now);
            self.set_hour(hour);
            let rest = (UsageHour(hour.0.saturating_add(1)).begin() - now).to_std().unwrap_or_default();
            tokio::time::sleep(rest.clamp(Duration::from_millis(1), HOUR_CHECK)).await;
        }
    }
}

impl Cursor {
    /// The beginning of the table.
    pub(super) fn start() -> Self {
        Self { bucket: Some(0) }
    }

    /// Whether nothing is left to take.
    pub(super) fn is_at_end(&self) -> bool {
        self.bucket.is_none()
    }
}

/// A lock that a panicking thread has poisoned is taken anyway: counts are added in one step.
#[inline]
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
