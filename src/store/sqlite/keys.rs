//! The statements on the table of keys.

use async_trait::async_trait;

use super::row::{KeyRow, kind_text, visibility_text};
use super::{SqliteStore, unavailable};
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, Revocation, Status};
use crate::store::{Inserted, KeyStore, Revoked, StoreError};

const FIND: &str = "SELECT * FROM keys WHERE tenant = ? AND kind = ? AND key_id = ?";
const FIND_BY_REQUEST: &str = "SELECT * FROM keys WHERE tenant = ? AND kind = ? AND request_id = ?";
const INSERT: &str = "INSERT INTO keys (tenant, kind, key_id, request_id, name, actor_id, scopes, metadata, status, \
     revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, last_used_time, \
     rate_limit_quota, rate_limit_window, allowed_cidrs, version) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
const REVOKE: &str = "UPDATE keys SET status = 'revoked', revocation_reason = ?, revocation_description = ?, \
     update_time = ?, expire_time = max(?, coalesce(expire_time, 0)), version = version + 1 \
     WHERE tenant = ? AND kind = ? AND key_id = ? AND status = 'active' RETURNING *";
const COUNT_ACTIVE: &str = "SELECT count(*) FROM keys WHERE tenant = ? AND status = 'active'";

#[async_trait]
impl KeyStore for SqliteStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.find_one(FIND, tenant, id, &id.to_string()).await
    }

    async fn find_by_request(
        &self,
        tenant: TenantId,
        like: KeyId,
        request_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.find_one(FIND_BY_REQUEST, tenant, like, request_id).await
    }

    async fn insert(&self, key: &ApiKey, request_id: Option<&str>) -> Result<Inserted, StoreError> {
        if self.insert_row(key, request_id).await? {
            return Ok(Inserted::New);
        }
        // The request id wins over the id when both clash with different rows.
        if let Some(request_id) = request_id
            && let Some(first) = self.find_by_request(key.tenant, key.id, request_id).await?
        {
            return Ok(Inserted::Replay(Box::new(first)));
        }
        Ok(Inserted::Exists)
    }

    async fn revoke(
        &self,
        tenant: TenantId,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        let row: Option<KeyRow> = sqlx::query_as(REVOKE)
            .bind(revocation.reason.name())
            .bind(&revocation.description)
            .bind(now.timestamp_micros())
            .bind(Revocation::expiry(now, None).timestamp_micros())
            .bind(tenant.to_string())
            .bind(kind_text(id))
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(unavailable)?;
        match row {
            Some(row) => Ok(Revoked::Done(Box::new(row.try_into()?))),
            None if self.find(tenant, id).await?.is_some() => Ok(Revoked::Already),
            None => Ok(Revoked::Absent),
        }
    }

    async fn count_active(&self, tenant: TenantId) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(COUNT_ACTIVE)
            .bind(tenant.to_string())
            .fetch_one(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(count.unsigned_abs())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answer = sqlx::query("SELECT 1 FROM keys LIMIT 1").fetch_optional(&self.pool).await;
        answer.map(drop).map_err(unavailable)
    }
}

impl SqliteStore {
    async fn find_one(
        &self,
        statement: &'static str,
        tenant: TenantId,
        like: KeyId,
        name: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        let row: Option<KeyRow> = sqlx::query_as(statement)
            .bind(tenant.to_string())
            .bind(kind_text(like))
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(unavailable)?;
        row.map(TryInto::try_into).transpose()
    }

    /// Whether the row was added, and not in anybody's way.
    async fn insert_row(&self, key: &ApiKey, request_id: Option<&str>) -> Result<bool, StoreError> {
        let (status, revocation) = match &key.status {
            Status::Active => ("active", None),
            Status::Revoked(revocation) => ("revoked", Some(revocation)),
        };
        let result = sqlx::query(INSERT)
            .bind(key.tenant.to_string())
            .bind(kind_text(key.id))
            .bind(key.id.to_string())
            .bind(request_id)
            .bind(&key.name)
            .bind(&key.actor_id)
            .bind(json(key.scopes.as_slice())?)
            .bind(json(&key.metadata)?)
            .bind(status)
            .bind(revocation.map(|revocation| revocation.reason.name()))
            .bind(revocation.and_then(|revocation| revocation.description.as_deref()))
            .bind(visibility_text(key.visibility))
            .bind(key.create_time.timestamp_micros())
            .bind(key.update_time.timestamp_micros())
            .bind(key.expire_time.map(|time| time.timestamp_micros()))
            .bind(key.last_used_time.map(|time| time.timestamp_micros()))
            .bind(key.rate_limit.map(|limit| limit.quota.get().cast_signed()))
            .bind(key.rate_limit.map(|limit| limit.window.as_secs().cast_signed()))
            .bind(json(key.networks.texts())?)
            .bind(key.version.cast_signed())
            .execute(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(result.rows_affected() == 1)
    }
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}
