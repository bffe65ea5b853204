//! `adminRevokeIssuedApiKey` (contract, admin API section 5.5).

use axum::extract::State;
use http::StatusCode;

use super::get::issued_id;
use crate::admin::AdminState;
use crate::admin::error::ApiError;
use crate::admin::json::Message;
use crate::key::{RevocationReason, RevokeKey};

/// Revokes a key. When the answer goes out, this node accepts the key no more.
pub(super) async fn handle(
    State(state): State<AdminState>,
    id: &str,
    message: &Message,
) -> Result<StatusCode, ApiError> {
    let reasons = RevocationReason::ALL.map(|reason| (reason.name(), reason));
    let command = RevokeKey {
        reason: message.choice("reason", &reasons)?.unwrap_or_default(),
        description: message.string("description")?,
    };
    state.lifecycle.revoke(state.tenant, issued_id(id)?, command).await?;
    Ok(StatusCode::NO_CONTENT)
}
