//! `GET /keygate/v1/caller`: what the admin key of a call permits.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::schemas::RoleText;
use crate::admin::auth::op;
use crate::admin::context::Caller;
use crate::admin::error::ErrorResponse;
use crate::request_context::Principal;

/// The caller.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct CallerResponse {
    /// The id of the admin key, or `bootstrap`; empty if callers are not authenticated.
    name: String,
    #[schema(value_type = Vec<RoleText>, inline)]
    roles: Vec<&'static str>,
    /// The prefixes of the actors that it is bound to; empty for every actor.
    #[schema(value_type = Vec<String>)]
    actors: Vec<Box<str>>,
}

/// Returns the name, the roles and the actors of the caller.
#[utoipa::path(get, path = "/keygate/v1/caller", operation_id = "getCaller", tag = "admin keys",
    responses((status = 200, description = "The caller", body = CallerResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn caller(Caller { context, grant, .. }: Caller<op::GetCaller>) -> Json<CallerResponse> {
    let name = match &context.principal {
        Principal::Admin(admin) => admin.name.to_string(),
        Principal::Anonymous | Principal::Key(_) | Principal::System => String::new(),
    };
    let actors = grant.actors.prefixes().unwrap_or_default().to_vec();
    Json(CallerResponse { name, roles: grant.role_names(), actors })
}
