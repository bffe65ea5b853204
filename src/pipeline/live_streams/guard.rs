//! A live stream as its exchange keeps it.

use std::sync::Arc;

use prometheus::IntGauge;

use super::metrics::LiveStreamMetrics;
use super::reason::EndReason;
use super::registry::Registry;

/// Counts a live stream until it is dropped, and removes it from the registry then.
pub(in crate::pipeline) struct LiveStream {
    pub(super) metrics: LiveStreamMetrics,
    pub(super) live: IntGauge,
    /// `None` for a stream that no key can end.
    pub(super) watched: Option<(Arc<Registry>, u64)>,
}

impl LiveStream {
    /// Counts the end of the stream.
    pub(in crate::pipeline) fn count_end(&self, reason: EndReason) {
        self.metrics.count_end(reason);
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        self.live.dec();
        if let Some((registry, id)) = &self.watched {
            registry.remove(*id);
        }
    }
}
