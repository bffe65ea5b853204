//! `GET /keygate/v1/config`: the effective configuration of this node, without secrets.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::schemas::{SettingValue, SourceText};
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::ErrorResponse;
use crate::admin::state::AdminState;
use crate::config::{Setting, SettingSource};

/// The configuration of the node that answers.
#[derive(Serialize, ToSchema)]
#[schema(as = ConfigResponse)]
pub(in crate::admin) struct ConfigResponse<'a> {
    node_id: String,
    /// The hash in `/version`.
    config_hash: String,
    settings: Vec<SettingBody<'a>>,
}

/// A setting, and where its value is from.
#[derive(Serialize, ToSchema)]
#[schema(as = Setting)]
struct SettingBody<'a> {
    /// The path, such as `serve.http.port`.
    path: &'a str,
    #[schema(value_type = SettingValue, inline)]
    value: &'a Value,
    #[schema(value_type = SourceText, inline)]
    source: SettingSource,
    /// The file or the environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    source_name: Option<&'a str>,
}

/// Returns all settings with their effective values and their sources.
#[utoipa::path(get, path = "/keygate/v1/config", operation_id = "getConfig", tag = "nodes",
    responses((status = 200, description = "The settings", body = ConfigResponse<'_>), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn get_config(State(state): State<AdminState>, _: Context<op::GetConfig>) -> Response {
    let (node_id, config_hash) = (state.node.id(), state.version.config_hash.clone());
    Json(ConfigResponse { node_id, config_hash, settings: state.settings.iter().map(SettingBody::new).collect() })
        .into_response()
}

impl<'a> SettingBody<'a> {
    fn new(setting: &'a Setting) -> Self {
        let Setting { path, value, source, source_name } = setting;
        Self { path, value, source: *source, source_name: source_name.as_deref() }
    }
}
