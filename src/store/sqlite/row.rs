//! Row to record. What a row holds is not trusted: another program may have written it.

use std::num::NonZeroU64;
use std::time::Duration;

use sqlx::FromRow;

use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, Revocation, RevocationReason, Status};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};
use crate::store::StoreError;

/// A row of `keys`, in the types of the database.
#[derive(FromRow)]
pub(super) struct KeyRow {
    tenant: String,
    kind: String,
    key_id: String,
    name: String,
    actor_id: String,
    scopes: String,
    metadata: String,
    status: String,
    revocation_reason: Option<String>,
    revocation_description: Option<String>,
    visibility: String,
    create_time: i64,
    update_time: i64,
    expire_time: Option<i64>,
    last_used_time: Option<i64>,
    rate_limit_quota: Option<i64>,
    rate_limit_window: Option<i64>,
    allowed_cidrs: String,
    version: i64,
}

impl TryFrom<KeyRow> for ApiKey {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        let name_of_row = row.key_id.clone();
        read(row).ok_or_else(|| StoreError::Corrupt(format!("the row of key {name_of_row}")))
    }
}

fn read(row: KeyRow) -> Option<ApiKey> {
    let scopes: Vec<String> = serde_json::from_str(&row.scopes).ok()?;
    let ranges: Vec<String> = serde_json::from_str(&row.allowed_cidrs).ok()?;
    Some(ApiKey {
        tenant: TenantId(row.tenant.parse().ok()?),
        id: read_id(&row.kind, &row.key_id)?,
        scopes: scopes.into_iter().collect::<Scopes>(),
        metadata: serde_json::from_str(&row.metadata).ok()?,
        status: read_status(&row)?,
        visibility: read_visibility(&row.visibility)?,
        create_time: Timestamp::from_timestamp_micros(row.create_time)?,
        update_time: Timestamp::from_timestamp_micros(row.update_time)?,
        expire_time: read_time(row.expire_time)?,
        last_used_time: read_time(row.last_used_time)?,
        rate_limit: read_limit(row.rate_limit_quota, row.rate_limit_window)?,
        networks: CidrSet::parse(&ranges).ok()?,
        version: row.version.try_into().ok()?,
        name: row.name,
        actor_id: row.actor_id,
    })
}

/// The outer `None` is a value that cannot be read, the inner one an absent value; so in [`read_limit`].
#[expect(clippy::option_option, reason = "unreadable and absent are different things")]
fn read_time(micros: Option<i64>) -> Option<Option<Timestamp>> {
    match micros {
        None => Some(None),
        Some(micros) => Timestamp::from_timestamp_micros(micros).map(Some),
    }
}

#[expect(clippy::option_option, reason = "unreadable and absent are different things")]
fn read_limit(quota: Option<i64>, window: Option<i64>) -> Option<Option<RateLimitPolicy>> {
    let (Some(quota), Some(window)) = (quota, window) else {
        return Some(None);
    };
    let quota = NonZeroU64::new(quota.try_into().ok()?)?;
    let window = Duration::from_secs(window.try_into().ok()?);
    Some(Some(RateLimitPolicy { quota, window }))
}

fn read_id(kind: &str, id: &str) -> Option<KeyId> {
    match kind {
        "issued" => KeyId::parse_issued(id),
        "imported" => KeyId::parse_imported(id),
        _ => None,
    }
}

fn read_status(row: &KeyRow) -> Option<Status> {
    match row.status.as_str() {
        "active" => Some(Status::Active),
        "revoked" => Some(Status::Revoked(Revocation {
            reason: match &row.revocation_reason {
                Some(name) => RevocationReason::from_name(name)?,
                None => RevocationReason::Unspecified,
            },
            description: row.revocation_description.clone(),
        })),
        _ => None,
    }
}

fn read_visibility(text: &str) -> Option<Visibility> {
    match text {
        "secret" => Some(Visibility::Secret),
        "public" => Some(Visibility::Public),
        _ => None,
    }
}

/// The text of a kind of key in the column `kind`.
pub(super) fn kind_text(id: KeyId) -> &'static str {
    match id {
        KeyId::Issued(_) => "issued",
        KeyId::Imported(_) => "imported",
    }
}

/// The text of a visibility in its column.
pub(super) fn visibility_text(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Secret => "secret",
        Visibility::Public => "public",
    }
}
