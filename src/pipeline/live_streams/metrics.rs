//! The metrics of live streams.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::kind::StreamKind;
use super::reason::EndReason;

/// How many live streams there are, and why they were ended.
#[derive(Debug, Clone)]
pub struct LiveStreamMetrics {
    live: IntGaugeVec,
    ended: IntCounterVec,
}

impl LiveStreamMetrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            live: IntGaugeVec::new(
                Opts::new("keygate_live_streams", "WebSockets, event streams and gRPC calls in progress, by kind"),
                &["kind"],
            )?,
            ended: IntCounterVec::new(
                Opts::new("keygate_live_streams_ended_total", "Live streams that were ended by the gateway, by reason"),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.live.clone()))?;
        registry.register(Box::new(metrics.ended.clone()))?;
        for kind in StreamKind::ALL {
            metrics.live(kind).set(0);
        }
        Ok(metrics)
    }

    pub(super) fn live(&self, kind: StreamKind) -> IntGauge {
        self.live.with_label_values(&[kind.name()])
    }

    pub(super) fn count_end(&self, reason: EndReason) {
        self.ended.with_label_values(&[reason.code()]).inc();
    }
}
