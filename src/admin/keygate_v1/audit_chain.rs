//! `GET /keygate/v1/auditChain`: whether the last rows of the audit trail fit to each other.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::state::AdminState;
use crate::audit_log::{LatestRows, verify_latest};

/// The state of the chain that was sealed last. It names no row, because the caller may be bound to other actors.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct AuditChain {
    /// The chain; empty if no row is sealed yet.
    chain: String,
    /// The positions of the first and of the last row that were verified.
    first_row: i64,
    last_row: i64,
    /// Whether there are no problems.
    is_intact: bool,
    problem_count: usize,
}

/// Verifies the last rows of the chain that was sealed last, at most 1000.
#[utoipa::path(get, path = "/keygate/v1/auditChain", operation_id = "verifyAuditChain", tag = "audit trail",
    responses((status = 200, description = "Whether the rows fit to each other", body = AuditChain), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn audit_chain(
    State(state): State<AdminState>,
    _: Context<op::VerifyAuditChain>,
) -> Result<Json<AuditChain>, ApiError> {
    let Some((audit, recorder)) = state.lifecycle.audit() else {
        return Err(ApiError::new(Reason::NotFound, "the store of this server keeps no audit trail"));
    };
    let latest = verify_latest(&*audit, recorder.keys()).await?;
    let LatestRows { chain, first, last, problems } =
        latest.unwrap_or_else(|| LatestRows { chain: String::new(), first: 0, last: 0, problems: 0 });
    let is_intact = problems == 0;
    Ok(Json(AuditChain { chain, first_row: first, last_row: last, is_intact, problem_count: problems }))
}
