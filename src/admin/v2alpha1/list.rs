//! `adminListIssuedApiKeys` and `adminListImportedApiKeys` (contract, admin API section 5.2).

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::key::{ImportedApiKey, IssuedApiKey};
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::query::Query;
use crate::admin::state::AdminState;
use crate::id::KeyKind;
use crate::lifecycle::ListKeys;
use crate::request_context::RequestContext;

/// A page of issued keys.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ListIssuedApiKeysResponse {
    issued_api_keys: Vec<IssuedApiKey>,
    /// The token of the next page; empty on the last one.
    next_page_token: String,
}

/// A page of imported keys.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ListImportedApiKeysResponse {
    imported_api_keys: Vec<ImportedApiKey>,
    /// The token of the next page; empty on the last one.
    next_page_token: String,
}

/// Lists issued keys in descending order of their ids.
#[utoipa::path(get, path = "/v2alpha1/admin/issuedApiKeys", operation_id = "adminListIssuedApiKeys",
    tag = "issued keys", params(
        ("page_size" = Option<i32>, Query, description = "0 to 1000; 0 means 50", minimum = 0, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the previous page; valid for an hour"),
        ("filter" = Option<String>, Query, description = "For example actor_id=\"user_1\" AND status=KEY_STATUS_ACTIVE")),
    responses((status = 200, description = "A page", body = ListIssuedApiKeysResponse),
        (status = 400, description = "A parameter is invalid", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn issued(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::ListIssuedKeys>,
    query: Query,
) -> Result<Json<ListIssuedApiKeysResponse>, ApiError> {
    let (issued_api_keys, next_page_token) = page(&state, &context, KeyKind::Issued, &query).await?;
    Ok(Json(ListIssuedApiKeysResponse { issued_api_keys, next_page_token }))
}

/// Lists imported keys in descending order of their ids.
#[utoipa::path(get, path = "/v2alpha1/admin/importedApiKeys", operation_id = "adminListImportedApiKeys",
    tag = "imported keys", params(
        ("page_size" = Option<i32>, Query, description = "0 to 1000; 0 means 50", minimum = 0, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the previous page; valid for an hour"),
        ("filter" = Option<String>, Query, description = "For example actor_id=\"user_1\" AND status=KEY_STATUS_ACTIVE")),
    responses((status = 200, description = "A page", body = ListImportedApiKeysResponse),
        (status = 400, description = "A parameter is invalid", body = ErrorResponse),
        (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn imported(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::ListImportedKeys>,
    query: Query,
) -> Result<Json<ListImportedApiKeysResponse>, ApiError> {
    let (keys, next_page_token) = page(&state, &context, KeyKind::Imported, &query).await?;
    let imported_api_keys = keys.into_iter().map(ImportedApiKey).collect();
    Ok(Json(ListImportedApiKeysResponse { imported_api_keys, next_page_token }))
}

async fn page(
    state: &AdminState,
    context: &RequestContext,
    kind: KeyKind,
    query: &Query,
) -> Result<(Vec<IssuedApiKey>, String), ApiError> {
    let request = ListKeys {
        page_size: query.number(["page_size", "pageSize"])?,
        page_token: query.text(["page_token", "pageToken"])?,
        filter: query.text(["filter", "filter"])?,
    };
    let page = state.lifecycle.list(context, kind, &request).await?;
    let now = state.lifecycle.now();
    Ok((page.keys.iter().map(|key| IssuedApiKey::new(key, now)).collect(), page.next_page_token))
}
