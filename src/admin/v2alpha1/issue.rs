//! `adminIssueApiKey` (contract, admin API section 5.1).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::draft::IssueApiKeyRequest;
use super::key::IssuedApiKey;
use crate::admin::auth::op;
use crate::admin::body::Body;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::state::AdminState;

/// A new key and its secret.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct IssueApiKeyResponse {
    issued_api_key: IssuedApiKey,
    /// The credential. It is returned only once: empty if an earlier request with the same `request_id` has returned it.
    secret: String,
}

/// Issues a key and returns its secret, once.
#[utoipa::path(post, path = "/v2alpha1/admin/issuedApiKeys", operation_id = "adminIssueApiKey", tag = "issued keys",
    request_body = IssueApiKeyRequest,
    responses((status = 201, description = "The key", body = IssueApiKeyResponse),
        (status = 400, description = "A field is invalid", body = ErrorResponse),
        (status = 402, description = "The key quota is reached", body = ErrorResponse),
        (status = 409, description = "The key id exists already", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn issue(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::IssueKey>,
    Body(request): Body<IssueApiKeyRequest>,
) -> Result<Response, ApiError> {
    let issued = state.lifecycle.issue(&context, request.read()?).await?;
    let location = format!("{}/{}", super::paths::ISSUED, issued.key.id);
    let body = IssueApiKeyResponse {
        issued_api_key: IssuedApiKey::new(&issued.key, state.lifecycle.now()),
        secret: issued.secret.map_or_else(String::new, |secret| secret.expose_secret().to_owned()),
    };
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(body)).into_response())
}
