//! What the services of a layer share, and where the client's address comes from.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Extensions, HeaderMap};

use crate::config::{GatewayConfig, RouteConfig};
use crate::engine::RunningEngine;
use crate::pipeline::{Route, Snapshot};

/// The client's address of a request, as an extension that a server or another layer sets. Read unless
/// [`AuthLayer::client_ip`](super::AuthLayer::client_ip) is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

/// Reads the client's address.
pub(super) type ClientIpFn = Arc<dyn Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync>;

/// What all services of a layer share.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) route: Arc<Route>,
    /// Keeps the background work of the engine running.
    _engine: RunningEngine,
}

impl Prepared {
    pub(super) fn new(engine: &RunningEngine, route: &RouteConfig) -> Self {
        let default = GatewayConfig::default();
        let gateway = engine.config().gateway.as_ref().unwrap_or(&default);
        let (snapshot, route) = Snapshot::with_route(engine.snapshot_parts(gateway), route, ());
        Self { snapshot, route, _engine: engine.clone() }
    }
}
