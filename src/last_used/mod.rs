//! When keys were last used, to the day: noted without waiting, written in batches by others.

mod metrics;
mod today;
mod writer;

pub use metrics::Metrics;
pub use writer::Writer;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::mpsc;

use self::today::{Mark, Today};
use crate::clock::{Clock, Timestamp};
use crate::id::{KeyId, TenantId};
use crate::key::CachedKey;
use crate::request_context::RequestContext;
use crate::store::KeyStore;

/// How uses are written.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Uses that may wait; what comes beyond is dropped.
    pub queue_size: usize,
    /// Uses that are written at once.
    pub flush_size: usize,
    /// How long a use waits at the most for others to be written with.
    pub flush_interval: Duration,
}

/// Takes note of uses. A key is noted once a day; on the way to that, a use costs a comparison, or a look at one line of memory.
pub struct Tracker {
    today: Arc<Today>,
    /// None once no more uses are taken.
    queue: RwLock<Option<mpsc::Sender<Use>>>,
    metrics: Metrics,
}

/// A use that waits to be written.
struct Use {
    key: (TenantId, KeyId),
    mark: Mark,
}

/// A tracker, and the writer of what it notes, which writes under `context`.
pub fn tracker(
    context: RequestContext,
    settings: Settings,
    store: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
) -> (Tracker, Writer) {
    let (sender, receiver) = mpsc::channel(settings.queue_size.max(1));
    let today = Arc::new(Today::new());
    let writer = Writer::new(context, settings, receiver, Arc::clone(&today), store, clock, metrics.clone());
    (Tracker { today, queue: RwLock::new(Some(sender)), metrics: metrics.clone() }, writer)
}

impl Tracker {
    /// Notes that a key was used, unless that is known of this day (UTC). Never waits: when too many uses wait to be written,
    /// this one is dropped, and the next one of the key is tried again.
    pub fn note(&self, key: &CachedKey, now: Timestamp) {
        if key.is_used_on(now) {
            return;
        }
        let mark = self.today.mark(key, now);
        if !self.today.add(mark) {
            return;
        }
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let noted = Use { key: (key.tenant(), key.id()), mark };
        let queued = queue.as_ref().is_some_and(|queue| queue.try_send(noted).is_ok());
        if !queued {
            self.today.forget(mark);
            self.metrics.dropped();
        }
    }

    /// Takes no more uses, so that the writer comes to an end.
    pub fn close(&self) {
        self.queue.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests;
