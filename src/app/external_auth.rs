//! Starts external authorization on sockets that are bound already.

use std::sync::Arc;

use super::error::AppError;
use super::limiter::RunningLimiter;
use crate::config::Config;
use crate::external_auth::{ExternalAuth, Sockets};
use crate::pipeline::{Metrics, SnapshotParts};
use crate::verifier::Verifier;

/// Starts external authorization, if the configuration has it.
pub(super) fn start(
    config: &Config,
    sockets: Sockets,
    verifier: &Arc<Verifier>,
    limits: &RunningLimiter,
    metrics: Metrics,
) -> Result<Option<ExternalAuth>, AppError> {
    let (Some(settings), Some(routes)) = (&config.external_auth, &config.gateway) else {
        return Ok(None);
    };
    let parts = SnapshotParts {
        config: routes,
        verifier: Arc::clone(verifier),
        limiter: limits.limiter.clone(),
        on_backend_down: config.rate_limit.on_backend_down,
        tenant: config.tenant(),
        revoke_with_parent: config.credentials.derived_tokens.revoke_with_parent,
        metrics,
    };
    ExternalAuth::start(settings, parts, sockets).map(Some).map_err(AppError::ExternalAuth)
}
