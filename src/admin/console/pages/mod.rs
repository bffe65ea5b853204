//! The pages.

mod audit_row;
mod explain;
mod import;
mod keys;
mod overview;
mod sign_in;

use axum::Router;
use axum::routing::{get, post};

use super::state::Console;

/// The routes of all pages.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/console/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/", get(overview::show))
        .route("/console/import", get(import::show).post(import::import))
        .route("/console/explain", get(explain::show).post(explain::explain))
        .merge(keys::routes())
}
