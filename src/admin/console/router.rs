//! The routes of the pages.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::failure::Failure;
use super::guard::guard;
use super::session::Sealer;
use super::sessions::sessions;
use super::state::Console;
use super::{assets, pages};
use crate::clock::SystemClock;
use crate::credential::Keyring;

/// The prefix of all paths.
pub(in crate::admin) const PREFIX: &str = "/console";

/// The router of the console. `api` has all operations of the API, `keyring` the secrets that seal the sessions.
pub(in crate::admin) fn console(api: Router, keyring: Arc<Keyring>) -> Router {
    let console = Console { api, sealer: Sealer::new(keyring), clock: Arc::new(SystemClock) };
    pages::routes()
        .fallback(async || Failure::not_found())
        .method_not_allowed_fallback(async || Failure::not_found())
        .layer(from_fn(guard))
        .layer(from_fn_with_state(console.clone(), sessions))
        // These have no session, so that browsers keep them.
        .route(PREFIX, get(async || Redirect::permanent("/console/")))
        .route("/console/assets/{name}", get(asset))
        .with_state(console)
}

async fn asset(Path(name): Path<String>) -> Response {
    assets::respond(&name).unwrap_or_else(|| Failure::not_found().into_response())
}
