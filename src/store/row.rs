//! Conversion between rows and records, for every database. Rows are validated: another program may have written them.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::Serialize;

use super::error::StoreError;
#[cfg(feature = "postgres")]
use super::key_store::PurgedKey;
use super::key_store::RevokedKey;
use super::row_struct::row_struct;
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, Revocation, RevocationReason, Status};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};

/// How a database stores a time.
pub(super) trait TimeColumn: Sized {
    /// The value of a column for a time.
    fn from_time(time: Timestamp) -> Self;
    /// The time of a column's value; `None` if it is out of range.
    fn time(self) -> Option<Timestamp>;
}

/// Microseconds since 1970.
#[cfg(feature = "sqlite")]
impl TimeColumn for i64 {
    fn from_time(time: Timestamp) -> Self {
        time.timestamp_micros()
    }

    fn time(self) -> Option<Timestamp> {
        Timestamp::from_timestamp_micros(self)
    }
}

#[cfg(feature = "postgres")]
impl TimeColumn for Timestamp {
    fn from_time(time: Timestamp) -> Self {
        time
    }

    fn time(self) -> Option<Timestamp> {
        Some(self)
    }
}

row_struct! {
    /// A row of `keys`. Lists and objects are JSON text; `M` is the database's type of a time.
    #[derive(Serialize)]
    pub(super) struct KeyRow<M> {
        pub(super) tenant: String,
        pub(super) kind: String,
        pub(super) key_id: String,
        pub(super) request_id: Option<String>,
        pub(super) name: String,
        pub(super) actor_id: String,
        pub(super) scopes: String,
        pub(super) metadata: String,
        pub(super) status: String,
        pub(super) revocation_reason: Option<String>,
        pub(super) revocation_description: Option<String>,
        pub(super) visibility: String,
        pub(super) create_time: M,
        pub(super) update_time: M,
        pub(super) expire_time: Option<M>,
        pub(super) revoke_time: Option<M>,
        pub(super) replaced_by: Option<String>,
        pub(super) last_used_time: Option<M>,
        pub(super) rate_limit_quota: Option<i64>,
        pub(super) rate_limit_window: Option<i64>,
        pub(super) allowed_cidrs: String,
        pub(super) version: i64,
    }
}

row_struct! {
    /// A key that was revoked, deleted or replaced.
    pub(super) struct RevokedRow<M> {
        tenant: String,
        kind: String,
        key_id: String,
        time: M,
        is_later: bool,
    }
}

#[cfg(feature = "postgres")]
row_struct! {
    /// A key that was purged.
    pub(super) struct PurgedRow {
        tenant: String,
        kind: String,
        key_id: String,
        version: i64,
    }
}

impl<M: TimeColumn> KeyRow<M> {
    /// The row of a record.
    pub(super) fn new(key: &ApiKey, request_id: Option<&str>) -> Result<Self, StoreError> {
        let (status, revocation) = match &key.status {
            Status::Active => ("active", None),
            Status::Revoked(revocation) => ("revoked", Some(revocation)),
        };
        Ok(Self {
            tenant: key.tenant.to_string(),
            kind: kind_text(key.id.kind()).into(),
            key_id: key.id.to_string(),
            request_id: request_id.map(Into::into),
            name: key.name.clone(),
            actor_id: key.actor_id.clone(),
            scopes: json(key.scopes.as_slice())?,
            metadata: json(&key.metadata)?,
            status: status.into(),
            revocation_reason: revocation.map(|revocation| revocation.reason.name().into()),
            revocation_description: revocation.and_then(|revocation| revocation.description.clone()),
            visibility: visibility_text(key.visibility).into(),
            create_time: M::from_time(key.create_time),
            update_time: M::from_time(key.update_time),
            expire_time: key.expire_time.map(M::from_time),
            revoke_time: key.revoke_time.map(M::from_time),
            replaced_by: key.replaced_by.map(|id| id.to_string()),
            last_used_time: key.last_used_time.map(M::from_time),
            rate_limit_quota: key.rate_limit.map(|limit| limit.quota.get().cast_signed()),
            rate_limit_window: key.rate_limit.map(|limit| limit.window.as_secs().cast_signed()),
            allowed_cidrs: json(key.networks.texts())?,
            version: key.version.cast_signed(),
        })
    }
}

impl<M: TimeColumn> TryFrom<KeyRow<M>> for ApiKey {
    type Error = StoreError;

    fn try_from(row: KeyRow<M>) -> Result<Self, StoreError> {
        let name_of_row = row.key_id.clone();
        read(row).ok_or_else(|| StoreError::Corrupt(format!("the row of key {name_of_row}")))
    }
}

impl<M: TimeColumn> TryFrom<RevokedRow<M>> for RevokedKey {
    type Error = StoreError;

    fn try_from(row: RevokedRow<M>) -> Result<Self, StoreError> {
        let name_of_row = row.key_id.clone();
        let read = || {
            let (tenant, id) = (read_tenant(&row.tenant)?, read_id(&row.kind, &row.key_id)?);
            Some(Self { tenant, id, time: row.time.time()?, is_later: row.is_later })
        };
        read().ok_or_else(|| StoreError::Corrupt(format!("the revocation of key {name_of_row}")))
    }
}

#[cfg(feature = "postgres")]
impl TryFrom<PurgedRow> for PurgedKey {
    type Error = StoreError;

    fn try_from(row: PurgedRow) -> Result<Self, StoreError> {
        let read = || {
            let (tenant, id) = (read_tenant(&row.tenant)?, read_id(&row.kind, &row.key_id)?);
            Some(Self { tenant, id, version: row.version.try_into().ok()? })
        };
        read().ok_or_else(|| StoreError::Corrupt(format!("the row of key {}", row.key_id)))
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn read<M: TimeColumn>(row: KeyRow<M>) -> Option<ApiKey> {
    let scopes: Vec<String> = serde_json::from_str(&row.scopes).ok()?;
    let ranges: Vec<String> = serde_json::from_str(&row.allowed_cidrs).ok()?;
    Some(ApiKey {
        tenant: read_tenant(&row.tenant)?,
        id: read_id(&row.kind, &row.key_id)?,
        scopes: scopes.into_iter().collect::<Scopes>(),
        metadata: serde_json::from_str(&row.metadata).ok()?,
        status: read_status(&row)?,
        visibility: read_visibility(&row.visibility)?,
        create_time: row.create_time.time()?,
        update_time: row.update_time.time()?,
        expire_time: read_time(row.expire_time)?,
        revoke_time: read_time(row.revoke_time)?,
        replaced_by: match &row.replaced_by {
            Some(id) => Some(KeyId::parse_issued(id)?),
            None => None,
        },
        last_used_time: read_time(row.last_used_time)?,
        rate_limit: read_limit(row.rate_limit_quota, row.rate_limit_window)?,
        networks: CidrSet::parse(&ranges).ok()?,
        version: row.version.try_into().ok()?,
        name: row.name,
        actor_id: row.actor_id,
    })
}

/// Returns `None` if the value is invalid and `Some(None)` if it is absent, like [`read_limit`].
#[expect(clippy::option_option, reason = "invalid and absent are different results")]
fn read_time<M: TimeColumn>(time: Option<M>) -> Option<Option<Timestamp>> {
    match time {
        None => Some(None),
        Some(time) => time.time().map(Some),
    }
}

#[expect(clippy::option_option, reason = "invalid and absent are different results")]
fn read_limit(quota: Option<i64>, window: Option<i64>) -> Option<Option<RateLimitPolicy>> {
    let (Some(quota), Some(window)) = (quota, window) else {
        return Some(None);
    };
    let quota = NonZeroU64::new(quota.try_into().ok()?)?;
    let window = Duration::from_secs(window.try_into().ok()?);
    Some(Some(RateLimitPolicy { quota, window }))
}

pub(super) fn read_tenant(text: &str) -> Option<TenantId> {
    text.parse().ok().map(TenantId)
}

pub(super) fn read_id(kind: &str, id: &str) -> Option<KeyId> {
    let kind = [KeyKind::Issued, KeyKind::Imported].into_iter().find(|known| kind_text(*known) == kind)?;
    KeyId::parse(kind, id)
}

fn read_status<M>(row: &KeyRow<M>) -> Option<Status> {
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

/// The value of the column `kind`.
pub(super) fn kind_text(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Issued => "issued",
        KeyKind::Imported => "imported",
    }
}

/// The value of the column `visibility`.
fn visibility_text(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Secret => "secret",
        Visibility::Public => "public",
    }
}
