//! The routers of the admin API.

use axum::Router;
use axum::extract::Request;
use prometheus::Registry;
use tower::ServiceExt;

use super::browser::BrowserRules;
use super::middleware::Metrics;
use super::state::AdminState;
use super::{console, error, health, keygate_v1, middleware, openapi, v2alpha1};

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
    let console = state.console.clone();
    let observer = middleware::Observer::new(metrics.clone(), &state);
    let admin = v2alpha1::routes()
        .merge(keygate_v1::routes())
        .merge(health::routes())
        .merge(openapi::routes())
        .fallback(error::not_found)
        .with_state(state.clone());
    let metrics_router = health::metrics_router(state.clone(), registry.clone());
    let public = v2alpha1::public_routes().merge(health::routes()).fallback(error::not_found).with_state(state);
    let console = console.map(|keyring| {
        // The console has rules of its own for browsers.
        let api = middleware::wrap(admin.clone(), observer.clone(), None);
        middleware::wrap(console::console(api, keyring), observer.clone(), None)
    });
    let admin = middleware::wrap(admin, observer.clone(), Some(browser));
    Routers {
        admin: match console {
            Some(console) => with_console(admin, console),
            None => admin,
        },
        // A browser has nothing to add to a request that needs no key.
        public: middleware::wrap(public, observer, None),
        metrics: metrics_router,
    }
}

/// The API, with the console below its prefix.
fn with_console(api: Router, console: Router) -> Router {
    Router::new().fallback(move |request: Request| {
        let rest = request.uri().path().strip_prefix(console::PREFIX);
        let is_console = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let router = if is_console { &console } else { &api };
        router.clone().oneshot(request)
    })
}
