//! Token introspection (RFC 7662). Every credential gets 200; only a malformed request, or one that cannot be decided, is an error.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CACHE_CONTROL;

use super::form::IntrospectionForm;
use super::introspection::Introspection;
use super::oauth_error::{OAuthError, OAuthErrorBody, UnavailableError};
use super::schemas::IntrospectionRequest;
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::ErrorResponse;
use crate::admin::rate_limit_status::RateLimitStatus;
use crate::admin::state::AdminState;
use crate::credential::CREDENTIAL_MAX;
use crate::request_context::RequestContext;
use crate::verifier::{CachePolicy, ConnectionMemory, Denial, Presented, Verdict};

/// Describes a credential on behalf of another service (RFC 7662). `Authorization` is not read.
#[utoipa::path(post, path = "/keygate/v1/introspect", operation_id = "introspect", tag = "credentials",
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The description; only that it is not active, of a credential that is not accepted", body = Introspection<'_>),
        (status = 400, description = "The form is invalid", body = OAuthErrorBody<'_>),
        (status = 413, description = "The form has more than 65536 bytes", body = OAuthErrorBody<'_>),
        (status = 415, description = "The body is not a form", body = OAuthErrorBody<'_>),
        (status = 503, description = "Keygate cannot decide, or cannot read the admin key", body = UnavailableError), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn introspect(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::Introspect>,
    form: IntrospectionForm,
) -> Result<Response, OAuthError> {
    let arrived = Instant::now();
    let Some(verdict) = verify(&form, &context, &state, arrived).await? else {
        return Ok(respond(&Introspection::default()));
    };
    let described = Introspection::active(&verdict, &form.token, state.verifier.issuer());
    if !form.charge {
        return Ok(respond(&described));
    }
    let rate_limit = charge(&verdict, &state, arrived).await?;
    let mut response = respond(&described.charged(&rate_limit));
    rate_limit.describe(response.headers_mut());
    Ok(response)
}

/// The verdict about the credential; `None` if it is not accepted.
///
/// # Errors
/// If Keygate cannot decide.
async fn verify(
    form: &IntrospectionForm,
    context: &RequestContext,
    state: &AdminState,
    arrived: Instant,
) -> Result<Option<Verdict>, OAuthError> {
    if form.token.len() > CREDENTIAL_MAX {
        return Ok(None);
    }
    let presented = Presented {
        tenant: context.tenant,
        credential: &form.token,
        client_ip: form.client_ip.or(context.client_ip),
        arrived,
        audiences: &form.audiences,
        cache: CachePolicy::default(),
        lookup_charge: None,
        revoke_with_parent: state.revoke_with_parent,
    };
    let outcome = state.verifier.verify(&presented).await.outcome;
    match outcome {
        Ok(verdict) => Ok(Some(verdict).filter(|verdict| context.actors.allows(verdict.actor_id()))),
        Err(Denial::Unavailable { cause }) => Err(OAuthError::unavailable(cause.message())),
        Err(
            Denial::Unknown(_)
            | Denial::Expired
            | Denial::Revoked
            | Denial::FormatInvalid
            | Denial::SignatureInvalid
            | Denial::AddressNotAllowed { .. }
            | Denial::AudienceMismatch,
        ) => Ok(None),
    }
}

/// Charges the key behind a credential, as at the gateway: a token is charged to the limit of its key.
///
/// # Errors
/// If the key of a token cannot be read.
async fn charge(verdict: &Verdict, state: &AdminState, arrived: Instant) -> Result<RateLimitStatus, OAuthError> {
    match state.verifier.rate_limit(verdict, arrived, &mut ConnectionMemory::default()).await {
        Ok(Some(policy)) => Ok(RateLimitStatus::charge_key(verdict, policy, state).await),
        Ok(None) => Ok(RateLimitStatus::default()),
        Err(error) => Err(OAuthError::unavailable(Denial::unavailable(&error).message())),
    }
}

fn respond(body: &Introspection<'_>) -> Response {
    let mut response = Json(body).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
