//! `GET /keygate/v1/topKeys`: the keys with the most requests in this hour and the one before.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::state::AdminState;
use crate::key::ApiKey;

/// The length of each list.
const KEYS_MAX: usize = 10;

/// The keys of all nodes, the highest number first.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct TopKeysResponse {
    /// By all requests.
    keys: Vec<TopKey>,
    /// By refused requests.
    refused_keys: Vec<TopKey>,
}

/// A key and its number of requests.
#[derive(Serialize, ToSchema)]
struct TopKey {
    key_id: String,
    name: String,
    actor_id: String,
    requests: u64,
}

/// Lists the keys of the caller's actors with the most requests in this hour and the one before.
#[utoipa::path(get, path = "/keygate/v1/topKeys", operation_id = "listTopKeys", tag = "usage",
    responses((status = 200, description = "The keys", body = TopKeysResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn top_keys(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::ListTopKeys>,
) -> Result<Json<TopKeysResponse>, ApiError> {
    let top = async |only_refused| state.lifecycle.top_keys(&context, only_refused, KEYS_MAX).await;
    let (keys, refused_keys) = (top(false).await?, top(true).await?);
    let list = |keys: Vec<(ApiKey, u64)>| keys.into_iter().map(TopKey::new).collect();
    Ok(Json(TopKeysResponse { keys: list(keys), refused_keys: list(refused_keys) }))
}

impl TopKey {
    fn new((key, requests): (ApiKey, u64)) -> Self {
        Self { key_id: key.id.to_string(), name: key.name, actor_id: key.actor_id, requests }
    }
}
