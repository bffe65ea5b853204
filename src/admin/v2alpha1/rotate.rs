//! `adminRotateIssuedApiKey` (contract, admin API section 5.4).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enums::KeyVisibility;
use super::get::key_id;
use super::key::{IpRestriction, IssuedApiKey, RateLimitPolicy};
use crate::admin::AdminState;
use crate::admin::body::RawBody;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::json::Choice;
use crate::id::KeyKind;
use crate::key::{KeyChange, Metadata, RotateKey};
use crate::request_context::RequestContext;

/// In what the new key differs from the old one.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct AdminRotateIssuedApiKeyBody {
    /// 0 to 255 characters.
    #[schema(nullable = false)]
    name: Option<String>,
    /// At most 100, each of 1 to 100 characters; an empty list inherits.
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// Replaced as a whole; at most 65536 bytes as JSON.
    #[schema(value_type = Object, required = false)]
    metadata: Option<Metadata>,
    #[serde(alias = "rateLimitPolicy")]
    #[schema(nullable = false)]
    rate_limit_policy: Option<RateLimitPolicy>,
    #[serde(alias = "ipRestriction")]
    #[schema(nullable = false)]
    ip_restriction: Option<IpRestriction>,
    #[schema(value_type = KeyVisibility, required = false)]
    visibility: Option<Choice<KeyVisibility>>,
}

/// The new key, its secret, and the old key.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct RotateIssuedApiKeyResponse {
    issued_api_key: IssuedApiKey,
    /// The new key's text, shown this once.
    secret: String,
    /// The old key, revoked.
    old_issued_api_key: IssuedApiKey,
}

impl AdminRotateIssuedApiKeyBody {
    fn read(self) -> Result<RotateKey, ApiError> {
        let change = KeyChange {
            name: self.name,
            scopes: self.scopes.filter(|scopes| !scopes.is_empty()),
            metadata: self.metadata,
            rate_limit: self.rate_limit_policy.map(|policy| policy.read().map(Some)).transpose()?,
            networks: self.ip_restriction.map(|restriction| restriction.read()).transpose()?,
        };
        Ok(RotateKey { change, visibility: self.visibility.and_then(|choice| choice.0).and_then(KeyVisibility::read) })
    }
}

/// Issues a key in the place of another, which is revoked in the same step.
#[utoipa::path(post, path = "/v2alpha1/admin/issuedApiKeys/{key_id}:rotate", operation_id = "adminRotateIssuedApiKey",
    tag = "issued keys", params(("key_id" = String, Path, description = "The key")),
    request_body = AdminRotateIssuedApiKeyBody,
    responses((status = 201, description = "Both keys", body = RotateIssuedApiKeyResponse),
        (status = 400, description = "A field breaks its limit", body = ErrorResponse),
        (status = 404, description = "There is no such key", body = ErrorResponse),
        (status = 409, description = "The key is not active, or was rotated meanwhile", body = ErrorResponse),
        (status = "default", description = "Any other failure", body = ErrorResponse)))]
pub(in crate::admin) async fn rotate(
    state: &AdminState,
    context: &RequestContext,
    id: &str,
    body: &RawBody,
) -> Result<Response, ApiError> {
    let request: AdminRotateIssuedApiKeyBody = body.read()?;
    let id = key_id(KeyKind::Issued, id)?;
    let rotated = state.lifecycle.rotate(context, id, request.read()?).await?;
    let now = state.lifecycle.now();
    let location = format!("{}/{}", super::ISSUED, rotated.key.id);
    let body = RotateIssuedApiKeyResponse {
        issued_api_key: IssuedApiKey::new(&rotated.key, now),
        secret: rotated.secret.expose_secret().to_owned(),
        old_issued_api_key: IssuedApiKey::new(&rotated.old, now),
    };
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(body)).into_response())
}
