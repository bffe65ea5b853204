//! `adminVerifyApiKey` and `adminBatchVerifyApiKeys` (contract, admin API sections 5.9 and 5.10): every outcome is 200.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enums::{KeyStatus, KeyVisibility, VerificationErrorCode as Code};
use super::failed_verification::note_failure;
use super::key::{RateLimitPolicy, object_or_null, time_text};
use super::schemas::AudienceText;
use crate::admin::auth::op;
use crate::admin::body::Body;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::json::Int64;
use crate::admin::rate_limit_status::RateLimitStatus;
use crate::admin::state::AdminState;
use crate::credential::CREDENTIAL_MAX;
use crate::key::Metadata;
use crate::lifecycle::LifecycleError;
use crate::request_context::{ActorScope, RequestContext};
use crate::verifier::{CacheOutcome, CachePolicy, Denial, Presented, UnknownReason, Verdict, Verification};

const TALOS_CACHE: HeaderName = HeaderName::from_static("ory-talos-cache");
const AUDIENCES_MAX: usize = 100;
const AUDIENCE_MAX: usize = 255;
const BATCH_MAX: usize = 100;

/// A request to verify a credential.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct VerifyApiKeyRequest {
    /// The credential, 1 to 8192 bytes.
    #[schema(required, nullable = false, min_length = 1, max_length = 8192)]
    credential: Option<String>,
    /// The expected audiences, at most 100 of 1 to 255 characters each. The credential must have one of them.
    #[serde(alias = "expectedAudiences")]
    #[schema(value_type = Vec<AudienceText>, inline, max_items = 100, required = false)]
    expected_audiences: Option<Vec<String>>,
}

/// A request to verify several credentials.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct BatchVerifyApiKeysRequest {
    /// 1 to 100 requests.
    #[schema(required, nullable = false, min_items = 1, max_items = 100)]
    requests: Option<Vec<VerifyApiKeyRequest>>,
}

/// The result of a verification.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct VerifyApiKeyResponse {
    is_valid: bool,
    /// The id of the key, or of the parent of a derived token.
    key_id: String,
    actor_id: String,
    scopes: Vec<String>,
    #[schema(format = DateTime)]
    expire_time: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error_code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error_message: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rate_limit_policy: Option<RateLimitPolicy>,
    /// The remaining requests, if the limit is enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = Int64, required = false)]
    rate_limit_remaining: Option<Int64>,
    /// The time at which the whole quota is available again, if the limit is enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    rate_limit_reset_time: Option<String>,
    visibility: KeyVisibility,
    issuer: String,
    status: KeyStatus,
    audiences: Vec<String>,
}

/// The results, in the order of the requests.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct BatchVerifyApiKeysResponse {
    results: Vec<VerifyApiKeyResponse>,
}

/// Verifies a credential on behalf of another service.
#[utoipa::path(post, path = "/v2alpha1/admin/apiKeys:verify", operation_id = "adminVerifyApiKey", tag = "credentials",
    params(("Cache-Control" = Option<String>, Header, description = "no-cache bypasses the cache, no-store also prevents storing in it"),
        ("Pragma" = Option<String>, Header, description = "no-cache bypasses the cache")),
    request_body = VerifyApiKeyRequest,
    responses((status = 200, description = "The result, also of a rejected credential", body = VerifyApiKeyResponse),
        (status = 400, description = "The request is invalid", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn verify(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::VerifyKey>,
    headers: HeaderMap,
    Body(request): Body<VerifyApiKeyRequest>,
) -> Result<Response, ApiError> {
    request.check()?;
    let verification = request.verify(&state, &context, cache_policy(&headers)).await;
    let rate_limit = RateLimitStatus::charge(&verification, &state).await;
    let body = VerifyApiKeyResponse::new(&verification, &rate_limit, &state);
    note_failure(body.error_message, request.credential(), &verification, (&context, &state));
    let mut response = Json(body).into_response();
    let headers = response.headers_mut();
    headers.insert(TALOS_CACHE, cache_text(verification.cache));
    if rate_limit.is_counted() || verification.outcome.as_ref().is_ok_and(Verdict::is_address_bound) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    rate_limit.describe(headers);
    Ok(response)
}

/// Verifies up to 100 credentials, without reading from the cache.
#[utoipa::path(post, path = "/v2alpha1/admin/apiKeys:batchVerify", operation_id = "adminBatchVerifyApiKeys",
    tag = "credentials",
    params(("Cache-Control" = Option<String>, Header, description = "no-store prevents storing in the cache"),
        ("Pragma" = Option<String>, Header, description = "Has no effect")),
    request_body = BatchVerifyApiKeysRequest,
    responses((status = 200, description = "The result of each", body = BatchVerifyApiKeysResponse),
        (status = 400, description = "A request is invalid", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn batch_verify(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::BatchVerifyKeys>,
    headers: HeaderMap,
    Body(request): Body<BatchVerifyApiKeysRequest>,
) -> Result<Json<BatchVerifyApiKeysResponse>, ApiError> {
    let requests = request.requests.unwrap_or_default();
    if !(1..=BATCH_MAX).contains(&requests.len()) {
        return Err(ApiError::invalid(format!("requests must have 1 to {BATCH_MAX} items")));
    }
    requests.iter().try_for_each(VerifyApiKeyRequest::check)?;
    let policy = CachePolicy { read: false, ..cache_policy(&headers) };
    let mut results = Vec::with_capacity(requests.len());
    for request in &requests {
        let verification = request.verify(&state, &context, policy).await;
        if let Err(Denial::Unavailable { cause }) = verification.outcome {
            return Err(ApiError::internal(&cause.message()));
        }
        let rate_limit = RateLimitStatus::charge(&verification, &state).await;
        let result = VerifyApiKeyResponse::new(&verification, &rate_limit, &state);
        note_failure(result.error_message, request.credential(), &verification, (&context, &state));
        results.push(result);
    }
    Ok(Json(BatchVerifyApiKeysResponse { results }))
}

impl VerifyApiKeyRequest {
    fn credential(&self) -> &str {
        self.credential.as_deref().unwrap_or_default()
    }

    fn check(&self) -> Result<(), ApiError> {
        check_credential(self.credential())?;
        check_audiences("expected_audiences", self.expected_audiences.as_deref().unwrap_or_default())
    }

    async fn verify(&self, state: &AdminState, context: &RequestContext, cache: CachePolicy) -> Verification {
        let presented = Presented {
            tenant: context.tenant,
            credential: self.credential(),
            client_ip: context.client_ip,
            arrived: Instant::now(),
            audiences: self.expected_audiences.as_deref().unwrap_or_default(),
            cache,
            lookup_charge: None,
            // In this API derived tokens are valid until they expire, also if the parent is revoked.
            revoke_with_parent: false,
        };
        restrict(state.verifier.verify(&presented).await, presented.credential, context, state).await
    }
}

/// Hides keys of actors that the caller is not bound to: they are as unknown keys.
async fn restrict(
    verification: Verification,
    credential: &str,
    context: &RequestContext,
    state: &AdminState,
) -> Verification {
    match hides(&verification.outcome, credential, context, state).await {
        Ok(false) => verification,
        Ok(true) => Verification { outcome: Err(Denial::Unknown(UnknownReason::Absent)), ..verification },
        Err(denial) => Verification { outcome: Err(denial), ..verification },
    }
}

/// Whether the outcome of a verification is about a key of an actor that the caller is not bound to.
///
/// # Errors
/// [`Denial::Unavailable`] if the key of a denied credential cannot be read.
pub(super) async fn hides(
    outcome: &Result<Verdict, Denial>,
    credential: &str,
    context: &RequestContext,
    state: &AdminState,
) -> Result<bool, Denial> {
    if context.actors == ActorScope::All {
        return Ok(false);
    }
    match outcome {
        Ok(verdict) => Ok(!context.actors.allows(verdict.actor_id())),
        // A denial does not name the actor.
        Err(_) => match state.verifier.identify(context.tenant, credential) {
            Ok(id) => match state.lifecycle.get(context, id).await {
                Ok(_) => Ok(false),
                Err(LifecycleError::Store(error)) => Err(Denial::unavailable(&error)),
                Err(_) => Ok(true),
            },
            Err(_) => Ok(false),
        },
    }
}

/// Checks that a credential has 1 to 8192 bytes.
pub(super) fn check_credential(credential: &str) -> Result<(), ApiError> {
    if (1..=CREDENTIAL_MAX).contains(&credential.len()) {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("credential must have 1 to {CREDENTIAL_MAX} bytes")))
    }
}

/// Checks that there are at most 100 audiences of 1 to 255 characters each.
pub(in crate::admin) fn check_audiences(name: &str, audiences: &[String]) -> Result<(), ApiError> {
    let is_valid = audiences.len() <= AUDIENCES_MAX
        && audiences.iter().all(|audience| (1..=AUDIENCE_MAX).contains(&audience.chars().count()));
    if is_valid {
        Ok(())
    } else {
        Err(ApiError::invalid(format!(
            "{name} must have at most {AUDIENCES_MAX} items of 1 to {AUDIENCE_MAX} characters"
        )))
    }
}

/// `no-cache` prevents reading from the cache, `no-store` reading and writing.
fn cache_policy(headers: &HeaderMap) -> CachePolicy {
    let has = |name: HeaderName, directive: &str| {
        let values =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        values.into_iter().any(|item| item.split('=').next().unwrap_or_default().trim().eq_ignore_ascii_case(directive))
    };
    let no_store = has(CACHE_CONTROL, "no-store");
    let read = !(no_store || has(CACHE_CONTROL, "no-cache") || has(PRAGMA, "no-cache"));
    CachePolicy { read, write: !no_store }
}

fn cache_text(outcome: CacheOutcome) -> HeaderValue {
    HeaderValue::from_static(match outcome {
        CacheOutcome::Hit | CacheOutcome::SharedHit | CacheOutcome::StaleHit => "HIT",
        CacheOutcome::Miss => "MISS",
        CacheOutcome::Skip => "SKIP",
    })
}

impl VerifyApiKeyResponse {
    fn new(verification: &Verification, rate_limit: &RateLimitStatus, state: &AdminState) -> Self {
        match &verification.outcome {
            Ok(verdict) => Self::valid(verdict, rate_limit, state),
            Err(denial) => Self::denied(denial),
        }
    }

    /// A valid credential. If its limit is exceeded, the result still has the members of the key.
    fn valid(verdict: &Verdict, rate_limit: &RateLimitStatus, state: &AdminState) -> Self {
        let is_exceeded = rate_limit.is_exceeded();
        Self {
            is_valid: !is_exceeded,
            key_id: verdict.key_id().to_string(),
            actor_id: verdict.actor_id().to_owned(),
            scopes: verdict.scopes().iter().map(str::to_owned).collect(),
            expire_time: verdict.expire_time().map(time_text),
            metadata: object_or_null(verdict.metadata()),
            error_code: is_exceeded.then_some(Code::VerificationErrorRateLimited),
            error_message: is_exceeded.then_some("rate limit exceeded"),
            rate_limit_policy: verdict.rate_limit().map(RateLimitPolicy::from),
            rate_limit_remaining: rate_limit.remaining().map(Int64),
            rate_limit_reset_time: rate_limit.reset_time(state.lifecycle.now()).map(time_text),
            visibility: verdict.visibility().into(),
            issuer: state.verifier.issuer().to_owned(),
            status: KeyStatus::KeyStatusActive,
            audiences: verdict.audiences().to_vec(),
        }
    }

    fn denied(denial: &Denial) -> Self {
        Self {
            is_valid: false,
            key_id: String::new(),
            actor_id: String::new(),
            scopes: Vec::new(),
            expire_time: None,
            metadata: None,
            error_code: Some(error_code(denial)),
            error_message: Some(denial.message()),
            rate_limit_policy: None,
            rate_limit_remaining: None,
            rate_limit_reset_time: None,
            visibility: KeyVisibility::KeyVisibilityUnspecified,
            issuer: String::new(),
            status: KeyStatus::KeyStatusUnspecified,
            audiences: Vec::new(),
        }
    }
}

/// The error code of a denial (contract, credentials section 8).
fn error_code(denial: &Denial) -> Code {
    match denial {
        Denial::Unknown(_) => Code::VerificationErrorNotFound,
        Denial::Expired => Code::VerificationErrorExpired,
        Denial::Revoked => Code::VerificationErrorRevoked,
        Denial::SignatureInvalid => Code::VerificationErrorSignatureInvalid,
        Denial::AddressNotAllowed { .. } => Code::VerificationErrorIpNotAllowed,
        Denial::AudienceMismatch => Code::VerificationErrorAudienceMismatch,
        Denial::FormatInvalid => Code::VerificationErrorInvalidFormat,
        Denial::Unavailable { .. } => Code::VerificationErrorInternal,
    }
}
