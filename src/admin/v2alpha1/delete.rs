//! `adminDeleteImportedApiKey` (contract, admin API section 5.8).

use axum::extract::State;
use http::StatusCode;

use super::get::key_id;
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::custom_verb::LastSegment;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::state::AdminState;
use crate::id::KeyKind;

/// Deletes an imported key permanently, in any status.
#[utoipa::path(delete, path = "/v2alpha1/admin/importedApiKeys/{key_id}", operation_id = "adminDeleteImportedApiKey",
    tag = "imported keys", params(("key_id" = String, Path, description = "The key", min_length = 1)),
    responses((status = 204, description = "The key is deleted"),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn delete(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::DeleteImportedKey>,
    LastSegment(id): LastSegment,
) -> Result<StatusCode, ApiError> {
    state.lifecycle.delete(&context, key_id(KeyKind::Imported, &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
