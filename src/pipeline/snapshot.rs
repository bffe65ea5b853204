//! Everything that a request needs from the configuration, in one immutable value. Reload builds a new snapshot and swaps it; a
//! request keeps the snapshot that it began with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::access_log::AccessLog;
use super::auth_failures::AuthFailureThrottle;
use super::authorize::Authorizer;
use super::head::{RequestHead, Target};
use super::headers::{HeaderSelection, value_of};
use super::live_streams::LiveStreams;
use super::log_line::AccessLogSink;
use super::overload::Overload;
use super::path::NormalPath;
use super::rate_limit::Limits;
use super::request_metrics::Metrics;
use super::rewrite::Rewrite;
use super::route::{Route, RouteMatcher, RouteTable};
use crate::config::{GatewayConfig, OnBackendDown, RouteConfig, UpstreamLimitFields};
use crate::id::TenantId;
use crate::ratelimit::Limiter;
use crate::traces::Tracer;
use crate::usage::UsageCounter;
use crate::verifier::Verifier;
use crate::wire::Rejection;
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::fields::Fields;

/// The current snapshot of a process.
pub type CurrentSnapshot<U> = ArcSwap<Snapshot<U>>;

/// What a snapshot is built from. `verifier` has the settings of the same configuration.
pub struct SnapshotParts<'a> {
    /// Routes, limits and header selection.
    pub config: &'a GatewayConfig,
    /// Verifies credentials.
    pub verifier: Arc<Verifier>,
    /// Counts requests; `None` if rate limits are not enforced.
    #[doc(hidden)]
    pub limiter: Option<Arc<Limiter>>,
    /// Throttles addresses that repeatedly present rejected credentials; `None` if none is throttled.
    #[doc(hidden)]
    pub auth_failures: Option<Arc<AuthFailureThrottle>>,
    /// What happens to requests that cannot be counted.
    pub on_backend_down: OnBackendDown,
    /// The tenant whose keys are accepted.
    pub tenant: TenantId,
    /// Whether derived tokens of revoked keys are denied.
    pub revoke_with_parent: bool,
    /// The streams that end with their keys; `None` for a front that cannot end a response.
    #[doc(hidden)]
    pub live_streams: Option<Arc<LiveStreams>>,
    /// The metrics of the process.
    pub metrics: Metrics,
    /// Counts the usage of keys; `None` if it is not counted.
    #[doc(hidden)]
    pub usage: Option<Arc<UsageCounter>>,
    /// Records traces; `None` if there are none.
    #[doc(hidden)]
    pub tracer: Option<Arc<Tracer>>,
    /// Where access-log lines are written; `None` if they are events of `tracing`.
    #[doc(hidden)]
    pub access_log: Option<AccessLogSink>,
}

/// An immutable configuration for requests. `U` is what a front keeps for the upstream of a route.
pub struct Snapshot<U = ()> {
    routes: RouteTable<Route<U>>,
    pub(super) authorizer: Authorizer,
    /// Where requests that match no route carry their credential.
    pub(super) credentials: Arc<CredentialLocations>,
    pub(super) headers: HeaderSelection,
    /// Whether field names with an underscore or a dot reach the upstream.
    pub(super) allow_underscores: bool,
    /// The tenant's id as a field value.
    pub(super) tenant: HeaderValue,
    pub(super) upstream_limit_fields: UpstreamLimitFields,
    pub(super) live_streams: Option<Arc<LiveStreams>>,
    pub(super) revoke_with_parent: bool,
    pub(super) tenant_id: TenantId,
    pub(super) metrics: Metrics,
    pub(super) overload: Overload,
    pub(super) access_log: AccessLog,
    pub(super) usage: Option<Arc<UsageCounter>>,
    pub(super) tracer: Option<Arc<Tracer>>,
}

impl SnapshotParts<'_> {
    fn limits(&self) -> Option<Limits> {
        let limiter = self.limiter.as_ref()?;
        Some(Limits::new(self.config, Arc::clone(limiter), self.on_backend_down))
    }

    fn credentials(&self) -> Arc<CredentialLocations> {
        Arc::new(CredentialLocations::new(&self.config.credentials))
    }
}

impl<U> Snapshot<U> {
    /// Builds a snapshot. `upstream` returns what the front keeps for the upstream of that name, which is empty for a route without
    /// one.
    pub fn new(parts: SnapshotParts<'_>, mut upstream: impl FnMut(&str) -> U) -> Self {
        let limits = parts.limits();
        let credentials = parts.credentials();
        let route = |route: &RouteConfig| {
            let limits = limits.as_ref().map(|limits| limits.of_route(route));
            (
                RouteMatcher::from(route),
                Route::new(
                    route,
                    &credentials,
                    limits,
                    upstream(route.upstream.as_deref().unwrap_or_default()),
                    &parts.metrics,
                ),
            )
        };
        let routes = RouteTable::new(parts.config.routes.iter().map(route));
        Self::assemble(parts, credentials, routes)
    }

    fn assemble(parts: SnapshotParts<'_>, credentials: Arc<CredentialLocations>, routes: RouteTable<Route<U>>) -> Self {
        let SnapshotParts { config, live_streams, metrics, usage, tracer, access_log, .. } = parts;
        Self {
            routes,
            credentials,
            authorizer: Authorizer::new(parts.verifier, parts.tenant, parts.revoke_with_parent)
                .throttled(parts.auth_failures),
            headers: HeaderSelection::new(&config.request_headers),
            allow_underscores: config.allow_underscores,
            tenant: value_of(parts.tenant.to_string()),
            upstream_limit_fields: config.limit_headers.upstream,
            live_streams,
            revoke_with_parent: parts.revoke_with_parent,
            tenant_id: parts.tenant,
            metrics,
            overload: Overload::new(config.overload),
            access_log: AccessLog::new(&config.access_log, access_log),
            usage,
            tracer,
        }
    }

    /// Builds a snapshot with the limits and the header selection of `parts.config` and one route instead of its routes, for a front whose
    /// requests are matched already.
    pub fn with_route(parts: SnapshotParts<'_>, route: &RouteConfig, upstream: U) -> (Arc<Self>, Arc<Route<U>>) {
        let limits = parts.limits().map(|limits| limits.of_route(route));
        let credentials = parts.credentials();
        let route = Arc::new(Route::new(route, &credentials, limits, upstream, &parts.metrics));
        (Arc::new(Self::assemble(parts, credentials, RouteTable::new([]))), route)
    }

    /// Matches a request head to a route. Returns the route and the target to forward.
    ///
    /// # Errors
    /// [`Rejection::RouteNotFound`] or [`Rejection::RequestInvalid`].
    pub fn find_route<F: Fields>(&self, head: &RequestHead<'_, F>) -> Result<(Arc<Route<U>>, Target), Rejection> {
        let host = head.host()?;
        let path = NormalPath::parse(head.path).ok_or(Rejection::RouteNotFound)?;
        let route = self.routes.find(host, head.method, &path).ok_or(Rejection::RouteNotFound)?;
        let target = match &route.rewrite {
            None => Target::new(host, &path, head.query),
            Some(rewrite) => self.rewrite(route, rewrite, &path, host, head).ok_or(Rejection::RouteNotFound)?,
        };
        Ok((Arc::clone(route), target))
    }

    /// The target with the rewritten path. `None` if an upstream could understand it as a path that requests of the route do not lead to:
    /// each interpretation must be the rewritten form of a path that matches the same route.
    fn rewrite<F: Fields>(
        &self,
        route: &Arc<Route<U>>,
        rewrite: &Rewrite,
        path: &NormalPath<'_>,
        host: &str,
        head: &RequestHead<'_, F>,
    ) -> Option<Target> {
        let rewritten = rewrite.forward(path.as_str())?;
        let forwarded = NormalPath::parse(&rewritten)?;
        let requested = forwarded.interpretations().iter().map(|interpretation| rewrite.requested(interpretation));
        let is_unanimous = self.routes.all_match(route, host, head.method, requested);
        is_unanimous.then(|| Target::new(host, &forwarded, head.query))
    }

    /// Authorizes requests.
    #[doc(hidden)]
    pub fn authorizer(&self) -> &Authorizer {
        &self.authorizer
    }
}

#[cfg(test)]
mod tests;
