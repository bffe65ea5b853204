//! Starts and stops the counting of the usage of keys.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::task::JoinSet;

use super::tasks::Tasks;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::request_context::RequestContext;
use crate::store::KeyStore;
use crate::usage::{self, UsageCounter, Writer};

/// Time limit for writing the remaining counts when the process stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The counter, and the task that writes what it counts.
pub(super) struct Usage {
    counter: Arc<UsageCounter>,
    writer: Arc<Writer>,
    writing: JoinSet<()>,
}

impl Usage {
    /// `None` if usage is not counted: it is switched off, or the store keeps none.
    pub(super) fn start(
        config: &Config,
        store: &Arc<dyn KeyStore>,
        registry: &Registry,
        tasks: &mut Tasks,
    ) -> Result<Option<Self>, prometheus::Error> {
        let Some(store) = Arc::clone(store).usage().filter(|_| config.usage.enabled) else { return Ok(None) };
        let settings = usage::Settings {
            max_counters: usize::try_from(config.usage.max_counters).unwrap_or(usize::MAX),
            flush_interval: config.usage.flush_interval.0,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let context = RequestContext::system(config.tenant());
        let metrics = usage::Metrics::register(registry)?;
        let (counter, writer) = usage::usage_counter(context, settings, store, &*clock, &metrics);
        let writer = Arc::new(writer);
        let mut writing = JoinSet::new();
        writing.spawn({
            let writer = Arc::clone(&writer);
            async move { writer.run().await }
        });
        tasks.spawn({
            let counter = Arc::clone(&counter);
            async move { counter.follow_hours(&*clock).await }
        });
        Ok(Some(Self { counter, writer, writing }))
    }

    pub(super) fn counter(&self) -> Arc<UsageCounter> {
        Arc::clone(&self.counter)
    }

    /// Writes the remaining counts. Called when no more requests are served.
    pub(super) async fn stop(self) {
        self.counter.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.writing.join_all()).await.is_err() {
            self.writer.give_up();
        }
    }
}
