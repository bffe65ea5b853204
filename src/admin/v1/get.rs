//! `adminGetIssuedApiKey` (contract, admin API section 5.2).

use axum::Json;
use axum::extract::{Path, State};
use serde_json::Value;

use super::key::key_json;
use crate::admin::AdminState;
use crate::admin::error::{ApiError, Reason};
use crate::id::KeyId;

/// Shows a key in any status, without its secret.
pub(super) async fn handle(State(state): State<AdminState>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let id = issued_id(&id)?;
    let key = state.lifecycle.get(state.tenant, id).await?;
    Ok(Json(key_json(&key, state.lifecycle.now())))
}

/// The id of an issued key; a text of another form is the id of no key.
pub(super) fn issued_id(text: &str) -> Result<KeyId, ApiError> {
    KeyId::parse_issued(text).ok_or_else(|| ApiError::new(Reason::ApiKeyNotFound, "API key not found"))
}
