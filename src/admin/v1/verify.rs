//! `adminVerifyApiKey` (contract, admin API section 5.9): every outcome is 200.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::key::{metadata_json, rate_limit_json, time_text, visibility_name};
use crate::admin::error::ApiError;
use crate::admin::json::Message;
use crate::admin::{AdminState, Peer};
use crate::credential::CREDENTIAL_MAX;
use crate::verifier::{CacheOutcome, CachePolicy, Denial, Presented, Verdict};
use crate::wire::client_ip::client_ip;

const TALOS_CACHE: HeaderName = HeaderName::from_static("ory-talos-cache");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const AUDIENCES_MAX: usize = 100;
const AUDIENCE_MAX: usize = 255;

/// Judges a credential for somebody else.
pub(super) async fn handle(
    State(state): State<AdminState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    message: Message,
) -> Result<Response, ApiError> {
    let credential = message.string("credential")?.unwrap_or_default();
    if !(1..=CREDENTIAL_MAX).contains(&credential.len()) {
        return Err(ApiError::invalid(format!("credential must have 1 to {CREDENTIAL_MAX} bytes")));
    }
    let audiences = message.strings("expected_audiences")?;
    check_audiences(&audiences)?;
    let peer = peer.map(|Extension(Peer(address))| address);
    let presented = Presented {
        tenant: state.tenant,
        credential: &credential,
        client_ip: client_ip(state.client_ip_source, peer, &headers),
        audiences: &audiences,
        cache: cache_policy(&headers),
    };
    let verification = state.verifier.verify(&presented).await;
    let mut response = match &verification.outcome {
        Ok(verdict) => valid(verdict, state.verifier.issuer()),
        Err(denial) => Json(refused(denial)).into_response(),
    };
    response.headers_mut().insert(TALOS_CACHE, cache_text(verification.cache));
    Ok(response)
}

fn check_audiences(audiences: &[String]) -> Result<(), ApiError> {
    let fit = audiences.len() <= AUDIENCES_MAX
        && audiences.iter().all(|audience| (1..=AUDIENCE_MAX).contains(&audience.chars().count()));
    if fit {
        Ok(())
    } else {
        Err(ApiError::invalid("expected_audiences must have at most 100 items of 1 to 255 characters"))
    }
}

/// `no-cache` keeps answers from coming out of the cache, `no-store` also from going in.
fn cache_policy(headers: &HeaderMap) -> CachePolicy {
    let has = |name: HeaderName, directive: &str| {
        let values =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        values.into_iter().any(|item| item.split('=').next().unwrap_or_default().trim().eq_ignore_ascii_case(directive))
    };
    let no_store = has(CACHE_CONTROL, "no-store");
    CachePolicy { read: !(no_store || has(CACHE_CONTROL, "no-cache") || has(PRAGMA, "no-cache")), write: !no_store }
}

fn cache_text(outcome: CacheOutcome) -> HeaderValue {
    HeaderValue::from_static(match outcome {
        CacheOutcome::Hit => "HIT",
        CacheOutcome::Miss => "MISS",
        CacheOutcome::Skip => "SKIP",
    })
}

fn valid(verdict: &Verdict, issuer: &str) -> Response {
    let mut body = json!({
        "is_valid": true,
        "key_id": verdict.key_id().to_string(),
        "actor_id": verdict.actor_id(),
        "scopes": verdict.scopes().as_slice(),
        "expire_time": verdict.expire_time().map(time_text),
        "metadata": metadata_json(verdict.metadata()),
        "visibility": visibility_name(verdict.visibility()),
        "issuer": issuer,
        "status": "KEY_STATUS_ACTIVE",
        "audiences": [],
    });
    let policy = verdict.rate_limit();
    if let Some(policy) = &policy {
        body["rate_limit_policy"] = rate_limit_json(policy);
    }
    let mut response = Json(body).into_response();
    let headers = response.headers_mut();
    if verdict.is_address_bound() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Some(policy) = policy
        && let Ok(value) =
            HeaderValue::from_str(&format!("\"default\";q={};w={}", policy.quota, policy.window.as_secs()))
    {
        headers.insert(RATE_LIMIT_POLICY, value);
    }
    response
}

fn refused(denial: &Denial) -> Value {
    json!({
        "is_valid": false,
        "key_id": "",
        "actor_id": "",
        "scopes": [],
        "expire_time": null,
        "metadata": null,
        "visibility": "KEY_VISIBILITY_UNSPECIFIED",
        "issuer": "",
        "status": "KEY_STATUS_UNSPECIFIED",
        "audiences": [],
        "error_code": error_code(denial),
        "error_message": denial.message(),
    })
}

/// The code of a denial (contract, credentials section 8).
fn error_code(denial: &Denial) -> &'static str {
    match denial {
        Denial::Unknown(_) => "VERIFICATION_ERROR_NOT_FOUND",
        Denial::Expired => "VERIFICATION_ERROR_EXPIRED",
        Denial::Revoked => "VERIFICATION_ERROR_REVOKED",
        Denial::SignatureInvalid => "VERIFICATION_ERROR_SIGNATURE_INVALID",
        Denial::AddressNotAllowed { .. } => "VERIFICATION_ERROR_IP_NOT_ALLOWED",
        Denial::AudienceMismatch => "VERIFICATION_ERROR_AUDIENCE_MISMATCH",
        Denial::FormatInvalid
        | Denial::CredentialMissing
        | Denial::CredentialAmbiguous
        | Denial::CredentialMalformed => "VERIFICATION_ERROR_INVALID_FORMAT",
        Denial::Unavailable { .. }
        | Denial::RouteNotFound
        | Denial::RequestInvalid(_)
        | Denial::ScopeInsufficient { .. }
        | Denial::UpstreamUnreachable
        | Denial::UpstreamTimeout => "VERIFICATION_ERROR_INTERNAL",
    }
}
