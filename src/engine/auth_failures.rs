//! The throttles of addresses that repeatedly present rejected credentials.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use crate::clock::SystemClock;
use crate::config::{AuthFailureMode, AuthFailuresConfig, Config};
use crate::duration::ConfigDuration;
use crate::pipeline::{AuthFailureMetrics, AuthFailureThrottle};
use crate::ratelimit::AddressBudget;

/// The throttles of the fronts.
#[derive(Clone)]
pub(super) struct AuthFailureThrottles {
    /// The throttle of `gateway.auth_failures`; `None` if it is off.
    pub(super) gateway: Option<Arc<AuthFailureThrottle>>,
    /// The throttle of the admin API.
    pub(super) admin: Option<Arc<AuthFailureThrottle>>,
}

/// The limits of the admin API: few, because an administrator seldom mistypes a key.
fn admin_settings() -> AuthFailuresConfig {
    AuthFailuresConfig {
        mode: AuthFailureMode::Delay,
        burst: 10,
        per_second: 1,
        delay: ConfigDuration(Duration::from_secs(1)),
        max_delayed: 256,
    }
}

/// Starts the throttles, with metrics in common.
pub(super) fn start(config: &Config, registry: &Registry) -> Result<AuthFailureThrottles, prometheus::Error> {
    let metrics = AuthFailureMetrics::register(registry)?;
    let throttle = |settings: &AuthFailuresConfig| {
        let budget = AddressBudget::new(settings.burst, settings.per_second, Arc::new(SystemClock));
        AuthFailureThrottle::new(settings, budget, &metrics).map(Arc::new)
    };
    let gateway = config.gateway.as_ref().map(|gateway| gateway.auth_failures).unwrap_or_default();
    Ok(AuthFailureThrottles { gateway: throttle(&gateway), admin: throttle(&admin_settings()) })
}
