//! The routes of Keygate's own operations.

use axum::Router;
use axum::routing::{get, post};

use super::audit_events::audit_events;
use super::introspect::introspect;
use crate::admin::error::not_found;
use crate::admin::state::AdminState;

const AUDIT_EVENTS: &str = "/keygate/v1/auditEvents";
const INTROSPECT: &str = "/keygate/v1/introspect";

/// The routes of all operations. A wrong method gets 404, as in the contract.
pub(in crate::admin) fn routes() -> Router<AdminState> {
    Router::new()
        .route(AUDIT_EVENTS, get(audit_events))
        .route(INTROSPECT, post(introspect))
        .method_not_allowed_fallback(not_found)
}
