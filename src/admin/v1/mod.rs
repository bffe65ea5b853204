//! The operations, a file each, and the paths that lead to them.

mod get;
mod issue;
mod key;
mod revoke;
mod verify;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::AdminState;
use super::error::{ApiError, Reason};
use super::json::Message;

const ISSUED: &str = "/v2alpha1/admin/issuedApiKeys";
const ISSUED_KEY: &str = "/v2alpha1/admin/issuedApiKeys/{key_id}";
const VERIFY: &str = "/v2alpha1/admin/apiKeys:verify";

/// The routes of all operations; a wrong method is a path that does not exist.
pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route(ISSUED, post(issue::handle))
        .route(ISSUED_KEY, get(get::handle).post(custom_method))
        .route(VERIFY, post(verify::handle))
        .method_not_allowed_fallback(not_found)
}

/// The answer where there is nothing.
pub(super) async fn not_found() -> Response {
    ApiError::plain(Reason::NotFound).into_response()
}

/// A path such as `{key_id}:revoke`: the router takes whole segments only.
async fn custom_method(state: State<AdminState>, Path(segment): Path<String>, message: Message) -> Response {
    match segment.rsplit_once(':') {
        Some((id, "revoke")) => revoke::handle(state, id, &message).await.into_response(),
        _ => not_found().await,
    }
}
