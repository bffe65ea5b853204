//! Starts and stops the export of traces.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::EngineError;
use crate::config::{Config, TracingProtocol};
use crate::traces::otlp::{Exporter, Protocol, Settings};
use crate::traces::{Metrics, Tracer, tracer};

/// Time limit for sending the remaining spans when the process stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The tracer, and the task that sends what it has taken.
pub(super) struct Traces {
    tracer: Arc<Tracer>,
    stop: watch::Sender<bool>,
    exporting: JoinSet<()>,
}

impl Traces {
    /// `None` if there are no traces: they are switched off, or their collector cannot be used.
    pub(super) fn start(config: &Config, registry: &Registry) -> Result<Option<Self>, EngineError> {
        let config = &config.tracing;
        if !config.enabled {
            return Ok(None);
        }
        let url = config.url().map_err(|why| EngineError::Setting(format!("tracing.endpoint: {why}")))?;
        let authorities = config.tls.ca_file.as_deref().map(std::fs::read).transpose();
        let authorities = match authorities {
            Ok(authorities) => authorities,
            Err(error) => {
                tracing::error!("traces are not recorded: {error}; correct tracing.tls.ca_file and restart");
                return Ok(None);
            }
        };
        let settings = Settings {
            protocol: match config.protocol {
                TracingProtocol::Grpc => Protocol::Grpc,
                TracingProtocol::HttpProtobuf => Protocol::Http,
            },
            url,
            authorities,
            fields: config.fields(),
            service_name: config.service_name.clone(),
            service_version: config.service_version.clone(),
            environment: config.environment.clone(),
        };
        let metrics = Metrics::register(registry)?;
        let (tracer, queue) = tracer(config.sample_rate, metrics.clone());
        let (stop, stopped) = watch::channel(false);
        let exporter = match Exporter::new(&settings, queue, metrics, stopped) {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(
                    "traces are not recorded: {error}; correct tracing.endpoint or tracing.tls.ca_file and restart"
                );
                return Ok(None);
            }
        };
        let mut exporting = JoinSet::new();
        exporting.spawn(exporter.run());
        Ok(Some(Self { tracer: Arc::new(tracer), stop, exporting }))
    }

    pub(super) fn tracer(&self) -> Arc<Tracer> {
        Arc::clone(&self.tracer)
    }

    /// Sends the remaining spans. Called when no more requests are served.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(STOP_TIMEOUT, self.exporting.join_all()).await.is_err() {
            tracing::warn!("the last spans were not sent in time and are lost");
        }
    }
}
