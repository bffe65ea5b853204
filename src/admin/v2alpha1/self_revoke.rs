//! `revokeApiKey`: the holder of a key revokes it (contract, admin API section 5.13).

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enums::RevocationReason;
use super::verify::check_credential;
use crate::admin::auth::op;
use crate::admin::body::Body;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::json::EnumOrUnknown;
use crate::admin::state::AdminState;
use crate::request_context::Principal;

/// A request to revoke the presented key.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct SelfRevokeApiKeyRequest {
    /// The credential of the key, 1 to 8192 bytes.
    #[schema(required, nullable = false, min_length = 1, max_length = 8192)]
    credential: Option<String>,
    #[schema(value_type = RevocationReason, required = false)]
    reason: Option<EnumOrUnknown<RevocationReason>>,
}

/// The response of a revocation; empty.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct SelfRevokeApiKeyResponse {}

/// Revokes the presented key.
#[utoipa::path(post, path = "/v2alpha1/apiKeys:selfRevoke", operation_id = "revokeApiKey", tag = "credentials",
    request_body = SelfRevokeApiKeyRequest,
    responses((status = 200, description = "The key is revoked", body = SelfRevokeApiKeyResponse),
        (status = 400, description = "The credential is not a key, or the reason is reserved for administrators", body = ErrorResponse),
        (status = 401, description = "The key has expired", body = ErrorResponse),
        (status = 403, description = "The key is public", body = ErrorResponse),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn self_revoke(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::SelfRevokeKey>,
    Body(request): Body<SelfRevokeApiKeyRequest>,
) -> Result<Json<SelfRevokeApiKeyResponse>, ApiError> {
    let credential = request.credential.unwrap_or_default();
    check_credential(&credential)?;
    if state.verifier.kind(&credential).is_derived() {
        return Err(ApiError::plain(Reason::DerivedTokenNotRevocable));
    }
    let reason = request.reason.and_then(|value| value.0).map(Into::into).unwrap_or_default();
    let id = state.verifier.identify(context.tenant, &credential);
    let id = id.map_err(|_| ApiError::plain(Reason::ApiKeyNotFound))?;
    let context = context.with_principal(Principal::Key(id));
    state.lifecycle.revoke_own(&context, id, reason).await.map_err(as_unknown)?;
    Ok(Json(SelfRevokeApiKeyResponse {}))
}

/// Unknown keys of both kinds get the same error.
fn as_unknown(error: crate::lifecycle::LifecycleError) -> ApiError {
    match error {
        crate::lifecycle::LifecycleError::NotFound(_) => ApiError::plain(Reason::ApiKeyNotFound),
        other => other.into(),
    }
}
