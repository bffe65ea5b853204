//! `GET /keygate/v1/keys/{key_id}/usage`: the usage of a key by hour or day.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::schemas::StepText;
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse, Reason};
use crate::admin::query::Query;
use crate::admin::state::AdminState;
use crate::admin::v2alpha1::key::time_text;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind};
use crate::lifecycle::{KeyUsage, UsageRange, UsageStep, UsageTotals};

/// The usage of a key.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct UsageResponse {
    key_id: String,
    /// The time at which the first period begins.
    #[schema(format = DateTime)]
    from: String,
    /// The time at which the last period ends.
    #[schema(format = DateTime)]
    to: String,
    #[schema(value_type = StepText, inline)]
    step: &'static str,
    total: UsageBody,
    /// The number of requests of all keys in the range that a node could not count by key. If it is not 0, the other numbers may be too
    /// low by as much.
    requests_without_key: u64,
    /// Every period of the range, in order.
    periods: Vec<PeriodBody>,
}

/// The usage in a period.
#[derive(Serialize, ToSchema)]
#[schema(as = UsagePeriod)]
struct PeriodBody {
    /// The time at which the period begins.
    #[schema(format = DateTime)]
    start: String,
    #[serde(flatten)]
    usage: UsageBody,
}

/// Numbers of requests and bytes.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageCounts)]
struct UsageBody {
    /// The number of requests, refused ones included.
    requests: u64,
    /// The number of refused requests.
    refused: u64,
    /// The number of refused requests by the code of the refusal.
    refusals: BTreeMap<String, u64>,
    /// Bytes of the bodies of requests.
    bytes_received: u64,
    /// Bytes of the bodies of responses.
    bytes_sent: u64,
}

/// Returns the usage of a key of the caller's actors.
#[utoipa::path(get, path = "/keygate/v1/keys/{key_id}/usage", operation_id = "getKeyUsage", tag = "usage", params(
        ("key_id" = String, Path, description = "The key", min_length = 1),
        ("from" = Option<String>, Query, format = DateTime, description = "The begin of the range; a day before its end if absent"),
        ("to" = Option<String>, Query, format = DateTime, description = "The end of the range; now if absent"),
        ("step" = inline(Option<StepText>), Query, description = "The length of a period; hour if absent")),
    responses((status = 200, description = "The usage", body = UsageResponse), (status = 400, description = "A parameter is invalid", body = ErrorResponse),
        (status = 404, description = "There is no such key", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn usage(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::GetKeyUsage>,
    uri: Uri,
    query: Query,
) -> Result<Json<UsageResponse>, ApiError> {
    let id = key_of(&uri)?;
    let step = match query.text(["step", "step"])?.as_str() {
        "" | "hour" => UsageStep::Hour,
        "day" => UsageStep::Day,
        _ => return Err(ApiError::invalid("step must be hour or day")),
    };
    let (from, to) = (time(&query, "from")?, time(&query, "to")?);
    let range = UsageRange::new(from, to, step, state.lifecycle.now())?;
    let usage = state.lifecycle.usage(&context, id, &range).await?;
    Ok(Json(UsageResponse::new(id, &range, usage)))
}

/// The key of a path whose last segment names a part of it.
///
/// # Errors
/// 404 for another text than an id.
pub(super) fn key_of(uri: &Uri) -> Result<KeyId, ApiError> {
    let id = uri.path().rsplit('/').nth(1).unwrap_or_default();
    let id = [KeyKind::Issued, KeyKind::Imported].into_iter().find_map(|kind| KeyId::parse(kind, id));
    id.ok_or_else(|| ApiError::plain(Reason::ApiKeyNotFound))
}

fn time(query: &Query, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let text = query.text([name, name])?;
    if text.is_empty() {
        return Ok(None);
    }
    let time = DateTime::parse_from_rfc3339(&text).map(|time| Some(time.with_timezone(&Utc)));
    time.map_err(|_| ApiError::invalid(format!("{name} must be an RFC 3339 time, for example 2027-01-31T00:00:00Z")))
}

impl UsageResponse {
    fn new(id: KeyId, range: &UsageRange, usage: KeyUsage) -> Self {
        let periods = usage.periods.into_iter();
        Self {
            key_id: id.to_string(),
            from: time_text(range.from()),
            to: time_text(range.to()),
            step: match range.step() {
                UsageStep::Hour => "hour",
                UsageStep::Day => "day",
            },
            total: usage.total.into(),
            requests_without_key: usage.requests_without_key,
            periods: periods
                .map(|period| PeriodBody { start: time_text(period.begin), usage: period.totals.into() })
                .collect(),
        }
    }
}

impl From<UsageTotals> for UsageBody {
    fn from(totals: UsageTotals) -> Self {
        Self {
            requests: totals.counts.requests,
            refused: totals.refused(),
            bytes_received: totals.counts.bytes_received,
            bytes_sent: totals.counts.bytes_sent,
            refusals: totals.refusals,
        }
    }
}
