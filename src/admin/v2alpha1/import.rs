//! `adminImportApiKey` (contract, admin API section 5.6).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;

use super::draft::ImportApiKeyRequest;
use super::key::{ImportedApiKey, IssuedApiKey};
use crate::admin::auth::op;
use crate::admin::body::Body;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::state::AdminState;

/// Imports a key that was generated elsewhere.
#[utoipa::path(post, path = "/v2alpha1/admin/importedApiKeys", operation_id = "adminImportApiKey", tag = "imported keys",
    request_body = ImportApiKeyRequest,
    responses((status = 201, description = "The key", body = ImportedApiKey),
        (status = 400, description = "A field is invalid", body = ErrorResponse),
        (status = 402, description = "The key quota is reached", body = ErrorResponse),
        (status = 409, description = "The key exists already, or has the format of another kind", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn import(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::ImportKey>,
    Body(request): Body<ImportApiKeyRequest>,
) -> Result<Response, ApiError> {
    let key = state.lifecycle.import(&context, request.read()?).await?;
    let location = format!("{}/{}", super::paths::IMPORTED, key.id);
    let body = ImportedApiKey(IssuedApiKey::new(&key, state.lifecycle.now()));
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(body)).into_response())
}
