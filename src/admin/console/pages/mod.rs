//! The pages.

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
}
