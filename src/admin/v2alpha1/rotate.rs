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
use super::key::{IpRestriction, IssuedApiKey, RateLimitPolicy, read_duration};
use super::schemas::ScopeText;
use crate::admin::body::RawBody;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::json::EnumOrUnknown;
use crate::admin::state::AdminState;
use crate::id::KeyKind;
use crate::key::{KeyChange, Metadata, RotateKey};
use crate::request_context::RequestContext;

/// The changes of the new key from the old one.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct AdminRotateIssuedApiKeyBody {
    /// The display name, 0 to 255 characters.
    #[schema(nullable = false, max_length = 255)]
    name: Option<String>,
    /// The scopes, at most 100 of 1 to 100 characters each. An empty list keeps those of the old key.
    #[schema(value_type = Vec<ScopeText>, inline, max_items = 100, required = false)]
    scopes: Option<Vec<String>>,
    /// Custom data, replaced as a whole; at most 65536 bytes as JSON.
    #[schema(value_type = Object, required = false)]
    metadata: Option<Metadata>,
    #[serde(alias = "rateLimitPolicy")]
    #[schema(nullable = false)]
    rate_limit_policy: Option<RateLimitPolicy>,
    #[serde(alias = "ipRestriction")]
    #[schema(nullable = false)]
    ip_restriction: Option<IpRestriction>,
    #[schema(value_type = KeyVisibility, required = false)]
    visibility: Option<EnumOrUnknown<KeyVisibility>>,
    /// How long the old key stays active, such as `24h`; it is revoked at once if absent or zero. Not longer than until its expiry.
    #[serde(alias = "revokeOldAfter")]
    #[schema(nullable = false, pattern = "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w|mo|y))+$")]
    revoke_old_after: Option<String>,
}

/// The new key, its secret, and the old key.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct RotateIssuedApiKeyResponse {
    issued_api_key: IssuedApiKey,
    /// The credential of the new key. It is returned only once.
    secret: String,
    /// The old key: revoked, or active until its `revoke_time`.
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
        Ok(RotateKey {
            change,
            visibility: self.visibility.and_then(|value| value.0).and_then(KeyVisibility::read),
            revoke_old_after: read_duration("revoke_old_after", self.revoke_old_after.as_deref())?,
        })
    }
}

/// Issues a new key and revokes the old one in the same transaction, or leaves it active for a time.
#[utoipa::path(post, path = "/v2alpha1/admin/issuedApiKeys/{key_id}:rotate", operation_id = "adminRotateIssuedApiKey",
    tag = "issued keys", params(("key_id" = String, Path, description = "The key", min_length = 1)),
    request_body = AdminRotateIssuedApiKeyBody,
    responses((status = 201, description = "The new and the old key", body = RotateIssuedApiKeyResponse),
        (status = 400, description = "A field is invalid", body = ErrorResponse),
        (status = 404, description = "The key does not exist", body = ErrorResponse),
        (status = 409, description = "The key is not active, or was rotated before", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
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
    let location = format!("{}/{}", super::paths::ISSUED, rotated.key.id);
    let body = RotateIssuedApiKeyResponse {
        issued_api_key: IssuedApiKey::new(&rotated.key, now),
        secret: rotated.secret.expose_secret().to_owned(),
        old_issued_api_key: IssuedApiKey::new(&rotated.old, now),
    };
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(body)).into_response())
}
