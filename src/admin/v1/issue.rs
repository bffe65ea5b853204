//! `adminIssueApiKey` (contract, admin API section 5.1).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;
use secrecy::ExposeSecret;
use serde_json::json;

use super::key::{key_json, read_draft};
use crate::admin::AdminState;
use crate::admin::error::ApiError;
use crate::admin::json::Message;

/// Issues a key and shows its secret, this once.
pub(super) async fn handle(State(state): State<AdminState>, message: Message) -> Result<Response, ApiError> {
    let issued = state.lifecycle.issue(state.tenant, read_draft(&message)?).await?;
    let location = format!("{}/{}", super::ISSUED, issued.key.id);
    let body = json!({
        "issued_api_key": key_json(&issued.key, state.lifecycle.now()),
        "secret": issued.secret.as_ref().map_or("", |secret| secret.expose_secret()),
    });
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(body)).into_response())
}
