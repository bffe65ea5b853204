//! Starts and stops the recording of when keys were last used.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::task::JoinSet;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::last_used::{self, Tracker};
use crate::request_context::RequestContext;
use crate::store::KeyStore;

/// Time limit for writing the remaining uses when the process stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The tracker, and the tasks that write what it records.
pub(super) struct LastUsed {
    tracker: Arc<Tracker>,
    writers: JoinSet<()>,
}

impl LastUsed {
    pub(super) fn start(
        config: &Config,
        store: &Arc<dyn KeyStore>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let settings = &config.last_used;
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let (tracker, writer) = last_used::tracker(
            RequestContext::system(config.tenant()),
            last_used::Settings {
                queue_size: size(settings.queue_size),
                flush_size: size(settings.flush_size),
                flush_interval: settings.flush_interval.0,
            },
            Arc::clone(store),
            Arc::new(SystemClock),
            &last_used::Metrics::register(registry)?,
        );
        let writer = Arc::new(writer);
        let mut writers = JoinSet::new();
        for _ in 0..settings.num_workers {
            let writer = Arc::clone(&writer);
            writers.spawn(async move { writer.run().await });
        }
        Ok(Self { tracker: Arc::new(tracker), writers })
    }

    pub(super) fn tracker(&self) -> Arc<Tracker> {
        Arc::clone(&self.tracker)
    }

    /// Writes the remaining uses. Called when no more credentials are verified.
    pub(super) async fn stop(self) {
        self.tracker.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.writers.join_all()).await.is_err() {
            tracing::warn!("the last uses of some keys were not written: the database did not take them in time");
        }
    }
}
