//! The admin API: wire-compatible with the API-keys API of Ory Talos, on its own listener and runtime.

mod body;
mod context;
mod custom_verb;
mod error;
mod health;
mod json;
mod middleware;
mod openapi;
mod query;
mod sample;
mod server;
mod v2alpha1;

pub use health::{Version, metrics_router};
pub use openapi::openapi_json;
pub use sample::sample_router;
pub use server::{Server, ServerOptions};

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use prometheus::Registry;

use crate::config::ClientIpSource;
use crate::credential::SigningKeys;
use crate::id::TenantId;
use crate::lifecycle::Lifecycle;
use crate::ratelimit::Limiter;
use crate::verifier::Verifier;

/// The state shared by all handlers.
#[derive(Clone)]
pub struct AdminState {
    /// The write side.
    pub lifecycle: Arc<Lifecycle>,
    /// The read side.
    pub verifier: Arc<Verifier>,
    /// The keys that sign derived JWTs.
    pub signing_keys: Arc<ArcSwap<SigningKeys>>,
    /// The limiter for the keys' limits, if they are enforced.
    pub limiter: Option<Arc<Limiter>>,
    /// The served tenant.
    pub tenant: TenantId,
    /// The source of a client's address.
    pub client_ip_source: ClientIpSource,
    /// The response of `/version`.
    pub version: Arc<Version>,
    /// Whether `/health/*` is excluded from the log.
    pub quiet_health: bool,
}

/// The TCP peer of a request, set by the server.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The routes of the admin API, with its middleware.
///
/// # Errors
/// If its metrics are registered already.
pub fn router(state: AdminState, registry: &Registry) -> Result<Router, prometheus::Error> {
    let metrics = middleware::Metrics::register(registry)?;
    let quiet_health = state.quiet_health;
    let routes = v2alpha1::routes()
        .merge(health::routes())
        .merge(openapi::routes())
        .fallback(v2alpha1::not_found)
        .with_state(state);
    Ok(middleware::wrap(routes, metrics, quiet_health))
}
