//! The routes of the operations and their custom verbs.

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::paths::{
    BATCH_CREATE, BATCH_IMPORT, BATCH_VERIFY, DERIVE, EITHER_KEY, IMPORTED, IMPORTED_KEY, ISSUED, ISSUED_KEY, JWKS,
    LEGACY_JWKS, SELF_REVOKE, VERIFY,
};
use super::{
    batch_create, delete, derive, get, import, issue, jwks, list, revoke, rotate, self_revoke, update, verify,
};
use crate::admin::auth::op;
use crate::admin::context::Call;
use crate::admin::custom_verb::LastSegment;
use crate::admin::error::not_found;
use crate::admin::middleware::reject_head;
use crate::admin::state::AdminState;

/// The routes of all operations. A wrong method gets 404.
pub(in crate::admin) fn routes() -> Router<AdminState> {
    Router::new()
        .route(ISSUED, post(issue::issue).get(list::issued))
        .route(ISSUED_KEY, get(get::issued).patch(update::issued).post(issued_verb))
        .route(IMPORTED, post(import::import).get(list::imported))
        .route(IMPORTED_KEY, get(get::imported).patch(update::imported).delete(delete::delete).post(imported_verb))
        .route(BATCH_CREATE, post(batch_create::batch_create))
        .route(VERIFY, post(verify::verify))
        .route(BATCH_VERIFY, post(verify::batch_verify))
        .route(DERIVE, post(derive::derive))
        .route(JWKS, get(jwks::jwks))
        .route(LEGACY_JWKS, get(jwks::legacy_jwks))
        .route(SELF_REVOKE, post(self_revoke::self_revoke))
        .route(BATCH_IMPORT, post(batch_create::batch_import))
        .route(EITHER_KEY, post(either_verb))
        .method_not_allowed_fallback(not_found)
        .route_layer(from_fn(reject_head))
}

/// The routes of the operations that need no key.
pub(in crate::admin) fn public_routes() -> Router<AdminState> {
    Router::new()
        .route(JWKS, get(jwks::jwks))
        .route(LEGACY_JWKS, get(jwks::legacy_jwks))
        .route(SELF_REVOKE, post(self_revoke::self_revoke))
        .method_not_allowed_fallback(not_found)
        .route_layer(from_fn(reject_head))
}

/// Routes the custom verbs of issued keys. The router matches whole segments only.
async fn issued_verb(State(state): State<AdminState>, segment: LastSegment, request: Request) -> Response {
    match segment.split_verb() {
        Some((id, "rotate")) => match Call::<op::RotateIssuedKey>::from_request(request, &state).await {
            Ok(Call { caller, body }) => rotate::rotate(&state, &caller.context, id, &body).await.into_response(),
            Err(error) => error.into_response(),
        },
        Some((id, "revoke")) => match Call::<op::RevokeIssuedKey>::from_request(request, &state).await {
            Ok(Call { caller, body }) => revoke::issued(&state, &caller.context, id, &body).await.into_response(),
            Err(error) => error.into_response(),
        },
        _ => not_found().await,
    }
}

async fn imported_verb(State(state): State<AdminState>, segment: LastSegment, request: Request) -> Response {
    match segment.split_verb() {
        Some((id, "revoke")) => match Call::<op::RevokeImportedKey>::from_request(request, &state).await {
            Ok(Call { caller, body }) => revoke::imported(&state, &caller.context, id, &body).await.into_response(),
            Err(error) => error.into_response(),
        },
        _ => not_found().await,
    }
}

async fn either_verb(State(state): State<AdminState>, segment: LastSegment, request: Request) -> Response {
    match segment.split_verb() {
        Some((id, "revoke")) => match Call::<op::RevokeKeyLegacy>::from_request(request, &state).await {
            Ok(Call { caller, body }) => revoke::either(&state, &caller.context, id, &body).await.into_response(),
            Err(error) => error.into_response(),
        },
        _ => not_found().await,
    }
}
