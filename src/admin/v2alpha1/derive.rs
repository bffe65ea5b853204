//! `adminDeriveToken` (contract, admin API section 5.11).

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enums::TokenAlgorithm;
use super::key::{object_or_null, read_ttl, time_text};
use super::schemas::{AudienceText, ScopeText};
use super::verify::{check_audiences, check_credential, hides};
use crate::admin::auth::op;
use crate::admin::body::Body;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::json::EnumOrUnknown;
use crate::admin::state::AdminState;
use crate::key::Metadata;
use crate::lifecycle::{DeriveToken, Derived, TokenForm};
use crate::verifier::{CachePolicy, Denial, Presented};

/// A request for a derived token.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct DeriveTokenRequest {
    /// The key to derive from, 1 to 8192 bytes. Derived tokens are rejected.
    #[schema(required, nullable = false, min_length = 1, max_length = 8192)]
    credential: Option<String>,
    #[schema(value_type = TokenAlgorithm, required = false)]
    algorithm: Option<EnumOrUnknown<TokenAlgorithm>>,
    /// The lifetime, such as `15m`; the configured default if absent. At most the remaining lifetime of the key.
    #[schema(nullable = false, pattern = "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w|mo|y))+$")]
    ttl: Option<String>,
    /// A subset of the key's scopes; all of them if absent.
    #[schema(value_type = Vec<ScopeText>, inline, max_items = 100, required = false)]
    scopes: Option<Vec<String>>,
    /// Custom claims. Reserved names are dropped.
    #[serde(alias = "customClaims")]
    #[schema(value_type = Object, required = false)]
    custom_claims: Option<Metadata>,
    /// The audiences of the token, at most 100 of 1 to 255 characters each.
    #[schema(value_type = Vec<AudienceText>, inline, max_items = 100, required = false)]
    audiences: Option<Vec<String>>,
}

/// A derived token.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct DeriveTokenResponse {
    token: Token,
}

/// A token and its contents.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct Token {
    #[serde(rename = "token")]
    text: String,
    #[schema(format = DateTime)]
    expire_time: String,
    scopes: Vec<String>,
    /// The key's metadata, overridden by the accepted custom claims.
    #[schema(value_type = Option<Object>)]
    claims: Option<Metadata>,
    audiences: Vec<String>,
}

impl DeriveTokenRequest {
    fn read(self) -> Result<DeriveToken, ApiError> {
        let form = match self.algorithm.and_then(|value| value.0) {
            Some(TokenAlgorithm::TokenAlgorithmMacaroon) => TokenForm::Macaroon,
            _ => TokenForm::Jwt,
        };
        let audiences = self.audiences.unwrap_or_default();
        check_audiences("audiences", &audiences)?;
        Ok(DeriveToken {
            form,
            ttl: read_ttl(self.ttl.as_deref())?,
            scopes: self.scopes.unwrap_or_default(),
            custom_claims: self.custom_claims.unwrap_or_default(),
            audiences,
        })
    }
}

/// Derives a short-lived token from a key.
#[utoipa::path(post, path = "/v2alpha1/admin/apiKeys:derive", operation_id = "adminDeriveToken", tag = "credentials",
    request_body = DeriveTokenRequest,
    responses((status = 200, description = "The token", body = DeriveTokenResponse),
        (status = 400, description = "A field is invalid", body = ErrorResponse),
        (status = 401, description = "The key is invalid or expired", body = ErrorResponse),
        (status = 403, description = "The key is revoked, or does not have a requested scope", body = ErrorResponse),
        (status = 409, description = "The key was revoked or has expired during the request", body = ErrorResponse),
        (status = 500, description = "There is no signing key", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn derive(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::DeriveToken>,
    Body(mut request): Body<DeriveTokenRequest>,
) -> Result<Json<DeriveTokenResponse>, ApiError> {
    let credential = request.credential.take().unwrap_or_default();
    check_credential(&credential)?;
    let command = request.read()?;
    state.lifecycle.check_derive(&command)?;
    if state.verifier.kind(&credential).is_derived() {
        return Err(ApiError::invalid("tokens are derived from keys, not from other tokens"));
    }
    let presented = Presented {
        tenant: context.tenant,
        credential: &credential,
        client_ip: context.client_ip,
        arrived: Instant::now(),
        audiences: &[],
        cache: CachePolicy { read: false, ..CachePolicy::default() },
        lookup_charge: None,
        revoke_with_parent: false,
    };
    let outcome = state.verifier.verify(&presented).await.outcome;
    if hides(&outcome, &credential, &context, &state).await.map_err(|denial| parent_error(&denial))? {
        return Err(ApiError::plain(Reason::ApiKeyNotFound));
    }
    let verdict = outcome.map_err(|denial| parent_error(&denial))?;
    let parent = verdict.record().ok_or_else(|| ApiError::plain(Reason::Unauthorized))?;
    let derived = state.lifecycle.derive(&context, parent, command).await?;
    Ok(Json(DeriveTokenResponse { token: Token::new(derived) }))
}

/// The error for an invalid parent key.
fn parent_error(denial: &Denial) -> ApiError {
    match denial {
        Denial::Revoked => ApiError::new(Reason::Forbidden, "key is revoked"),
        Denial::Unavailable { cause } => (*cause).into(),
        _ => ApiError::new(Reason::Unauthorized, "verify API key"),
    }
}

impl Token {
    fn new(derived: Derived) -> Self {
        Self {
            text: derived.token.expose_secret().to_owned(),
            expire_time: time_text(derived.expire_time),
            scopes: derived.scopes.iter().map(str::to_owned).collect(),
            claims: object_or_null(derived.claims),
            audiences: derived.audiences,
        }
    }
}
