//! Reloads the configuration at SIGHUP and when its files change.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntGauge, Registry};
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

use super::error::AppError;
use super::running_parts::RunningParts;
use super::secret_files::shared_secret_files;
use super::tls::check_tls;
use crate::clock::{Clock, SystemClock};
use crate::config::{ConfigSource, LoadedConfig};
use crate::telemetry::Log;

/// How often the files are read. A change is loaded when two readings in a row are the same, so that no file is read that is being written.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What a process was started from.
pub struct StartedFrom {
    /// The configuration file and the environment.
    pub source: ConfigSource,
    /// The configuration.
    pub loaded: LoadedConfig,
    /// The digest of the files when it was loaded.
    pub digest: [u8; 32],
    /// The log of the process.
    pub log: Arc<Log>,
}

/// Reloads the configuration of a running process.
pub(super) struct ConfigWatch {
    source: ConfigSource,
    /// With which the process was started.
    started: LoadedConfig,
    /// The last good one.
    current: LoadedConfig,
    /// Of the files when they were loaded, successfully or not.
    loaded_digest: [u8; 32],
    /// Of the files when they were last read.
    seen_digest: [u8; 32],
    parts: RunningParts,
    log: Arc<Log>,
    metrics: Metrics,
}

/// Whether the configuration was reloaded, and which one is in effect.
struct Metrics {
    success: IntGauge,
    timestamp: IntGauge,
    hash: IntGauge,
    restart: IntGauge,
}

impl ConfigWatch {
    /// Reloads into `parts`, which were started from `started`.
    ///
    /// # Errors
    /// If the metrics are registered already.
    pub(super) fn new(started: StartedFrom, parts: RunningParts, registry: &Registry) -> Result<Self, AppError> {
        let StartedFrom { source, loaded, digest, log } = started;
        let metrics = Metrics::register(registry)?;
        metrics.set_loaded(&loaded, 0);
        Ok(Self {
            source,
            started: loaded.clone(),
            current: loaded,
            loaded_digest: digest,
            seen_digest: digest,
            parts,
            log,
            metrics,
        })
    }

    /// Watches the files and SIGHUP until the future is dropped.
    pub(super) async fn run(mut self, mut hangup: Signal) {
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_requested = tokio::select! {
                _ = ticks.tick() => false,
                Some(()) = hangup.recv() => true,
            };
            // The files may be on a slow file system.
            let polled = tokio::task::spawn_blocking(move || {
                self.poll(is_requested);
                self
            });
            match polled.await {
                Ok(watch) => self = watch,
                Err(_) => return tracing::error!("the configuration is no longer reloaded: the task has panicked"),
            }
        }
    }

    /// Reloads if that is requested, or if the files have changed since they were loaded and no longer change.
    fn poll(&mut self, is_requested: bool) {
        let digest = self.source.digest(&self.current);
        let is_stable = std::mem::replace(&mut self.seen_digest, digest) == digest;
        if is_requested || (is_stable && digest != self.loaded_digest) {
            self.loaded_digest = digest;
            match self.reload() {
                Ok(()) => {}
                Err(error) => {
                    self.metrics.success.set(0);
                    tracing::error!("the configuration was not reloaded, the last good one stays in effect: {error}");
                }
            }
        }
    }

    fn reload(&mut self) -> Result<(), AppError> {
        let loaded = self.source.load()?;
        let problems = check_tls(&loaded.config);
        if !problems.is_empty() {
            let problems: Vec<_> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
            return Err(AppError::Setting(format!("files cannot be used:{}", problems.concat())));
        }
        let config = loaded.config.clone().with_running(&self.started.config);
        // The file may be valid only together with the settings that need a restart.
        config.validate()?;
        self.parts.apply(config)?;
        self.log.reconfigure(&loaded.config.log);
        self.report(&loaded);
        if loaded.secret_files() != self.current.secret_files() {
            self.loaded_digest = self.source.digest(&loaded);
            self.seen_digest = self.loaded_digest;
        }
        self.current = loaded;
        Ok(())
    }

    fn report(&self, loaded: &LoadedConfig) {
        let changed: Vec<_> = loaded.changed_settings(&self.current).into_iter().collect();
        let restart = loaded.restart_settings(&self.started);
        self.metrics.set_loaded(loaded, restart.len());
        tracing::info!(
            hash = loaded.hash(),
            changed = changed.join(" "),
            "the configuration was reloaded; {} settings have changed",
            changed.len()
        );
        if !restart.is_empty() {
            tracing::warn!(settings = restart.join(" "), "settings have changed that take effect at a restart only");
        }
        for file in shared_secret_files(&loaded.config, &self.source.files()) {
            tracing::warn!("{file}");
        }
    }
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        Ok(Self {
            success: gauge("keygate_config_reload_success", "1 if the last reload of the configuration succeeded")?,
            timestamp: gauge(
                "keygate_config_reload_timestamp_seconds",
                "When the configuration in effect was loaded, as a Unix time",
            )?,
            hash: gauge(
                "keygate_config_hash",
                "First 48 bits of the hash of the settings; equal on nodes with equal settings",
            )?,
            restart: gauge(
                "keygate_config_restart_settings",
                "Number of settings that have changed since the start and take effect at a restart only",
            )?,
        })
    }

    fn set_loaded(&self, loaded: &LoadedConfig, restart: usize) {
        self.success.set(1);
        self.timestamp.set(SystemClock.now().timestamp());
        self.hash.set(loaded.hash_number());
        self.restart.set(i64::try_from(restart).unwrap_or(i64::MAX));
    }
}
