//! The throttle of addresses that repeatedly present rejected credentials.

use std::sync::Arc;

use prometheus::Registry;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::pipeline::{AuthFailureMetrics, AuthFailureThrottle};
use crate::ratelimit::AddressBudget;

/// The throttle of `gateway.auth_failures`; `None` if it is off.
pub(super) fn start(
    config: &Config,
    registry: &Registry,
) -> Result<Option<Arc<AuthFailureThrottle>>, prometheus::Error> {
    let settings = config.gateway.as_ref().map(|gateway| gateway.auth_failures).unwrap_or_default();
    let metrics = AuthFailureMetrics::register(registry)?;
    let budget = AddressBudget::new(settings.burst, settings.per_second, Arc::new(SystemClock));
    Ok(AuthFailureThrottle::new(&settings, budget, &metrics).map(Arc::new))
}
