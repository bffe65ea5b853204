//! Starts the lookup throttle, which protects the store from floods of unknown credentials.

use std::sync::Arc;

use prometheus::Registry;

use super::tasks::Tasks;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::store::KeyStore;
use crate::verifier::{LookupThrottle, LookupThrottleMetrics, LookupThrottleSettings, lookup_throttle};

/// Maximum number of waiting lookups, about 200 bytes each: as many as the batcher makes in a second.
const MAX_WAITING: usize = 10_000;

/// Starts the throttle and its batcher.
pub(super) fn start(
    config: &Config,
    store: &Arc<dyn KeyStore>,
    registry: &Registry,
    tasks: &mut Tasks,
) -> Result<Arc<LookupThrottle>, prometheus::Error> {
    let unknown_keys = config.gateway.as_ref().map(|gateway| gateway.unknown_keys).unwrap_or_default();
    let settings =
        LookupThrottleSettings { burst: unknown_keys.burst, per_second: unknown_keys.per_second, waiting: MAX_WAITING };
    let metrics = LookupThrottleMetrics::register(registry)?;
    let (throttle, batcher) =
        lookup_throttle(settings, Arc::<dyn KeyStore>::clone(store), Arc::new(SystemClock), &metrics);
    tasks.spawn(batcher.run());
    Ok(Arc::new(throttle))
}
