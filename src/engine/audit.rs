//! Starts and stops the background work of the audit trail.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::audit_log::{GatheredCalls, Metrics, Output, Settings, Worker};
use crate::config::Config;
use crate::lifecycle::Lifecycle;

/// Time limit for sealing the last rows when the process stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The audit trail of a running engine.
pub(super) struct AuditTrail {
    gathered: Arc<GatheredCalls>,
    /// `None` if the store keeps no trail.
    work: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl AuditTrail {
    pub(super) fn start(
        config: &Config,
        lifecycle: &Lifecycle,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let gathered = Arc::new(GatheredCalls::default());
        let metrics = Metrics::register(registry)?;
        let Some((store, recorder)) = lifecycle.audit() else { return Ok(Self { gathered, work: None }) };
        let settings = Settings {
            tenant: config.tenant(),
            output: config.audit.output.as_deref().map(output),
            retention: config.audit.retention.0,
        };
        let worker = Worker::new(settings, store, recorder, Arc::clone(&gathered), metrics);
        let (stop, stopped) = watch::channel(false);
        Ok(Self { gathered, work: Some((stop, tokio::spawn(worker.run(stopped)))) })
    }

    pub(super) fn gathered(&self) -> Arc<GatheredCalls> {
        Arc::clone(&self.gathered)
    }

    /// Seals the last rows. Called when no more keys are changed.
    pub(super) async fn stop(self) {
        let Some((stop, mut work)) = self.work else { return };
        // An error means that the work has ended already.
        let _ = stop.send(true);
        if tokio::time::timeout(STOP_TIMEOUT, &mut work).await.is_err() {
            work.abort();
            tracing::warn!("the last rows of the audit trail were not sealed in time; the next process seals them");
        }
    }
}

fn output(text: &str) -> Output {
    match text {
        "stdout" => Output::Stdout,
        path => Output::File(PathBuf::from(path)),
    }
}
