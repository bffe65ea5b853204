//! The routes of the operations and their custom verbs.

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::operations;
use super::paths::{ADMIN_KEY, ADMIN_KEYS};
use crate::admin::context::Call;
use crate::admin::custom_verb::LastSegment;
use crate::admin::error::not_found;
use crate::admin::state::AdminState;

/// The routes of all operations.
pub(in crate::admin) fn routes() -> Router<AdminState> {
    Router::new()
        .route(ADMIN_KEYS, post(operations::create).get(operations::list))
        .route(ADMIN_KEY, get(operations::get).post(verb))
}

async fn verb(State(state): State<AdminState>, segment: LastSegment, request: Request) -> Response {
    match segment.split_verb() {
        Some((id, "rotate")) => match Call::from_request(request, &state).await {
            Ok(call) => operations::rotate(&state, id, call).await.into_response(),
            Err(error) => error.into_response(),
        },
        Some((id, "revoke")) => match Call::from_request(request, &state).await {
            Ok(call) => operations::revoke(&state, id, call).await.into_response(),
            Err(error) => error.into_response(),
        },
        _ => not_found().await,
    }
}
