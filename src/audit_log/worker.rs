//! The task that does the background work.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::watch;
use tokio::time::Instant;

use super::gathered::GatheredCalls;
use super::metrics::Metrics;
use super::output::Output;
use super::sealer::Sealer;
use super::{checkpoint, retention};
use crate::audit::Recorder;
use crate::id::TenantId;
use crate::store::AuditStore;

/// Interval between looks at whether this process has written rows.
const TICK: Duration = Duration::from_millis(400);
/// Interval between looks at whether another process has left rows unsealed.
const IDLE: Duration = Duration::from_secs(5);
/// How long after this process has made a row the row may be committed, in milliseconds.
const COMMITTED: i64 = 30_000;
/// Interval between checkpoints, and between rows of gathered calls.
const MINUTE: Duration = Duration::from_secs(60);
/// Interval between removals of old rows.
const HOUR: Duration = Duration::from_secs(3600);

/// Settings of the background work.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The tenant of rows about no key.
    pub tenant: TenantId,
    /// Where sealed rows are written as JSON lines, if anywhere.
    pub output: Option<Output>,
    /// How long rows are kept; zero for no limit.
    pub retention: Duration,
}

/// The background work of a process.
pub struct Worker {
    settings: Settings,
    store: Arc<dyn AuditStore>,
    recorder: Arc<Recorder>,
    gathered: Arc<GatheredCalls>,
    metrics: Metrics,
    sealer: Sealer,
}

impl Worker {
    /// The work on a trail. `recorder` makes the rows of this process.
    pub fn new(
        settings: Settings,
        store: Arc<dyn AuditStore>,
        recorder: Arc<Recorder>,
        gathered: Arc<GatheredCalls>,
        metrics: Metrics,
    ) -> Self {
        let output = settings.output.clone();
        let sealer = Sealer::new(Arc::clone(&store), Arc::clone(&recorder), output, metrics.clone());
        Self { settings, store, recorder, gathered, metrics, sealer }
    }

    /// Works until `stop` is true or its sender is gone, and then seals what is left.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        // Chains that ended before a checkpoint named their last rows are tied at once.
        self.seal().await;
        self.checkpoint(true).await;
        let (mut sealed, mut minute, mut hour) = (Instant::now(), Instant::now(), None);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(TICK) => {}
            }
            if self.is_active() || sealed.elapsed() >= IDLE {
                sealed = Instant::now();
                self.seal().await;
            }
            if minute.elapsed() >= MINUTE {
                minute = Instant::now();
                self.record_gathered().await;
                self.checkpoint(false).await;
            }
            if hour.is_none_or(|last: Instant| last.elapsed() >= HOUR) {
                hour = Some(Instant::now());
                self.prune().await;
            }
        }
        self.record_gathered().await;
        self.seal().await;
        self.checkpoint(true).await;
    }

    /// Whether this process may have committed rows that are not sealed.
    fn is_active(&self) -> bool {
        self.recorder.now().timestamp_millis().saturating_sub(self.recorder.last_made()) < COMMITTED
    }

    async fn seal(&mut self) {
        if let Err(error) = self.sealer.seal_all().await {
            self.metrics.failed("seal", &error);
        }
    }

    async fn checkpoint(&mut self, now: bool) {
        match checkpoint::write(&*self.store, &self.recorder, self.settings.tenant, now).await {
            Ok(true) => self.seal().await,
            Ok(false) => {}
            Err(error) => self.metrics.failed("checkpoint", &error),
        }
    }

    async fn record_gathered(&self) {
        let (tenant, recorder) = (self.settings.tenant, &self.recorder);
        let (refused, failed) = (self.gathered.refused.take(), self.gathered.failed_verifications.take());
        let refused = refused.iter().map(|refusal| recorder.refused(tenant, refusal));
        let failed = failed.iter().map(|failed| recorder.verifications_failed(tenant, failed));
        let rows: Vec<_> = refused.chain(failed).collect();
        if let Err(error) = self.store.record(&rows).await {
            self.metrics.failed("gathered_calls", &error);
        }
    }

    async fn prune(&self) {
        let keep = TimeDelta::from_std(self.settings.retention).ok().filter(|keep| !keep.is_zero());
        let Some(before) = keep.and_then(|keep| self.recorder.now().checked_sub_signed(keep)) else { return };
        if let Err(error) = retention::prune(&*self.store, &self.recorder, before).await {
            self.metrics.failed("retention", &error);
        }
    }
}
