//! The router of the admin API.

use axum::Router;
use prometheus::Registry;

use super::state::AdminState;
use super::{error, health, keygate_v1, middleware, openapi, v2alpha1};

/// The routes of the admin API, with its middleware.
///
/// # Errors
/// If its metrics are registered already.
pub fn router(state: AdminState, registry: &Registry) -> Result<Router, prometheus::Error> {
    let metrics = middleware::Metrics::register(registry)?;
    let observer = middleware::Observer::new(metrics, &state);
    let routes = v2alpha1::routes()
        .merge(keygate_v1::routes())
        .merge(health::routes())
        .merge(openapi::routes())
        .fallback(error::not_found)
        .with_state(state);
    Ok(middleware::wrap(routes, observer))
}
