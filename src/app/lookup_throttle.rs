//! The throttle against floods of unknown credentials: from the configuration to the task that makes the lookups that wait at it.

use std::sync::Arc;

use prometheus::Registry;
use tokio::runtime::Runtime;

use super::AppError;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::store::KeyStore;
use crate::verifier::{LookupThrottle, LookupThrottleMetrics, LookupThrottleSettings, lookup_throttle};

/// Lookups that may wait: as many as are made within a second, some 200 bytes each.
const WAITING: usize = 10_000;

/// Starts it, if there is a gateway that it can throttle.
pub(super) fn start(
    config: &Config,
    store: &Arc<dyn KeyStore>,
    registry: &Registry,
    background: &Runtime,
) -> Result<Option<Arc<LookupThrottle>>, AppError> {
    let Some(gateway) = &config.gateway else {
        return Ok(None);
    };
    let settings = LookupThrottleSettings {
        burst: gateway.unknown_keys.burst,
        per_second: gateway.unknown_keys.per_second,
        waiting: WAITING,
    };
    let metrics = LookupThrottleMetrics::register(registry)?;
    let (throttle, batcher) =
        lookup_throttle(settings, Arc::<dyn KeyStore>::clone(store), Arc::new(SystemClock), &metrics);
    background.spawn(batcher.run());
    Ok(Some(Arc::new(throttle)))
}
