//! Instead of the export of traces in a program that is built without it.

use std::sync::Arc;

use prometheus::Registry;

use super::error::EngineError;
use crate::config::Config;
use crate::traces::Tracer;

/// There are no traces.
pub(super) enum Traces {}

impl Traces {
    /// `None`.
    ///
    /// # Errors
    /// If traces are configured.
    pub(super) fn start(config: &Config, _: &Registry) -> Result<Option<Self>, EngineError> {
        if config.tracing.enabled {
            return Err(EngineError::Setting(
                "tracing.enabled: this program is built without traces; enable the feature otlp of keygate".into(),
            ));
        }
        Ok(None)
    }

    pub(super) fn tracer(&self) -> Arc<Tracer> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as with an exporter")]
    pub(super) async fn stop(self) {
        match self {}
    }
}
