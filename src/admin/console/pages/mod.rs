//! The pages.

mod admin_keys;
mod audit;
mod audit_row;
mod configuration;
mod explain;
mod import;
mod keys;
mod overview;
mod routes;
mod secret;
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
        .route("/console/audit", get(audit::show))
        .route("/console/audit/export", get(audit::export))
        .route("/console/admin-keys", get(admin_keys::show))
        .route("/console/admin-keys/new", get(admin_keys::show_new).post(admin_keys::create))
        .route("/console/admin-keys/{key_id}/rotate", get(admin_keys::show_rotate).post(admin_keys::rotate))
        .route("/console/admin-keys/{key_id}/revoke", get(admin_keys::show_revoke).post(admin_keys::revoke))
        .route("/console/configuration", get(configuration::show))
        .route("/console/routes", get(routes::show))
        .merge(keys::routes())
}
