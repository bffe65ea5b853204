//! The pages of keys.

mod delete;
mod derive;
mod draft;
mod edit;
mod issue;
mod list;
mod revoke;
mod rotate;
mod show;

use axum::Router;
use axum::routing::{get, post};

use crate::admin::console::state::Console;

/// The routes of the pages of keys.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/console/keys", get(list::show))
        .route("/console/keys/new", get(issue::show).post(issue::issue))
        .route("/console/keys/revoke", get(revoke::show).post(revoke::revoke))
        .route("/console/keys/{key_id}", get(show::show))
        .route("/console/keys/{key_id}/edit", get(edit::show).post(edit::edit))
        .route("/console/keys/{key_id}/rotate", get(rotate::show).post(rotate::rotate))
        .route("/console/keys/{key_id}/derive", get(derive::show).post(derive::derive))
        .route("/console/keys/{key_id}/delete", post(delete::delete))
}
