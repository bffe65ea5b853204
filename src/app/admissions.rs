//! The caps of the connections of each listener, within the limit of open file descriptors.

use prometheus::Registry;

use crate::cidr::CidrSet;
use crate::config::{Config, ConnectionsConfig, GatewayConfig};
use crate::listener::{Admission, ConnectionMetrics, Descriptors};

/// The cap of a client address on the listeners that are open to the network, for health and metrics and for public operations, is the cap
/// in all divided by this.
const CLIENTS: usize = 4;

/// The admissions of all listeners of the process.
pub(super) struct Admissions {
    pub(super) admin: Admission,
    pub(super) public: Admission,
    pub(super) metrics: Admission,
    pub(super) external_auth: Admission,
    pub(super) gateway: Admission,
}

impl Admissions {
    /// Raises the limit of open files, and divides it among the listeners.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub(super) fn new(config: &Config, registry: &Registry) -> Result<Self, prometheus::Error> {
        let descriptors = Descriptors::raise();
        descriptors.register(registry)?;
        let metrics = ConnectionMetrics::register(registry)?;
        let shares = descriptors.shares(config.external_auth.is_some());
        let admission = |listener, caps| Admission::new(listener, caps, CidrSet::default(), &metrics);
        // Public operations have half of the share of health and metrics, if they are served.
        let public = if config.serve.public.is_some() { shares.metrics / 2 } else { 0 };
        let open =
            |max: usize| ConnectionsConfig { max_per_client: max.div_ceil(CLIENTS), ..ConnectionsConfig::total(max) };
        let settings = config.gateway.as_ref();
        let configured = settings.map(|gateway| gateway.connections).unwrap_or_default();
        let gateway = ConnectionsConfig { max: configured.max.min(shares.gateway), ..configured };
        if gateway.max < configured.max && settings.is_some_and(|gateway| gateway.enabled) {
            tracing::warn!(
                limit = descriptors.limit(),
                "the gateway accepts {} connections, not {} (gateway.connections.max), because of the limit of open files; raise the hard \
                 limit, for example LimitNOFILE= of systemd or --ulimit nofile= of docker",
                gateway.max,
                configured.max,
            );
        }
        let exempt = settings.map(GatewayConfig::trusted_ranges).unwrap_or_default();
        Ok(Self {
            admin: admission("admin", ConnectionsConfig::total(shares.admin)),
            public: admission("public", open(public.max(1))),
            metrics: admission("metrics", open(shares.metrics - public)),
            external_auth: admission("external_auth", ConnectionsConfig::total(shares.external_auth)),
            gateway: Admission::new("gateway", gateway, exempt, &metrics),
        })
    }
}
