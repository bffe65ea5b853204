//! Replaces the settings of a running gateway.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::connection::Connections;
use super::upstream::{RouteUpstream, Upstreams};
use crate::config::ListenerConfig;
use crate::pipeline::{CurrentSnapshot, Snapshot, SnapshotParts};

/// Replaces the settings of a running gateway. Clones are for the same gateway.
#[derive(Clone)]
pub struct GatewayReload {
    pub(super) snapshot: Arc<CurrentSnapshot<RouteUpstream>>,
    pub(super) upstreams: watch::Sender<Upstreams>,
    /// The listeners by their addresses.
    pub(super) listeners: Arc<[(String, Arc<ArcSwap<Connections>>)]>,
}

/// Settings that are ready to replace those of a running gateway.
pub struct NewGatewaySettings {
    snapshot: Snapshot<RouteUpstream>,
    upstreams: Upstreams,
}

impl NewGatewaySettings {
    /// The settings of a configuration. `upstreams` are those of the same configuration.
    pub fn new(parts: SnapshotParts<'_>, upstreams: Upstreams) -> Self {
        Self { snapshot: snapshot(parts, &upstreams), upstreams }
    }
}

impl GatewayReload {
    /// The upstreams of the running gateway.
    pub fn upstreams(&self) -> Upstreams {
        self.upstreams.borrow().clone()
    }

    /// Replaces the settings. A request that has begun keeps those that it began with; a connection keeps those of its listener.
    /// `listeners` are the effective listeners; one whose address is not served already is ignored.
    pub fn apply(&self, settings: NewGatewaySettings, listeners: &[ListenerConfig]) {
        let NewGatewaySettings { snapshot, upstreams } = settings;
        for (address, connections) in self.listeners.iter() {
            if let Some(config) = listeners.iter().find(|config| config.address == *address) {
                connections.store(Arc::new(connections.load().reconfigured(config)));
            }
        }
        upstreams.show();
        // Before requests are forwarded to them: the resolution of their names begins.
        self.upstreams.send_replace(upstreams);
        self.snapshot.store(Arc::new(snapshot));
    }
}

/// The snapshot of a configuration, with one upstream object for all routes that name it.
pub(super) fn snapshot(parts: SnapshotParts<'_>, upstreams: &Upstreams) -> Snapshot<RouteUpstream> {
    Snapshot::new(parts, |name| upstreams.get(name))
}
