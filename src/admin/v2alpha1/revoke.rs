//! `adminRevokeIssuedApiKey`, `adminRevokeImportedApiKey`, and the operation of older clients for both kinds (contract, admin API
//! sections 5.5 and 7).

use axum::Json;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enums::RevocationReason;
use super::get::key_id;
use crate::admin::body::RawBody;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::json::EnumOrUnknown;
use crate::admin::state::AdminState;
use crate::id::KeyKind;
use crate::key::RevokeKey;
use crate::request_context::RequestContext;

/// The reason for the revocation of an issued key.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct AdminRevokeIssuedApiKeyBody {
    #[schema(value_type = RevocationReason, required = false)]
    reason: Option<EnumOrUnknown<RevocationReason>>,
    /// Only with `REVOCATION_REASON_PRIVILEGE_WITHDRAWN`; at most 500 characters.
    #[schema(nullable = false, max_length = 500)]
    description: Option<String>,
}

/// The reason for the revocation of an imported key, with the members for an issued key.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
pub(in crate::admin) struct AdminRevokeImportedApiKeyBody(AdminRevokeIssuedApiKeyBody);

/// The response to older clients; empty.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct RevokeApiKeyResponse {}

/// Revokes an issued key. This node rejects the key from the time of the response.
#[utoipa::path(post, path = "/v2alpha1/admin/issuedApiKeys/{key_id}:revoke", operation_id = "adminRevokeIssuedApiKey",
    tag = "issued keys", params(("key_id" = String, Path, description = "The key", min_length = 1)),
    request_body = AdminRevokeIssuedApiKeyBody,
    responses((status = 204, description = "The key is revoked"),
        (status = 400, description = "A field is invalid", body = ErrorResponse),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = 409, description = "The key is already revoked", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn issued(
    state: &AdminState,
    context: &RequestContext,
    id: &str,
    body: &RawBody,
) -> Result<StatusCode, ApiError> {
    revoke(state, context, KeyKind::Issued, id, body.read()?).await
}

/// Revokes an imported key. This node rejects the key from the time of the response.
#[utoipa::path(post, path = "/v2alpha1/admin/importedApiKeys/{key_id}:revoke",
    operation_id = "adminRevokeImportedApiKey", tag = "imported keys",
    params(("key_id" = String, Path, description = "The key", min_length = 1)), request_body = AdminRevokeImportedApiKeyBody,
    responses((status = 204, description = "The key is revoked"),
        (status = 400, description = "A field is invalid", body = ErrorResponse),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = 409, description = "The key is already revoked", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn imported(
    state: &AdminState,
    context: &RequestContext,
    id: &str,
    body: &RawBody,
) -> Result<StatusCode, ApiError> {
    let AdminRevokeImportedApiKeyBody(request) = body.read()?;
    revoke(state, context, KeyKind::Imported, id, request).await
}

/// Revokes a key of either kind, for older clients. They parse the body of every success, so there is one.
#[utoipa::path(post, path = "/v2alpha1/admin/apiKeys/{key_id}:revoke", operation_id = "legacyAdminRevokeApiKey",
    tag = "older clients", params(("key_id" = String, Path, description = "The key", min_length = 1)),
    request_body = AdminRevokeIssuedApiKeyBody,
    responses((status = 200, description = "The key is revoked", body = RevokeApiKeyResponse),
        (status = 400, description = "A field is invalid", body = ErrorResponse),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = 409, description = "The key is already revoked", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn either(
    state: &AdminState,
    context: &RequestContext,
    id: &str,
    body: &RawBody,
) -> Result<Json<RevokeApiKeyResponse>, ApiError> {
    // No text is a valid id of both kinds.
    let kind = if key_id(KeyKind::Imported, id).is_ok() { KeyKind::Imported } else { KeyKind::Issued };
    revoke(state, context, kind, id, body.read()?).await?;
    Ok(Json(RevokeApiKeyResponse {}))
}

async fn revoke(
    state: &AdminState,
    context: &RequestContext,
    kind: KeyKind,
    id: &str,
    request: AdminRevokeIssuedApiKeyBody,
) -> Result<StatusCode, ApiError> {
    let reason = request.reason.and_then(|value| value.0).map(Into::into).unwrap_or_default();
    let command = RevokeKey { reason, description: request.description };
    state.lifecycle.revoke(context, key_id(kind, id)?, command).await?;
    Ok(StatusCode::NO_CONTENT)
}
