//! The routers of the admin API.

use axum::Router;
use prometheus::Registry;

use super::browser::BrowserRules;
use super::state::AdminState;
use super::{error, health, keygate_v1, middleware, openapi, v2alpha1};

/// The routers of the admin API, with their middleware.
pub struct Routers {
    /// All operations.
    pub admin: Router,
    /// The operations that need no key.
    pub public: Router,
}

/// Creates the routers. `browser` are the rules for requests of browsers to the whole API.
///
/// # Errors
/// If its metrics are registered already.
pub fn routers(state: AdminState, browser: BrowserRules, registry: &Registry) -> Result<Routers, prometheus::Error> {
    let metrics = middleware::Metrics::register(registry)?;
    let observer = middleware::Observer::new(metrics, &state);
    let admin = v2alpha1::routes()
        .merge(keygate_v1::routes())
        .merge(health::routes())
        .merge(openapi::routes())
        .fallback(error::not_found)
        .with_state(state.clone());
    let public = v2alpha1::public_routes().merge(health::routes()).fallback(error::not_found).with_state(state);
    Ok(Routers {
        admin: middleware::wrap(admin, observer.clone(), Some(browser)),
        // A browser has nothing to add to a request that needs no key.
        public: middleware::wrap(public, observer, None),
    })
}
