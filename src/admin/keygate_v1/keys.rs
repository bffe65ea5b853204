//! `GET /keygate/v1/keys`: issued and imported keys in one list, with conditions; `GET /keygate/v1/keys:countInactive`: the number of inactive
//! ones. Operations of Keygate, not of the contract.

use axum::Json;
use axum::extract::State;
use chrono::DateTime;
use serde::Serialize;
use utoipa::ToSchema;

use super::schemas::{KindText, StatusText};
use crate::admin::auth::op;
use crate::admin::context::Context;
use crate::admin::error::{ApiError, ErrorResponse};
use crate::admin::query::Query;
use crate::admin::state::AdminState;
use crate::admin::v2alpha1::key::IssuedApiKey;
use crate::clock::Timestamp;
use crate::id::KeyKind;
use crate::key::{ApiKey, EffectiveStatus, KeySearch};
use crate::lifecycle::{CountInactive, SearchKeys};
use crate::store::InactiveCount;

/// The parameters, in both spellings.
const PAGE_SIZE: [&str; 2] = ["page_size", "pageSize"];
const PAGE_TOKEN: [&str; 2] = ["page_token", "pageToken"];
const KIND: [&str; 2] = ["kind", "kind"];
const NAME_PREFIX: [&str; 2] = ["name_prefix", "namePrefix"];
const ACTOR_PREFIX: [&str; 2] = ["actor_prefix", "actorPrefix"];
const KEY_ID_PREFIX: [&str; 2] = ["key_id_prefix", "keyIdPrefix"];
const SCOPE: [&str; 2] = ["scope", "scope"];
const STATUS: [&str; 2] = ["status", "status"];
const EXPIRING_BEFORE: [&str; 2] = ["expiring_before", "expiringBefore"];
const UNUSED_SINCE: [&str; 2] = ["unused_since", "unusedSince"];
const NEVER_USED: [&str; 2] = ["never_used", "neverUsed"];
/// The conditions beside the status.
const CONDITIONS: [[&str; 2]; 8] =
    [KIND, NAME_PREFIX, ACTOR_PREFIX, KEY_ID_PREFIX, SCOPE, EXPIRING_BEFORE, UNUSED_SINCE, NEVER_USED];
const ANY_PREFIX: [&str; 2] = ["any_prefix", "anyPrefix"];

/// A page of keys.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ListKeysResponse {
    /// Issued keys before imported ones. May be fewer than `page_size`, or none, although it is not the last page.
    keys: Vec<ListedKey>,
    /// The token of the next page; empty on the last one.
    next_page_token: String,
}

/// A key of either kind.
#[derive(Serialize, ToSchema)]
struct ListedKey {
    #[schema(value_type = KindText, inline)]
    kind: &'static str,
    #[serde(flatten)]
    key: IssuedApiKey,
}

/// Lists issued and imported keys that meet all conditions.
#[utoipa::path(get, path = "/keygate/v1/keys", operation_id = "listKeys", tag = "keys", params(
        ("page_size" = Option<i32>, Query, description = "0 to 1000; 0 means 50", minimum = 0, maximum = 1000),
        ("page_token" = Option<String>, Query, description = "The next_page_token of the previous page; valid for an hour"),
        ("kind" = inline(Option<KindText>), Query, description = "Keys of this kind"),
        ("name_prefix" = Option<String>, Query, description = "Keys whose name begins with this text, byte by byte", max_length = 255),
        ("actor_prefix" = Option<String>, Query, description = "Keys whose actor begins with this text", max_length = 255),
        ("key_id_prefix" = Option<String>, Query, description = "Keys whose id begins with this text", max_length = 64),
        ("scope" = Option<String>, Query, description = "Keys that have exactly this scope", max_length = 100),
        ("status" = inline(Option<StatusText>), Query, description = "Keys with this status"),
        ("expiring_before" = Option<String>, Query, format = DateTime, description = "Keys that expire before this time, since 1970"),
        ("unused_since" = Option<String>, Query, format = DateTime, description = "Keys that were neither used nor created at this time or later"),
        ("never_used" = Option<bool>, Query, description = "Whether only keys that were never used")),
    responses((status = 200, description = "A page", body = ListKeysResponse), (status = 400, description = "A parameter is invalid", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn list_keys(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::ListKeys>,
    query: Query,
) -> Result<Json<ListKeysResponse>, ApiError> {
    // A condition that is ignored because of its spelling would list all keys.
    query.check_names(&[&[PAGE_SIZE, PAGE_TOKEN, STATUS], &CONDITIONS[..]].concat())?;
    let request = SearchKeys {
        page_size: query.number(PAGE_SIZE)?,
        page_token: query.text(PAGE_TOKEN)?,
        search: read_search(&query)?,
    };
    let page = state.lifecycle.search(&context, &request).await?;
    let now = state.lifecycle.now();
    let keys = page.keys.iter().map(|key| ListedKey::new(key, now)).collect();
    Ok(Json(ListKeysResponse { keys, next_page_token: page.next_page_token }))
}

/// How many keys are revoked or expired.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct CountInactiveKeysResponse {
    /// The number of keys that were found.
    count: u64,
    /// Whether these are all. If not, there are probably more: a count reads a bounded number of keys.
    is_complete: bool,
}

/// Counts keys that meet all conditions and are revoked or expired.
#[utoipa::path(get, path = "/keygate/v1/keys:countInactive", operation_id = "countInactiveKeys", tag = "keys", params(
        ("kind" = inline(Option<KindText>), Query, description = "Keys of this kind"),
        ("any_prefix" = Option<String>, Query, description = "Keys whose name, actor or id begins with this text; not with another prefix", max_length = 255),
        ("name_prefix" = Option<String>, Query, description = "Keys whose name begins with this text, byte by byte", max_length = 255),
        ("actor_prefix" = Option<String>, Query, description = "Keys whose actor begins with this text", max_length = 255),
        ("key_id_prefix" = Option<String>, Query, description = "Keys whose id begins with this text", max_length = 64),
        ("scope" = Option<String>, Query, description = "Keys that have exactly this scope", max_length = 100),
        ("expiring_before" = Option<String>, Query, format = DateTime, description = "Keys that expire before this time, since 1970"),
        ("unused_since" = Option<String>, Query, format = DateTime, description = "Keys that were neither used nor created at this time or later"),
        ("never_used" = Option<bool>, Query, description = "Whether only keys that were never used")),
    responses((status = 200, description = "The number", body = CountInactiveKeysResponse), (status = 400, description = "A parameter is invalid", body = ErrorResponse), (status = "default", description = "Any other error", body = ErrorResponse)))]
pub(in crate::admin) async fn count_inactive_keys(
    State(state): State<AdminState>,
    Context { context, .. }: Context<op::CountInactiveKeys>,
    query: Query,
) -> Result<Json<CountInactiveKeysResponse>, ApiError> {
    query.check_names(&[&[ANY_PREFIX], &CONDITIONS[..]].concat())?;
    let search = read_search(&query)?;
    let any_prefix = Some(query.text(ANY_PREFIX)?).filter(|text| !text.is_empty());
    let prefixes = [&search.name_prefix, &search.actor_prefix, &search.key_id_prefix];
    if any_prefix.is_some() && prefixes.into_iter().any(Option::is_some) {
        return Err(ApiError::invalid("any_prefix cannot be combined with name_prefix, actor_prefix or key_id_prefix"));
    }
    let InactiveCount { count, is_complete } =
        state.lifecycle.count_inactive(&context, &CountInactive { search, any_prefix }).await?;
    Ok(Json(CountInactiveKeysResponse { count, is_complete }))
}

impl ListedKey {
    fn new(key: &ApiKey, now: Timestamp) -> Self {
        let kind = match key.id.kind() {
            KeyKind::Issued => "issued",
            KeyKind::Imported => "imported",
        };
        Self { kind, key: IssuedApiKey::new(key, now) }
    }
}

fn read_search(query: &Query) -> Result<KeySearch, ApiError> {
    let text = |names| query.text(names).map(|text| (!text.is_empty()).then_some(text));
    Ok(KeySearch {
        kind: read(query, KIND, "issued or imported", |text| match text {
            "issued" => Some(KeyKind::Issued),
            "imported" => Some(KeyKind::Imported),
            _ => None,
        })?,
        name_prefix: text(NAME_PREFIX)?,
        actor_prefix: text(ACTOR_PREFIX)?,
        key_id_prefix: text(KEY_ID_PREFIX)?,
        scope: text(SCOPE)?,
        state: read(
            query,
            STATUS,
            "KEY_STATUS_ACTIVE, KEY_STATUS_REVOKED or KEY_STATUS_EXPIRED",
            EffectiveStatus::from_name,
        )?,
        expiring_before: time(query, EXPIRING_BEFORE)?,
        unused_since: time(query, UNUSED_SINCE)?,
        never_used: read(query, NEVER_USED, "true or false", |text| text.parse().ok())?.unwrap_or_default(),
    })
}

fn time(query: &Query, names: [&str; 2]) -> Result<Option<Timestamp>, ApiError> {
    let parse = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc());
    // Databases do not store all years that RFC 3339 has.
    let parse = |text: &str| parse(text).filter(|time| time.timestamp() >= 0);
    read(query, names, "an RFC 3339 time such as 2026-11-01T00:00:00Z, with + written as %2B", parse)
}

/// Reads a parameter; `None` if it is absent or empty. `expected` describes its values.
fn read<T>(
    query: &Query,
    names: [&str; 2],
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, ApiError> {
    let text = query.text(names)?;
    if text.is_empty() {
        return Ok(None);
    }
    parse(&text).map(Some).ok_or_else(|| ApiError::invalid(format!("{} must be {expected}", names[0])))
}
