//! The routes of Keygate's own operations.

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{get, post};

use super::admin_keys;
use super::audit_chain::audit_chain;
use super::audit_events::audit_events;
use super::caller::caller;
use super::config::get_config;
use super::explain::explain;
use super::introspect::introspect;
use super::keys::{count_inactive_keys, list_keys};
use super::nodes::{list_nodes, overview};
use super::rate_limit::rate_limit;
use super::top_keys::top_keys;
use super::usage::usage;
use crate::admin::error::not_found;
use crate::admin::middleware::reject_head;
use crate::admin::state::AdminState;

const AUDIT_CHAIN: &str = "/keygate/v1/auditChain";
const AUDIT_EVENTS: &str = "/keygate/v1/auditEvents";
const CALLER: &str = "/keygate/v1/caller";
const EXPLAIN: &str = "/keygate/v1/explain";
const INTROSPECT: &str = "/keygate/v1/introspect";
const RATE_LIMIT: &str = "/keygate/v1/keys/{key_id}/rateLimit";
const TOP_KEYS: &str = "/keygate/v1/topKeys";
const USAGE: &str = "/keygate/v1/keys/{key_id}/usage";
const CONFIG: &str = "/keygate/v1/config";
const KEYS: &str = "/keygate/v1/keys";
const INACTIVE_KEYS: &str = "/keygate/v1/keys:countInactive";
const NODES: &str = "/keygate/v1/nodes";
const OVERVIEW: &str = "/keygate/v1/overview";

/// The routes of all operations. A wrong method gets 404, as in the contract.
pub(in crate::admin) fn routes() -> Router<AdminState> {
    let routes = Router::new()
        .route(AUDIT_CHAIN, get(audit_chain))
        .route(AUDIT_EVENTS, get(audit_events))
        .route(CALLER, get(caller))
        .route(EXPLAIN, post(explain))
        .route(INTROSPECT, post(introspect))
        .route(RATE_LIMIT, get(rate_limit))
        .route(TOP_KEYS, get(top_keys))
        .route(USAGE, get(usage))
        .route(KEYS, get(list_keys))
        .route(INACTIVE_KEYS, get(count_inactive_keys))
        .route(CONFIG, get(get_config))
        .route(NODES, get(list_nodes))
        .route(OVERVIEW, get(overview))
        .merge(admin_keys::routes());
    routes.method_not_allowed_fallback(not_found).route_layer(from_fn(reject_head))
}
