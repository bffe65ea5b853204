//! Adds what is counted to the store, in batches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::counter::{Cursor, UsageCounter};
use super::metrics::Metrics;
use crate::clock::Clock;
use crate::request_context::RequestContext;
use crate::store::{StoreError, UsageBatch, UsageHour, UsageStore};

/// Rows in a batch, few enough to delay no other statement noticeably.
const BATCH: usize = 1000;
/// How long a closed writer waits after a failed write.
const RETRY: Duration = Duration::from_millis(200);

/// Sizes and times of the table and its batches.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Maximum number of counters in memory.
    pub max_counters: usize,
    /// How often they are written.
    pub flush_interval: Duration,
}

/// Writes what a [`UsageCounter`] counts.
pub struct Writer {
    context: RequestContext,
    counter: Arc<UsageCounter>,
    flush_interval: Duration,
    store: Arc<dyn UsageStore>,
    /// The name of this process.
    id: Uuid,
    pending: Mutex<Pending>,
    metrics: Metrics,
}

/// The batch of which it is not known whether the store has it, and the number of the last batch.
#[derive(Default)]
struct Pending {
    batch: Option<Arc<UsageBatch>>,
    number: u64,
}

/// Creates a counter and its writer, which writes under `context`, for the tenant of it.
pub fn usage_counter(
    context: RequestContext,
    settings: Settings,
    store: Arc<dyn UsageStore>,
    clock: &dyn Clock,
    metrics: &Metrics,
) -> (Arc<UsageCounter>, Writer) {
    let hour = UsageHour::of(clock.now());
    let counter = Arc::new(UsageCounter::new(settings.max_counters, rand::random(), hour, metrics.clone()));
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let writer = Writer {
        context,
        counter: Arc::clone(&counter),
        flush_interval: settings.flush_interval,
        store,
        id,
        pending: Mutex::default(),
        metrics: metrics.clone(),
    };
    (counter, writer)
}

impl Writer {
    /// Writes until the counter is closed and everything is written. Logs the first of consecutive failures.
    pub async fn run(&self) {
        let mut is_failing = false;
        loop {
            let pause = if self.counter.is_closed() { RETRY } else { self.flush_interval };
            self.counter.wait(pause).await;
            let is_last = self.counter.is_closed();
            let written = self.flush().await;
            self.metrics.set_cells(self.counter.cells());
            if let Err(error) = &written {
                self.metrics.failed();
                if !is_failing {
                    tracing::warn!(%error, "the usage of keys cannot be written; it is kept and tried again");
                }
            } else if is_failing {
                tracing::info!("the usage of keys is written again");
            }
            is_failing = written.is_err();
            if is_last && !is_failing {
                break;
            }
        }
    }

    /// Writes what is counted. A batch that failed is first, unchanged; what is counted after it stays in the table until the store has
    /// the batch.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        let mut cursor = Cursor::start();
        while let Some(batch) = self.next(&mut cursor) {
            self.store.add_usage(&self.context, &batch).await?;
            self.metrics.written(batch.requests());
            self.pending().batch = None;
        }
        Ok(())
    }

    /// The batch to write, which is pending then; `None` at the end of the table.
    fn next(&self, cursor: &mut Cursor) -> Option<Arc<UsageBatch>> {
        let mut pending = self.pending();
        while pending.batch.is_none() {
            if cursor.is_at_end() {
                return None;
            }
            let rows = self.counter.take(cursor, BATCH);
            if !rows.is_empty() {
                pending.number += 1;
                let (tenant, hour) = (self.context.tenant, self.counter.hour());
                let batch = UsageBatch { tenant, writer: self.id, number: pending.number, hour, rows };
                pending.batch = Some(Arc::new(batch));
            }
        }
        pending.batch.clone()
    }

    /// The number of requests that are not known to be written.
    fn unwritten(&self) -> u64 {
        let in_batch = self.pending().batch.as_ref().map_or(0, |batch| batch.requests());
        in_batch + self.counter.requests()
    }

    /// Gives up what is not written: counts and logs it.
    pub fn give_up(&self) {
        let requests = self.unwritten();
        self.metrics.lost(requests);
        tracing::warn!(
            requests,
            "the last requests of keys are missing in their usage: the database did not take them in time"
        );
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
