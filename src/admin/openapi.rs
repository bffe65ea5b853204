//! The OpenAPI 3.1 description, generated from the handlers and their types.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::OpenApi;

use super::auth::op;
use super::context::Context;
use super::error::not_found;
use super::state::AdminState;
use super::v2alpha1;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Keygate admin API",
        version = "v2alpha1",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        description = "Issues, imports, rotates, revokes, verifies and derives credentials. Wire-compatible with the \
            API-keys API of Ory Talos. Members are accepted in snake_case and lowerCamelCase; unknown ones are ignored."
    ),
    paths(
        v2alpha1::issue::issue,
        v2alpha1::list::issued,
        v2alpha1::get::issued,
        v2alpha1::update::issued,
        v2alpha1::rotate::rotate,
        v2alpha1::revoke::issued,
        v2alpha1::import::import,
        v2alpha1::list::imported,
        v2alpha1::get::imported,
        v2alpha1::update::imported,
        v2alpha1::delete::delete,
        v2alpha1::revoke::imported,
        v2alpha1::batch_create::batch_create,
        v2alpha1::verify::verify,
        v2alpha1::verify::batch_verify,
        v2alpha1::derive::derive,
        v2alpha1::jwks::jwks,
        v2alpha1::self_revoke::self_revoke,
        v2alpha1::batch_create::batch_import,
        v2alpha1::revoke::either,
        v2alpha1::jwks::legacy_jwks
    )
)]
struct Api;

/// The description as indented JSON, as served and as in `config/openapi.json`.
pub fn openapi_json() -> String {
    format!("{:#}\n", serde_json::json!(Api::openapi()))
}

pub(super) fn routes() -> Router<AdminState> {
    let json = openapi_json();
    Router::new()
        .route(
            "/openapi.json",
            get(|_: Context<op::DescribeApi>| async move { ([(CONTENT_TYPE, "application/json")], json) }),
        )
        .method_not_allowed_fallback(not_found)
}
