//! The running parts whose settings can be replaced.

use std::sync::Arc;

use prometheus::Registry;

use super::admin;
use super::build;
use super::error::AppError;
use super::tls::TlsAcceptors;
use crate::admin::{CurrentRouter, ListenerInfo, Node, RequestMetrics, Routers, UpstreamReport, routers};
use crate::config::{Config, GatewayConfig, ListenerConfig};
use crate::engine::RunningEngine;
use crate::external_auth::ExternalAuthReload;
use crate::gateway::{GatewayReload, NewGatewaySettings, Upstreams};
use crate::pipeline::Snapshot;

/// The routers of the admin API, of public operations, and of health and metrics.
#[derive(Clone)]
pub(super) struct AdminRouters {
    pub(super) admin: CurrentRouter,
    pub(super) public: CurrentRouter,
    pub(super) metrics: CurrentRouter,
    node: Arc<Node>,
    upstream_report: Option<UpstreamReport>,
    request_metrics: RequestMetrics,
    registry: Registry,
}

/// The running parts whose settings can be replaced.
pub(super) struct RunningParts {
    pub(super) engine: RunningEngine,
    pub(super) admin: AdminRouters,
    pub(super) gateway: Option<GatewayReload>,
    pub(super) external_auth: Option<ExternalAuthReload>,
    pub(super) tls: TlsAcceptors,
}

impl AdminRouters {
    /// The routers of a configuration, which `engine` has. `upstreams` are those of the gateway, if there is one;
    /// `listeners` are those of the process.
    pub(super) fn new(
        engine: &RunningEngine,
        upstreams: Option<&Upstreams>,
        listeners: Vec<ListenerInfo>,
        registry: &Registry,
    ) -> Result<Self, AppError> {
        let request_metrics = RequestMetrics::register(registry)?;
        let upstream_report =
            upstreams.cloned().map(|upstreams| Arc::new(move || upstreams.report()) as UpstreamReport);
        let node = admin::node(engine, upstream_report.clone(), listeners, registry);
        let routers = build(engine, upstream_report.clone(), &node, (&request_metrics, registry))?;
        Ok(Self {
            node,
            upstream_report,
            admin: routers.admin.into(),
            public: routers.public.into(),
            metrics: routers.metrics.into(),
            request_metrics,
            registry: registry.clone(),
        })
    }
}

fn build(
    engine: &RunningEngine,
    upstream_report: Option<UpstreamReport>,
    node: &Arc<Node>,
    (request_metrics, registry): (&RequestMetrics, &Registry),
) -> Result<Routers, AppError> {
    let config = engine.config();
    let state = admin::state(config, engine, upstream_report, node)?;
    Ok(routers(state, admin::browser_rules(&config.serve.http), request_metrics, registry))
}

impl AdminRouters {
    /// This process as a node of the installation.
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl RunningParts {
    /// Replaces the settings by those of a valid configuration whose settings for a restart are those of the running one. All new parts are
    /// built before the first one is replaced.
    ///
    /// # Errors
    /// [`AppError`] if a part cannot be built. Nothing is replaced then.
    pub(super) fn apply(&mut self, config: Config) -> Result<(), AppError> {
        let engine = self.engine.reconfigured(config)?;
        let config = engine.config();
        let settings = config.gateway.clone().unwrap_or_default();
        let upstreams = self.gateway.as_ref().map(|gateway| gateway.upstreams().reconfigured(&settings)).transpose()?;
        let AdminRouters { node, upstream_report, request_metrics, registry, .. } = &self.admin;
        let routers = build(&engine, upstream_report.clone(), node, (request_metrics, registry))?;
        let tls = self.tls.prepare(config)?;
        let gateway = self.gateway.as_ref().zip(upstreams).map(|(gateway, upstreams)| {
            (gateway, NewGatewaySettings::new(engine.snapshot_parts(&settings), upstreams), listeners(&settings))
        });
        let external_auth = self.external_auth.as_ref().zip(config.external_auth.as_ref());
        let external_auth = external_auth
            .map(|(running, config)| (running, Snapshot::new(engine.snapshot_parts(&settings), |_| ()), config));
        // From here on nothing fails.
        admin::log_warnings(config, Some(self.engine.config()));
        self.tls.apply(tls);
        if let Some((gateway, settings, listeners)) = gateway {
            gateway.apply(settings, &listeners);
        }
        if let Some((running, snapshot, config)) = external_auth {
            running.apply(snapshot, config);
        }
        self.admin.admin.replace(routers.admin);
        self.admin.public.replace(routers.public);
        self.admin.metrics.replace(routers.metrics);
        self.admin.node.set_version(build::version(config));
        engine.take_effect();
        self.engine = engine;
        Ok(())
    }
}

fn listeners(config: &GatewayConfig) -> Vec<ListenerConfig> {
    config.effective_listeners().into_iter().map(|(_, listener)| listener).collect()
}
