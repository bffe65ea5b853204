//! Starts external authorization on sockets that are bound already.

use tokio::sync::watch;

use super::error::AppError;
use crate::engine::RunningEngine;
use crate::external_auth::{ExternalAuth, Sockets};
use crate::listener::Admission;

/// Starts external authorization, if the configuration has it.
pub(super) fn start(
    engine: &RunningEngine,
    sockets: Sockets,
    admission: Admission,
    opened: Option<watch::Receiver<bool>>,
) -> Result<Option<ExternalAuth>, AppError> {
    let config = engine.config();
    let (Some(settings), Some(routes)) = (&config.external_auth, &config.gateway) else {
        return Ok(None);
    };
    let parts = engine.snapshot_parts(routes);
    let idle = config.serve.shutdown_idle_timeout.0;
    ExternalAuth::start(settings, parts, sockets, admission, opened, idle).map(Some).map_err(AppError::ExternalAuth)
}
