//! `GET /keygate/v1/caller`: what the admin key of a call permits.

use axum::Json;
use serde::Serialize;

use crate::admin::auth::op;
use crate::admin::context::Caller;
use crate::request_context::Principal;

/// The caller.
#[derive(Serialize)]
pub(super) struct CallerResponse {
    /// The id of the admin key, or `bootstrap`; empty if callers are not authenticated.
    name: String,
    /// The roles: `read`, `verify`, `manage`, `admin`.
    roles: Vec<&'static str>,
    /// The prefixes of the actors that it is bound to; empty for every actor.
    actors: Vec<Box<str>>,
}

/// Returns the name, the roles and the actors of the caller.
pub(super) async fn caller(Caller { context, grant, .. }: Caller<op::GetCaller>) -> Json<CallerResponse> {
    let name = match &context.principal {
        Principal::Admin(admin) => admin.name.to_string(),
        Principal::Anonymous | Principal::Key(_) | Principal::System => String::new(),
    };
    let actors = grant.actors.prefixes().unwrap_or_default().to_vec();
    Json(CallerResponse { name, roles: grant.role_names(), actors })
}
