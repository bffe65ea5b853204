//! `adminImportApiKey` (contract, admin API section 5.6).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;

use super::draft::ImportApiKeyRequest;
use super::key::{ImportedApiKey, IssuedApiKey};
use crate::admin::AdminState;
use crate::admin::body::Body;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse};

/// Registers a key that was minted elsewhere.
#[utoipa::path(post, path = "/v2alpha1/admin/importedApiKeys", operation_id = "adminImportApiKey", tag = "imported keys",
    request_body = ImportApiKeyRequest,
    responses((status = 201, description = "The key", body = ImportedApiKey),
        (status = 400, description = "A field breaks its limit", body = ErrorResponse),
        (status = 402, description = "The quota is used up", body = ErrorResponse),
        (status = 409, description = "The key is there already, or looks like another kind", body = ErrorResponse),
        (status = "default", description = "Any other failure", body = ErrorResponse)))]
pub(in crate::admin) async fn import(
    State(state): State<AdminState>,
    Context(context): Context,
    Body(request): Body<ImportApiKeyRequest>,
) -> Result<Response, ApiError> {
    let key = state.lifecycle.import(&context, request.read()?).await?;
    let location = format!("{}/{}", super::IMPORTED, key.id);
    let body = ImportedApiKey(IssuedApiKey::new(&key, state.lifecycle.now()));
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(body)).into_response())
}
