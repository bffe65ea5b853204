//! Starts the lookup throttle, which protects the store from floods of unknown credentials.

use std::sync::Arc;

use prometheus::Registry;
use tokio::runtime::Runtime;

use super::error::AppError;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::store::KeyStore;
use crate::verifier::{LookupThrottle, LookupThrottleMetrics, LookupThrottleSettings, lookup_throttle};

/// Maximum number of waiting lookups, about 200 bytes each: as many as the batcher makes in a second.
const MAX_WAITING: usize = 10_000;

/// Starts the throttle and its batcher, if there is a gateway.
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
        waiting: MAX_WAITING,
    };
    let metrics = LookupThrottleMetrics::register(registry)?;
    let (throttle, batcher) =
        lookup_throttle(settings, Arc::<dyn KeyStore>::clone(store), Arc::new(SystemClock), &metrics);
    background.spawn(batcher.run());
    Ok(Some(Arc::new(throttle)))
}
