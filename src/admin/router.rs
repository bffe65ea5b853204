//! The routers of the admin API.

use axum::Router;
use prometheus::Registry;

use super::browser::BrowserRules;
use super::middleware::Metrics;
use super::state::AdminState;
use super::{error, health, keygate_v1, middleware, openapi, v2alpha1};

/// The routers of the admin API, with their middleware.
pub struct Routers {
    /// All operations.
    pub admin: Router,
    /// The operations that need no key.
    pub public: Router,
    /// Health and metrics, without security headers.
    pub metrics: Router,
}

/// Creates the routers. `browser` are the rules for requests of browsers to the whole API.
/// `metrics` are those of all routers of a process, and `registry` has what the listener of metrics shows.
pub fn routers(state: AdminState, browser: BrowserRules, metrics: &Metrics, registry: &Registry) -> Routers {
    let observer = middleware::Observer::new(metrics.clone(), &state);
    let admin = v2alpha1::routes()
        .merge(keygate_v1::routes())
        .merge(health::routes())
        .merge(openapi::routes())
        .fallback(error::not_found)
        .with_state(state.clone());
    let metrics_router = health::metrics_router(state.clone(), registry.clone());
    let public = v2alpha1::public_routes().merge(health::routes()).fallback(error::not_found).with_state(state);
    Routers {
        admin: middleware::wrap(admin, observer.clone(), Some(browser)),
        // A browser has nothing to add to a request that needs no key.
        public: middleware::wrap(public, observer, None),
        metrics: metrics_router,
    }
}
