//! Queues the first use of each key on a day.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::mpsc;

use super::daily_set::{DailySet, Noted};
use super::metrics::Metrics;
use super::writer::{Settings, Use, Writer};
use crate::clock::{Clock, Timestamp};
use crate::key::CachedKey;
use crate::request_context::RequestContext;
use crate::store::KeyStore;

/// Queues uses of keys, at most one per key and day. A repeated use costs a comparison or a read of one cache line.
pub struct Tracker {
    queued_today: Arc<DailySet>,
    /// `None` once the tracker is closed.
    queue: RwLock<Option<mpsc::Sender<Use>>>,
    metrics: Metrics,
}

/// Creates a tracker and the writer of its queue, which writes under `context`.
pub fn tracker(
    context: RequestContext,
    settings: Settings,
    store: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
) -> (Tracker, Writer) {
    let (sender, receiver) = mpsc::channel(settings.queue_size.max(1));
    let queued_today = Arc::new(DailySet::new());
    let writer = Writer::new(context, settings, receiver, Arc::clone(&queued_today), store, clock, metrics.clone());
    (Tracker { queued_today, queue: RwLock::new(Some(sender)), metrics: metrics.clone() }, writer)
}

impl Tracker {
    /// Queues a use of a key, unless one of the same day (UTC) is queued or recorded already. Never waits: if the queue is
    /// full, the use is dropped, and the next use of the key is queued again.
    pub fn note(&self, key: &CachedKey, now: Timestamp) {
        self.note_use(key, now);
    }

    /// As [`Tracker::note`], of a key whose use was noted before. `noted` is what is known of that use; it is replaced.
    #[inline]
    pub fn note_again(&self, key: &CachedKey, now: Timestamp, noted: &mut Option<Noted>) {
        let this = self.queued_today.noted(key, now);
        if *noted != Some(this) {
            *noted = self.note_use(key, now).then_some(this);
        }
    }

    /// Whether the use is queued or recorded.
    fn note_use(&self, key: &CachedKey, now: Timestamp) -> bool {
        if key.is_used_on(now) {
            return true;
        }
        let mark = self.queued_today.mark(key, now);
        if !self.queued_today.insert(mark) {
            return true;
        }
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let first_use = Use { key: (key.tenant(), key.id()), mark };
        let queued = queue.as_ref().is_some_and(|queue| queue.try_send(first_use).is_ok());
        if !queued {
            self.queued_today.remove(mark);
            self.metrics.dropped();
        }
        queued
    }

    /// Closes the queue. The writer returns once it has written what is queued.
    pub fn close(&self) {
        self.queue.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}
