//! `adminGetIssuedApiKey` and `adminGetImportedApiKey` (contract, admin API section 5.2).

use axum::Json;
use axum::extract::State;

use super::key::{ImportedApiKey, IssuedApiKey};
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::custom_verb::LastSegment;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::state::AdminState;
use crate::id::{KeyId, KeyKind};
use crate::request_context::RequestContext;

/// Returns an issued key in any status, without its secret.
#[utoipa::path(get, path = "/v2alpha1/admin/issuedApiKeys/{key_id}", operation_id = "adminGetIssuedApiKey",
    tag = "issued keys", params(("key_id" = String, Path, description = "The key", min_length = 1)),
    responses((status = 200, description = "The key", body = IssuedApiKey),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn issued(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::GetIssuedKey>,
    LastSegment(id): LastSegment,
) -> Result<Json<IssuedApiKey>, ApiError> {
    get(&state, &context, key_id(KeyKind::Issued, &id)?).await.map(Json)
}

/// Returns an imported key in any status, without its credential.
#[utoipa::path(get, path = "/v2alpha1/admin/importedApiKeys/{key_id}", operation_id = "adminGetImportedApiKey",
    tag = "imported keys", params(("key_id" = String, Path, description = "The key", min_length = 1)),
    responses((status = 200, description = "The key", body = ImportedApiKey),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn imported(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::GetImportedKey>,
    LastSegment(id): LastSegment,
) -> Result<Json<ImportedApiKey>, ApiError> {
    get(&state, &context, key_id(KeyKind::Imported, &id)?).await.map(|key| Json(ImportedApiKey(key)))
}

async fn get(state: &AdminState, context: &RequestContext, id: KeyId) -> Result<IssuedApiKey, ApiError> {
    let key = state.lifecycle.get(context, id).await?;
    Ok(IssuedApiKey::new(&key, state.lifecycle.now()))
}

/// Parses the id of a key of this kind.
///
/// # Errors
/// `API_KEY_NOT_FOUND` for any other text.
pub(super) fn key_id(kind: KeyKind, text: &str) -> Result<KeyId, ApiError> {
    let message = match kind {
        KeyKind::Issued => "API key not found",
        KeyKind::Imported => "imported key not found",
    };
    KeyId::parse(kind, text).ok_or_else(|| ApiError::new(Reason::ApiKeyNotFound, message))
}
