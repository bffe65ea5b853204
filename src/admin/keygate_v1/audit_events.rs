//! `GET /keygate/v1/auditEvents`: pages of the audit trail.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::schemas::{self, OrderText};
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::query::Query;
use crate::admin::state::AdminState;
use crate::audit::{AuditEvent, to_json};
use crate::clock::Timestamp;
use crate::id::TenantId;
use crate::request_context::RequestContext;
use crate::store::AuditQuery;

const PAGE_SIZE_DEFAULT: u32 = 50;
const PAGE_SIZE_MAX: u32 = 1000;

/// A page of the audit trail.
#[derive(Serialize, ToSchema)]
#[schema(as = ListAuditEventsResponse)]
pub(in crate::admin) struct AuditEvents {
    #[schema(value_type = Vec<schemas::AuditEvent>)]
    audit_events: Vec<Value>,
    /// The id of the last row; empty on the last page.
    next_page_token: String,
}

/// Returns rows about keys of the caller's actors, the latest first unless `order` is `asc`. Pages go by the id of a row, so that rows that are added meanwhile
/// move none. Unless `operation` asks for them, checkpoints are left out.
#[utoipa::path(get, path = "/keygate/v1/auditEvents", operation_id = "listAuditEvents", tag = "audit trail", params(
        ("page_size" = Option<i32>, Query, description = "0 to 1000; 0 means 50", minimum = 0, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the previous page"),
        ("from" = Option<String>, Query, format = DateTime, description = "Rows of this time, since 1970, or later"),
        ("to" = Option<String>, Query, format = DateTime, description = "Rows before this time"),
        ("principal" = Option<String>, Query, description = "Rows of calls by this principal"),
        ("operation" = Option<String>, Query, description = "The name of an event, or an operation such as issue or revoke"),
        ("key_id" = Option<String>, Query, description = "Rows about this key"),
        ("actor_id" = Option<String>, Query, description = "Rows about keys of this actor"),
        ("order" = inline(Option<OrderText>), Query, description = "The order of time; desc if absent")),
    responses((status = 200, description = "A page", body = AuditEvents), (status = 400, description = "A parameter is invalid", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn audit_events(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::ListAuditEvents>,
    query: Query,
) -> Result<Json<AuditEvents>, ApiError> {
    let Some(audit) = &state.audit else {
        return Err(ApiError::new(Reason::NotFound, "the store of this server keeps no audit trail"));
    };
    let mut query = read(context, &query)?;
    // One more row than the page holds shows whether there is another page.
    let size = query.limit as usize;
    query.limit += 1;
    let mut rows = audit.audit_page(&query).await?;
    let more = rows.len() > size;
    rows.truncate(size);
    let next_page_token = rows.last().filter(|_| more).map(|last| last.id.clone()).unwrap_or_default();
    Ok(Json(AuditEvents { audit_events: rows.iter().map(to_json).collect(), next_page_token }))
}

fn read(context: RequestContext, query: &Query) -> Result<AuditQuery, ApiError> {
    let limit = match query.number(["page_size", "pageSize"])? {
        0 => PAGE_SIZE_DEFAULT,
        size if size <= PAGE_SIZE_MAX => size,
        _ => return Err(ApiError::invalid(format!("page_size must be between 0 and {PAGE_SIZE_MAX}"))),
    };
    let text = |names: [&str; 2]| match query.text(names)? {
        text if text.is_empty() => Ok(None),
        // A database cannot compare such a text.
        text if text.contains('\0') => Err(ApiError::invalid(format!("{} must not contain NUL characters", names[0]))),
        text => Ok(Some(text)),
    };
    let time = |name: &str| text([name, name])?.map(|text| parse_time(name, &text)).transpose();
    let ascending = match query.text(["order", "order"])?.as_str() {
        "" | "desc" => false,
        "asc" => true,
        _ => return Err(ApiError::invalid("order must be asc or desc")),
    };
    Ok(AuditQuery {
        // Rows about admin keys have the tenant of those.
        tenants: vec![context.tenant, TenantId::ADMIN],
        actors: context.actors,
        from: time("from")?,
        to: time("to")?,
        principal: text(["principal", "principal"])?,
        events: text(["operation", "operation"])?.map_or(Ok(Vec::new()), |name| parse_operation(&name))?,
        key_id: text(["key_id", "keyId"])?,
        actor_id: text(["actor_id", "actorId"])?,
        after: text(["page_token", "pageToken"])?.map(|token| parse_token(&token)).transpose()?,
        ascending,
        limit,
    })
}

fn parse_time(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc)).ok();
    // The years that the databases can compare.
    let time = time.filter(|time| (0..253_402_300_800).contains(&time.timestamp()));
    time.ok_or_else(|| ApiError::invalid(format!("{name} must be an RFC 3339 time, for example 2027-01-31T00:00:00Z")))
}

fn parse_operation(name: &str) -> Result<Vec<AuditEvent>, ApiError> {
    match AuditEvent::named(name) {
        events if events.is_empty() => {
            let mut names: Vec<_> = AuditEvent::ALL.map(AuditEvent::operation).to_vec();
            names.sort_unstable();
            names.dedup();
            Err(ApiError::invalid(format!("operation must be the name of an event, or one of {}", names.join(", "))))
        }
        events => Ok(events),
    }
}

fn parse_token(token: &str) -> Result<String, ApiError> {
    let id = uuid::Uuid::try_parse(token).map(|id| id.to_string());
    id.map_err(|_| ApiError::invalid("page_token must be the next_page_token of another page"))
}
