//! `getJwks`: the public keys that verify derived JWTs (contract, admin API section 5.12).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::state::AdminState;

/// The caching of the set. It is short, so that clients learn a new signing key well before the old one is removed.
const CACHING: &str = "public, max-age=300";

/// The keys, as defined by RFC 7517 (`keys`) and as generated clients expect them (`jwks`).
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct GetJWKSResponse {
    #[schema(value_type = Vec<JsonWebKey>)]
    keys: Vec<Value>,
    jwks: JsonWebKeySet,
}

/// A JWK set (RFC 7517 section 5).
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct JsonWebKeySet {
    #[schema(value_type = Vec<JsonWebKey>)]
    keys: Vec<Value>,
}

/// The public part of a signing key (RFC 7517, RFC 8037), with the members of its source.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes members that are copied from the source")]
pub(in crate::admin) struct JsonWebKey {
    kty: String,
    kid: String,
    #[schema(nullable = false)]
    alg: Option<String>,
    #[schema(rename = "use", nullable = false)]
    usage: Option<String>,
    #[schema(nullable = false)]
    crv: Option<String>,
    #[schema(nullable = false)]
    x: Option<String>,
    #[schema(nullable = false)]
    y: Option<String>,
    #[schema(nullable = false)]
    n: Option<String>,
    #[schema(nullable = false)]
    e: Option<String>,
}

/// Returns the public keys. A matching `If-None-Match` gets 304.
#[utoipa::path(get, path = "/v2alpha1/derivedKeys/jwks.json", operation_id = "getJwks", tag = "public",
    responses((status = 200, description = "The keys", body = GetJWKSResponse),
        (status = 500, description = "There are no signing keys", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn jwks(
    State(state): State<AdminState>,
    _: Context<op::GetJwks>,
    headers: HeaderMap,
) -> Response {
    respond(&state, &headers)
}

/// Returns the public keys, at the path of older clients.
#[utoipa::path(get, path = "/v2alpha1/admin/derivedKeys/jwks.json", operation_id = "legacyAdminGetJwks",
    tag = "older clients",
    responses((status = 200, description = "The keys", body = GetJWKSResponse),
        (status = 500, description = "There are no signing keys", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn legacy_jwks(
    State(state): State<AdminState>,
    _: Context<op::GetJwksLegacy>,
    headers: HeaderMap,
) -> Response {
    respond(&state, &headers)
}

fn respond(state: &AdminState, headers: &HeaderMap) -> Response {
    let keys = state.signing_keys.load().public_jwks();
    if keys.is_empty() {
        let message = "no signing keys: set credentials.derived_tokens.jwt.signing_keys.urls";
        return ApiError::new(Reason::InternalServerError, message).into_response();
    }
    let etag = format!("\"{}\"", &hex::encode(Sha256::digest(Value::from(keys.clone()).to_string()))[..32]);
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = fields.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let is_match = tags.any(|tag| tag == etag || tag == "*");
    let headers = [(ETAG, etag), (CACHE_CONTROL, CACHING.to_owned())];
    if is_match {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let body = GetJWKSResponse { jwks: JsonWebKeySet { keys: keys.clone() }, keys };
    (headers, Json(body)).into_response()
}
