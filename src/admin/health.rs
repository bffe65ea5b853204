//! Health, version and metrics (contract, operations section 4).

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus::{Encoder, Registry, TextEncoder};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::op;
use super::context::Context;
use super::error::{ApiError, ErrorResponse, Reason, not_found};
use super::keygate_v1::schemas::HealthText;
use super::node::Readiness;
use super::state::AdminState;
use super::version::Version;

/// The state of this process.
#[derive(Serialize, ToSchema)]
#[schema(as = HealthResponse)]
pub(super) struct Health {
    #[schema(value_type = HealthText, inline)]
    status: &'static str,
    /// The state of the endpoints, by upstream and address; absent without a gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    upstreams: Option<Value>,
}

/// The answer to `/health/ready?verbose`.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    health: Health,
    #[serde(flatten)]
    readiness: Readiness,
}

pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route("/health/alive", get(alive))
        .route("/health/ready", get(ready))
        .route("/version", get(version))
        .method_not_allowed_fallback(not_found)
}

/// The routes of the metrics listener: health and metrics, without security headers.
pub(super) fn metrics_router(state: AdminState, registry: Registry) -> Router {
    let health = Router::new().route("/health/alive", get(alive)).route("/health/ready", get(ready_or_report));
    let health = health.with_state(state);
    health.merge(Router::new().route("/metrics", get(metrics)).with_state(registry))
}

/// Returns whether the process runs.
#[utoipa::path(get, path = "/health/alive", operation_id = "checkAlive", tag = "process",
    responses((status = 200, description = "It does", body = Health), (status = "default", description = "An error", body = ErrorResponse)))]
pub(super) async fn alive(_: Context<op::CheckAlive>) -> Json<Health> {
    Json(Health { status: "ok", upstreams: None })
}

/// Returns whether the process can serve: its database answers, the names of its upstreams were resolved, and it does not stop.
#[utoipa::path(get, path = "/health/ready", operation_id = "checkReady", tag = "process",
    responses((status = 200, description = "It can", body = Health), (status = 503, description = "It cannot", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(super) async fn ready(
    State(state): State<AdminState>,
    _: Context<op::CheckReady>,
) -> Result<Json<Health>, ApiError> {
    if let Err(reason) = state.node.ready().await {
        tracing::warn!(error = reason, "not ready");
        return Err(ApiError::plain(Reason::ServiceUnavailable));
    }
    // An upstream that fails does not make the gateway unready: its other routes work.
    let upstreams = state.upstream_report.as_ref().and_then(|report| report());
    Ok(Json(Health { status: "ok", upstreams }))
}

/// Readiness; with the parameter `verbose` also the dependencies and listeners of this process. Only on the listener of metrics, because
/// the answer has addresses.
async fn ready_or_report(
    RawQuery(query): RawQuery,
    state: State<AdminState>,
    context: Context<op::CheckReady>,
) -> Response {
    let node = Arc::clone(&state.node);
    let result = ready(state, context).await;
    let mut parameters = query.iter().flat_map(|query| query.split('&'));
    if !parameters.any(|parameter| parameter.split('=').next() == Some("verbose")) {
        return result.into_response();
    }
    let (status, health) = match result {
        Ok(Json(health)) => (StatusCode::OK, health),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, Health { status: "unavailable", upstreams: None }),
    };
    let report = Report { health, readiness: node.readiness().await };
    (status, Json(report)).into_response()
}

/// Returns the version of the process.
#[utoipa::path(get, path = "/version", operation_id = "getVersion", tag = "process",
    responses((status = 200, description = "The version", body = Version), (status = "default", description = "An error", body = ErrorResponse)))]
pub(super) async fn version(State(state): State<AdminState>, _: Context<op::GetVersion>) -> Json<Version> {
    Json(state.version.as_ref().clone())
}

async fn metrics(State(registry): State<Registry>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&registry.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => ApiError::internal(&error).into_response(),
    }
}
