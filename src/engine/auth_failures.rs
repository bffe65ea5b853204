//! The throttles of addresses that repeatedly present rejected credentials.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use crate::clock::SystemClock;
use crate::config::{AuthFailureMode, AuthFailuresConfig, Config};
use crate::duration::ConfigDuration;
use crate::pipeline::{AuthFailureMetrics, AuthFailureThrottle};
use crate::ratelimit::AddressBudget;

/// The throttles of the fronts, with metrics in common.
#[derive(Clone)]
pub(super) struct AuthFailureThrottles {
    /// The throttle of `gateway.auth_failures`; `None` if it is off.
    pub(super) gateway: Option<Arc<AuthFailureThrottle>>,
    /// The throttle of the admin API.
    pub(super) admin: Option<Arc<AuthFailureThrottle>>,
    /// Those of `gateway`.
    settings: AuthFailuresConfig,
    metrics: AuthFailureMetrics,
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

impl AuthFailureThrottles {
    /// The throttles of a configuration.
    ///
    /// # Errors
    /// When `registry` has their metrics already.
    pub(super) fn start(config: &Config, registry: &Registry) -> Result<Self, prometheus::Error> {
        let (metrics, settings) = (AuthFailureMetrics::register(registry)?, gateway_settings(config));
        let (gateway, admin) = (throttle(&settings, &metrics), throttle(&admin_settings(), &metrics));
        Ok(Self { gateway, admin, settings, metrics })
    }

    /// The throttles of another configuration. That of the gateway keeps its counts if its settings are the same, else it begins anew.
    pub(super) fn reconfigured(&self, config: &Config) -> Self {
        let settings = gateway_settings(config);
        let is_same = settings == self.settings;
        let gateway = if is_same { self.gateway.clone() } else { throttle(&settings, &self.metrics) };
        Self { gateway, settings, ..self.clone() }
    }
}

fn gateway_settings(config: &Config) -> AuthFailuresConfig {
    config.gateway.as_ref().map(|gateway| gateway.auth_failures).unwrap_or_default()
}

fn throttle(settings: &AuthFailuresConfig, metrics: &AuthFailureMetrics) -> Option<Arc<AuthFailureThrottle>> {
    let budget = AddressBudget::new(settings.burst, settings.per_second, Arc::new(SystemClock));
    AuthFailureThrottle::new(settings, budget, metrics).map(Arc::new)
}
