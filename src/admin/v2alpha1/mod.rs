//! The operations, a file each, and the paths that lead to them.

pub(super) mod batch_create;
pub(super) mod delete;
pub(super) mod derive;
mod draft;
mod enums;
pub(super) mod get;
pub(super) mod import;
pub(super) mod issue;
pub(super) mod jwks;
mod key;
pub(super) mod list;
mod rate_limit_status;
pub(super) mod revoke;
pub(super) mod rotate;
pub(super) mod self_revoke;
pub(super) mod update;
pub(super) mod verify;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::Method;

use super::AdminState;
use super::body::RawBody;
use super::context::Context;
use super::custom_verb::Segment;
use super::error::{ApiError, Reason};

const ISSUED: &str = "/v2alpha1/admin/issuedApiKeys";
const ISSUED_KEY: &str = "/v2alpha1/admin/issuedApiKeys/{key_id}";
const IMPORTED: &str = "/v2alpha1/admin/importedApiKeys";
const IMPORTED_KEY: &str = "/v2alpha1/admin/importedApiKeys/{key_id}";
const BATCH_CREATE: &str = "/v2alpha1/admin/importedApiKeys:batchCreate";
const VERIFY: &str = "/v2alpha1/admin/apiKeys:verify";
const BATCH_VERIFY: &str = "/v2alpha1/admin/apiKeys:batchVerify";
const DERIVE: &str = "/v2alpha1/admin/apiKeys:derive";
const JWKS: &str = "/v2alpha1/derivedKeys/jwks.json";
const SELF_REVOKE: &str = "/v2alpha1/apiKeys:selfRevoke";
/// What the first published clients call.
const BATCH_IMPORT: &str = "/v2alpha1/admin/importedApiKeys:batchImport";
const LEGACY_JWKS: &str = "/v2alpha1/admin/derivedKeys/jwks.json";
const EITHER_KEY: &str = "/v2alpha1/admin/apiKeys/{key_id}";

/// The routes of all operations; a wrong method is a path that does not exist.
pub(super) fn routes() -> Router<AdminState> {
    Router::new()
        .route(ISSUED, post(issue::issue).get(list::issued))
        .route(ISSUED_KEY, get(get::issued).patch(update::issued).post(issued_method))
        .route(IMPORTED, post(import::import).get(list::imported))
        .route(IMPORTED_KEY, get(get::imported).patch(update::imported).delete(delete::delete).post(imported_method))
        .route(BATCH_CREATE, post(batch_create::batch_create))
        .route(VERIFY, post(verify::verify))
        .route(BATCH_VERIFY, post(verify::batch_verify))
        .route(DERIVE, post(derive::derive))
        .route(JWKS, get(jwks::jwks))
        .route(LEGACY_JWKS, get(jwks::legacy_jwks))
        .route(SELF_REVOKE, post(self_revoke::self_revoke))
        .route(BATCH_IMPORT, post(batch_create::batch_import))
        .route(EITHER_KEY, post(either_method))
        .method_not_allowed_fallback(not_found)
        .route_layer(from_fn(without_head))
}

/// The answer where there is nothing.
pub(super) async fn not_found() -> Response {
    ApiError::plain(Reason::NotFound).into_response()
}

/// The contract has no HEAD, which the router would answer like GET.
async fn without_head(request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD { not_found().await } else { next.run(request).await }
}

/// A path such as `{key_id}:revoke`: the router takes whole segments only.
async fn issued_method(
    State(state): State<AdminState>,
    Context(context): Context,
    Segment(segment): Segment,
    body: RawBody,
) -> Response {
    match segment.rsplit_once(':') {
        Some((id, "rotate")) => rotate::rotate(&state, &context, id, &body).await.into_response(),
        Some((id, "revoke")) => revoke::issued(&state, &context, id, &body).await.into_response(),
        _ => not_found().await,
    }
}

async fn imported_method(
    State(state): State<AdminState>,
    Context(context): Context,
    Segment(segment): Segment,
    body: RawBody,
) -> Response {
    match segment.rsplit_once(':') {
        Some((id, "revoke")) => revoke::imported(&state, &context, id, &body).await.into_response(),
        _ => not_found().await,
    }
}

async fn either_method(
    State(state): State<AdminState>,
    Context(context): Context,
    Segment(segment): Segment,
    body: RawBody,
) -> Response {
    match segment.rsplit_once(':') {
        Some((id, "revoke")) => revoke::either(&state, &context, id, &body).await.into_response(),
        _ => not_found().await,
    }
}
