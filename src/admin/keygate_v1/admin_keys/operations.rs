//! The operations on admin keys. A caller sees and creates only keys that permit no more than its own.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;
use serde::Serialize;
use utoipa::ToSchema;

use super::admin_key::{AdminKey, NewAdminKeyResponse};
use super::paths::ADMIN_KEYS;
use super::request::{CreateAdminKeyRequest, RevokeAdminKeyRequest};
use crate::admin::auth::{AdminGrant, op};
use crate::admin::body::Body;
use crate::admin::context::{Call, Caller};
use crate::admin::custom_verb::LastSegment;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::query::Query;
use crate::admin::state::AdminState;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, RotateKey};
use crate::lifecycle::ListKeys;
use crate::request_context::{ActorScope, RequestContext};

/// A page of admin keys.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ListAdminKeysResponse {
    /// By descending id. May be fewer than `page_size`, also before the last page.
    admin_keys: Vec<AdminKey>,
    /// The token of the next page; empty on the last one.
    next_page_token: String,
}

/// Creates an admin key and returns its secret, once.
#[utoipa::path(post, path = "/keygate/v1/adminKeys", operation_id = "createAdminKey", tag = "admin keys",
    request_body = CreateAdminKeyRequest,
    responses((status = 201, description = "The key", body = NewAdminKeyResponse),
        (status = 400, description = "A member is invalid", body = ErrorResponse),
        (status = 403, description = "The caller lacks a role or an actor of the key", body = ErrorResponse),
        (status = 409, description = "The request_id is taken", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn create(
    State(state): State<AdminState>,
    Caller { context, grant, .. }: Caller<op::CreateAdminKey>,
    Body(request): Body<CreateAdminKeyRequest>,
) -> Result<Response, ApiError> {
    let request = request.read()?;
    check_grant(&grant, &request.grant)?;
    let issued = state.admin_keys.issue(&reserved(context), request.draft()).await?;
    // A repeated request id may name the key of another caller.
    if !grant.contains(&granted(&issued.key)) {
        return Err(ApiError::new(Reason::ApiKeyExists, "the request_id is taken"));
    }
    let body = NewAdminKeyResponse::new(&issued.key, issued.secret.as_ref(), state.admin_keys.now());
    Ok(created(&issued.key, body))
}

/// Lists admin keys by descending id.
#[utoipa::path(get, path = "/keygate/v1/adminKeys", operation_id = "listAdminKeys", tag = "admin keys", params(
        ("page_size" = Option<i32>, Query, description = "0 to 1000; 0 means 50", minimum = 0, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the previous page; valid for an hour")),
    responses((status = 200, description = "A page", body = ListAdminKeysResponse), (status = 400, description = "A parameter is invalid", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn list(
    State(state): State<AdminState>,
    Caller { context, grant, .. }: Caller<op::ListAdminKeys>,
    query: Query,
) -> Result<Json<ListAdminKeysResponse>, ApiError> {
    let request = ListKeys {
        page_size: query.number(["page_size", "pageSize"])?,
        page_token: query.text(["page_token", "pageToken"])?,
        filter: String::new(),
    };
    let page = state.admin_keys.list(&reserved(context), KeyKind::Issued, &request).await?;
    let now = state.admin_keys.now();
    let visible = page.keys.iter().filter(|key| is_visible(&grant, key));
    let admin_keys = visible.map(|key| AdminKey::new(key, now)).collect();
    Ok(Json(ListAdminKeysResponse { admin_keys, next_page_token: page.next_page_token }))
}

/// Returns an admin key in any status.
#[utoipa::path(get, path = "/keygate/v1/adminKeys/{key_id}", operation_id = "getAdminKey", tag = "admin keys",
    params(("key_id" = String, Path, description = "The admin key", min_length = 1)),
    responses((status = 200, description = "The key", body = AdminKey), (status = 404, description = "There is no such admin key", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn get(
    State(state): State<AdminState>,
    Caller { context, grant, .. }: Caller<op::GetAdminKey>,
    LastSegment(id): LastSegment,
) -> Result<Json<AdminKey>, ApiError> {
    let key = find(&state, &reserved(context), &grant, &id).await?;
    Ok(Json(AdminKey::new(&key, state.admin_keys.now())))
}

/// Replaces an admin key with a new one that expires at the same time, and revokes the old one.
#[utoipa::path(post, path = "/keygate/v1/adminKeys/{key_id}:rotate", operation_id = "rotateAdminKey", tag = "admin keys",
    params(("key_id" = String, Path, description = "The admin key", min_length = 1)),
    responses((status = 201, description = "The new and the old key", body = NewAdminKeyResponse),
        (status = 400, description = "The body is invalid", body = ErrorResponse),
        (status = 403, description = "The caller lacks a role or an actor of the key", body = ErrorResponse),
        (status = 404, description = "There is no such admin key", body = ErrorResponse), (status = 409, description = "The admin key is not active", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn rotate(
    state: &AdminState,
    id: &str,
    call: Call<op::RotateAdminKey>,
) -> Result<Response, ApiError> {
    let Caller { context, grant, .. } = call.caller;
    let context = reserved(context);
    let old = find(state, &context, &grant, id).await?;
    // The response has the secret of a key with the same grant.
    check_grant(&grant, &granted(&old))?;
    let rotated = state.admin_keys.rotate(&context, old.id, RotateKey::default()).await?;
    let now = state.admin_keys.now();
    let body = NewAdminKeyResponse::new(&rotated.key, Some(&rotated.secret), now).replacing(&rotated.old, now);
    Ok(created(&rotated.key, body))
}

/// Revokes an admin key.
#[utoipa::path(post, path = "/keygate/v1/adminKeys/{key_id}:revoke", operation_id = "revokeAdminKey", tag = "admin keys",
    params(("key_id" = String, Path, description = "The admin key", min_length = 1)), request_body = RevokeAdminKeyRequest,
    responses((status = 204, description = "The key is revoked"),
        (status = 400, description = "A member is invalid", body = ErrorResponse),
        (status = 404, description = "There is no such admin key", body = ErrorResponse), (status = 409, description = "The admin key is not active", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn revoke(
    state: &AdminState,
    id: &str,
    call: Call<op::RevokeAdminKey>,
) -> Result<StatusCode, ApiError> {
    let request: RevokeAdminKeyRequest = call.body.read()?;
    let Caller { context, grant, .. } = call.caller;
    let context = reserved(context);
    let key = find(state, &context, &grant, id).await?;
    state.admin_keys.revoke(&context, key.id, request.read()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The context in the reserved tenant. The actors of the caller are those of ordinary keys.
fn reserved(context: RequestContext) -> RequestContext {
    RequestContext { tenant: TenantId::ADMIN, actors: ActorScope::All, ..context }
}

fn granted(key: &ApiKey) -> AdminGrant {
    AdminGrant::of_record(&key.scopes, &key.metadata)
}

/// A caller that is bound to actors sees only keys that are bound to some of them.
fn is_visible(grant: &AdminGrant, key: &ApiKey) -> bool {
    grant.actors.contains(&granted(key).actors)
}

async fn find(state: &AdminState, context: &RequestContext, grant: &AdminGrant, id: &str) -> Result<ApiKey, ApiError> {
    let not_found = || ApiError::new(Reason::ApiKeyNotFound, "admin key not found");
    let id = KeyId::parse_issued(id).ok_or_else(not_found)?;
    let key = state.admin_keys.get(context, id).await?;
    if is_visible(grant, &key) { Ok(key) } else { Err(not_found()) }
}

/// A caller can grant only roles and actors that it has.
fn check_grant(mine: &AdminGrant, requested: &AdminGrant) -> Result<(), ApiError> {
    if let Some(role) = requested.roles.iter().find(|role| !mine.has(**role)) {
        let message = format!("the admin key lacks the role {role}, so it cannot grant it");
        return Err(ApiError::new(Reason::Forbidden, message).with_metadata("required_role", role.name().to_owned()));
    }
    if !mine.contains(requested) {
        let message =
            "the admin key is bound to actors, so it can only grant these: set actors to prefixes below its own";
        return Err(ApiError::new(Reason::Forbidden, message));
    }
    Ok(())
}

fn created(key: &ApiKey, body: NewAdminKeyResponse) -> Response {
    (StatusCode::CREATED, [(LOCATION, format!("{ADMIN_KEYS}/{}", key.id))], Json(body)).into_response()
}
