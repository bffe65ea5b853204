//! `GET /keygate/v1/config`: the effective configuration of this node, without secrets.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::state::AdminState;
use crate::config::Setting;

/// The configuration of the node that answers.
#[derive(Serialize)]
struct ConfigResponse<'a> {
    node_id: String,
    /// The hash in `/version`.
    config_hash: String,
    settings: &'a [Setting],
}

/// Returns all settings with their effective values and their sources.
pub(super) async fn get_config(State(state): State<AdminState>, _: Context<op::GetConfig>) -> Response {
    let (node_id, config_hash) = (state.node.id(), state.version.config_hash.clone());
    Json(ConfigResponse { node_id, config_hash, settings: &state.settings }).into_response()
}
