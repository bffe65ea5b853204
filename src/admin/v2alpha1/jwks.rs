//! `getJwks`: the public keys by which derived JWTs can be checked (contract, admin API section 5.12).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::admin::AdminState;
use crate::admin::error::{ApiError, ErrorResponse, Reason};

/// How long a set may be kept: a new signing key should be known well before the old one is gone.
const LIFE: &str = "public, max-age=300";

/// The keys, once as RFC 7517 has them and once as generated clients expect them.
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

/// The public half of a key (RFC 7517, RFC 8037); members as in its source.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is passed on as it stands in the source")]
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

/// Shows the public keys. An `If-None-Match` with the `ETag` of an earlier answer is answered with 304.
#[utoipa::path(get, path = "/v2alpha1/derivedKeys/jwks.json", operation_id = "getJwks", tag = "public",
    responses((status = 200, description = "The keys", body = GetJWKSResponse),
        (status = 500, description = "There are no keys", body = ErrorResponse),
        (status = "default", description = "Any other failure", body = ErrorResponse)))]
pub(in crate::admin) async fn jwks(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    show(&state, &headers)
}

/// The older place of the public keys.
#[utoipa::path(get, path = "/v2alpha1/admin/derivedKeys/jwks.json", operation_id = "legacyAdminGetJwks",
    tag = "older clients",
    responses((status = 200, description = "The keys", body = GetJWKSResponse),
        (status = 500, description = "There are no keys", body = ErrorResponse),
        (status = "default", description = "Any other failure", body = ErrorResponse)))]
pub(in crate::admin) async fn legacy_jwks(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    show(&state, &headers)
}

fn show(state: &AdminState, headers: &HeaderMap) -> Response {
    let keys = state.signing_keys.load().public_jwks();
    if keys.is_empty() {
        let message = "no signing keys: set credentials.derived_tokens.jwt.signing_keys.urls";
        return ApiError::new(Reason::InternalServerError, message).into_response();
    }
    let tag = format!("\"{}\"", &hex::encode(Sha256::digest(Value::from(keys.clone()).to_string()))[..32]);
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = known.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let fresh = tags.any(|known| known == tag || known == "*");
    let headers = [(ETAG, tag), (CACHE_CONTROL, LIFE.to_owned())];
    if fresh {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let body = GetJWKSResponse { jwks: JsonWebKeySet { keys: keys.clone() }, keys };
    (headers, Json(body)).into_response()
}
