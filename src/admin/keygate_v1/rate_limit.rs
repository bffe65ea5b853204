//! `GET /keygate/v1/keys/{key_id}/rateLimit`: what is left of the limit of a key.

use axum::Json;
use axum::extract::State;
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::usage::key_of;
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::rate_limit_status::RateLimitStatus;
use crate::admin::state::AdminState;

/// The state of the limit of a key.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyRateLimitResponse)]
pub(in crate::admin) struct RateLimitResponse {
    /// The limit; `null` if the key has none of its own, or if limits are not enforced.
    rate_limit: Option<RateLimitState>,
}

/// A limit and what is left of it.
#[derive(Serialize, ToSchema)]
struct RateLimitState {
    quota: u64,
    window_seconds: u64,
    /// The number of requests that are admitted now.
    remaining: u64,
    /// The time until the whole quota is available again.
    reset_seconds: f64,
}

/// Reads the limit of a key of the caller's actors. Nothing is charged.
#[utoipa::path(get, path = "/keygate/v1/keys/{key_id}/rateLimit", operation_id = "getKeyRateLimit", tag = "usage",
    params(("key_id" = String, Path, description = "The key", min_length = 1)),
    responses((status = 200, description = "The limit", body = RateLimitResponse),
        (status = 404, description = "There is no such key", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn rate_limit(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::GetKeyRateLimit>,
    uri: Uri,
) -> Result<Json<RateLimitResponse>, ApiError> {
    let key = state.lifecycle.get(&context, key_of(&uri)?).await?;
    let Some(policy) = key.rate_limit else { return Ok(Json(RateLimitResponse { rate_limit: None })) };
    let outcome = RateLimitStatus::read(context.tenant, key.id, policy, &state).await;
    let rate_limit = outcome.map(|outcome| RateLimitState {
        quota: policy.quota.get(),
        window_seconds: policy.window.as_secs(),
        remaining: outcome.remaining,
        reset_seconds: outcome.reset().as_secs_f64(),
    });
    Ok(Json(RateLimitResponse { rate_limit }))
}
