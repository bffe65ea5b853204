//! The statements on the table of keys.

use std::collections::HashSet;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::list::statement;
use super::{SqliteStore, unavailable};
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, Revocation};
use crate::request_context::RequestContext;
use crate::store::row::{self, EndedRow, PurgedRow, kind_text};
use crate::store::{
    Inserted, KeySource, KeyStore, PageQuery, PurgedKey, Revoked, RevokedKey, StoreError, check_system, check_tenants,
    day_begin,
};

type KeyRow = row::KeyRow<i64>;

const FIND: &str = "SELECT * FROM keys WHERE tenant = ? AND kind = ? AND key_id = ?";
/// The keys are given as one JSON text.
const FIND_MANY: &str = "SELECT * FROM keys WHERE (tenant, kind, key_id) IN \
     (SELECT value->>0, value->>1, value->>2 FROM json_each(?))";
const FIND_BY_REQUEST: &str = "SELECT * FROM keys WHERE tenant = ? AND kind = ? AND request_id = ?";
/// Any number of rows, as one JSON text; those whose id or request id is taken are left out.
const INSERT: &str = "INSERT INTO keys (tenant, kind, key_id, request_id, name, actor_id, scopes, metadata, status, \
     revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, last_used_time, \
     rate_limit_quota, rate_limit_window, allowed_cidrs, version) \
     SELECT value->>'tenant', value->>'kind', value->>'key_id', value->>'request_id', value->>'name', \
     value->>'actor_id', value->>'scopes', value->>'metadata', value->>'status', value->>'revocation_reason', \
     value->>'revocation_description', value->>'visibility', value->>'create_time', value->>'update_time', \
     value->>'expire_time', value->>'last_used_time', value->>'rate_limit_quota', value->>'rate_limit_window', \
     value->>'allowed_cidrs', value->>'version' FROM json_each(?) WHERE true ON CONFLICT DO NOTHING RETURNING key_id";
const REPLACE: &str = "UPDATE keys SET name = ?, scopes = ?, metadata = ?, rate_limit_quota = ?, \
     rate_limit_window = ?, allowed_cidrs = ?, update_time = ?, version = ? \
     WHERE tenant = ? AND kind = ? AND key_id = ? AND version = ?";
const REVOKE: &str = "UPDATE keys SET status = 'revoked', revocation_reason = ?, revocation_description = ?, \
     update_time = ?, expire_time = max(?, coalesce(expire_time, 0)), version = version + 1 \
     WHERE tenant = ? AND kind = ? AND key_id = ? AND status = 'active' RETURNING *";
/// The keys are given as one JSON text.
const TOUCH: &str = "UPDATE keys SET last_used_time = ?1 WHERE (tenant, kind, key_id) IN \
     (SELECT value->>0, value->>1, value->>2 FROM json_each(?3)) \
     AND (last_used_time IS NULL OR last_used_time < ?2)";
const DELETE: &str = "DELETE FROM keys WHERE tenant = ? AND kind = ? AND key_id = ? RETURNING version";
const REMEMBER_DELETED: &str =
    "INSERT OR REPLACE INTO deleted_keys (tenant, kind, key_id, delete_time) VALUES (?, ?, ?, ?)";
/// The keys that a purge takes out: those that ended first before ?1, at most ?2.
macro_rules! over {
    () => {
        "(tenant, kind, key_id) IN (SELECT tenant, kind, key_id FROM keys WHERE expire_time < ?1 \
         ORDER BY expire_time, tenant, kind, key_id LIMIT ?2)"
    };
}

const REMEMBER_PURGED: &str = concat!(
    "INSERT OR REPLACE INTO deleted_keys (tenant, kind, key_id, delete_time) \
     SELECT tenant, kind, key_id, update_time FROM keys WHERE status = 'revoked' AND ",
    over!()
);
const PURGE: &str = concat!("DELETE FROM keys WHERE ", over!(), " RETURNING tenant, kind, key_id, version");
const FORGET_DELETED: &str = "DELETE FROM deleted_keys WHERE (tenant, kind, key_id) IN \
     (SELECT tenant, kind, key_id FROM deleted_keys WHERE delete_time < ? ORDER BY delete_time LIMIT ?)";
const ENDED_SINCE: &str = "SELECT tenant, kind, key_id, update_time AS time FROM keys \
     WHERE status = 'revoked' AND update_time >= ?1 \
     UNION ALL SELECT tenant, kind, key_id, delete_time FROM deleted_keys WHERE delete_time >= ?1 \
     ORDER BY time DESC LIMIT ?2";
const COUNT_ACTIVE: &str = "SELECT count(*) FROM keys WHERE tenant = ? AND status = 'active'";
/// The largest bound for a page without one: above every id, whose characters are lower-case letters, digits and `-`.
const ABOVE_ALL: &str = "~";

#[async_trait]
impl KeySource for SqliteStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.find_one(FIND, tenant, id.kind(), &id.to_string()).await
    }

    async fn find_many(&self, keys: &[(TenantId, KeyId)]) -> Result<Vec<ApiKey>, StoreError> {
        let query = sqlx::query_as(FIND_MANY).bind(key_names(keys));
        let rows: Vec<KeyRow> = query.fetch_all(&self.pool).await.map_err(unavailable)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn find_by_request(
        &self,
        tenant: TenantId,
        kind: KeyKind,
        request_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.find_one(FIND_BY_REQUEST, tenant, kind, request_id).await
    }

    async fn list(&self, page: &PageQuery<'_>) -> Result<Vec<ApiKey>, StoreError> {
        let rows: Vec<KeyRow> = sqlx::query_as(statement(page.filter))
            .bind(page.tenant.to_string())
            .bind(kind_text(page.kind))
            .bind(page.before.map_or_else(|| ABOVE_ALL.to_owned(), |id| id.to_string()))
            .bind(page.limit)
            .bind(&page.filter.actor_id)
            .bind(page.now.timestamp_micros())
            .fetch_all(&self.pool)
            .await
            .map_err(unavailable)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn insert(
        &self,
        context: &RequestContext,
        key: &ApiKey,
        request_id: Option<&str>,
    ) -> Result<Inserted, StoreError> {
        check_tenants(context, [key.tenant])?;
        let stored = self.insert_rows(&[KeyRow::new(key, request_id)?]).await?;
        if !stored.is_empty() {
            return Ok(Inserted::New);
        }
        // The request id wins over the id when both clash with different rows.
        if let Some(request_id) = request_id
            && let Some(first) = self.find_by_request(key.tenant, key.id.kind(), request_id).await?
        {
            return Ok(Inserted::Replay(Box::new(first)));
        }
        Ok(Inserted::Exists)
    }

    async fn insert_many(&self, context: &RequestContext, keys: &[ApiKey]) -> Result<Vec<bool>, StoreError> {
        check_tenants(context, keys.iter().map(|key| key.tenant))?;
        let rows = keys.iter().map(|key| KeyRow::new(key, None)).collect::<Result<Vec<_>, _>>()?;
        let stored = self.insert_rows(&rows).await?;
        Ok(keys.iter().map(|key| stored.contains(&key.id.to_string())).collect())
    }

    async fn replace(&self, context: &RequestContext, key: &ApiKey, replaced: u64) -> Result<bool, StoreError> {
        check_tenants(context, [key.tenant])?;
        let row = KeyRow::new(key, None)?;
        let result = sqlx::query(REPLACE)
            .bind(row.name)
            .bind(row.scopes)
            .bind(row.metadata)
            .bind(row.rate_limit_quota)
            .bind(row.rate_limit_window)
            .bind(row.allowed_cidrs)
            .bind(row.update_time)
            .bind(row.version)
            .bind(row.tenant)
            .bind(row.kind)
            .bind(row.key_id)
            .bind(replaced.cast_signed())
            .execute(&self.pool)
            .await
            .map_err(unavailable)?;
        Ok(result.rows_affected() == 1)
    }

    async fn revoke(
        &self,
        context: &RequestContext,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        match revoke_row(&self.pool, (context.tenant, id), revocation, now).await? {
            Some(key) => Ok(Revoked::Done(Box::new(key))),
            None if self.find(context.tenant, id).await?.is_some() => Ok(Revoked::Already),
            None => Ok(Revoked::Absent),
        }
    }

    async fn rotate(
        &self,
        context: &RequestContext,
        old: &ApiKey,
        new: &ApiKey,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Option<ApiKey>, StoreError> {
        check_tenants(context, [old.tenant, new.tenant])?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let ended = revoke_row(&mut *transaction, (old.tenant, old.id), revocation, now).await?;
        let Some(ended) = ended.filter(|ended| ended.version == old.version + 1) else {
            transaction.rollback().await.map_err(unavailable)?;
            return Ok(None);
        };
        let stored = insert_rows(&mut *transaction, &[KeyRow::new(new, None)?]).await?;
        if stored.is_empty() {
            return Err(StoreError::Corrupt(format!("the fresh key id {} is taken", new.id)));
        }
        transaction.commit().await.map_err(unavailable)?;
        Ok(Some(ended))
    }

    async fn record_last_used(
        &self,
        context: &RequestContext,
        keys: &[(TenantId, KeyId)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        check_tenants(context, keys.iter().map(|(tenant, _)| *tenant))?;
        let touched = sqlx::query(TOUCH)
            .bind(now.timestamp_micros())
            .bind(day_begin(now).timestamp_micros())
            .bind(key_names(keys))
            .execute(&self.pool)
            .await;
        touched.map(drop).map_err(unavailable)
    }

    async fn delete(&self, context: &RequestContext, id: KeyId, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let version: Option<i64> = sqlx::query_scalar(DELETE)
            .bind(context.tenant.to_string())
            .bind(kind_text(id.kind()))
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(unavailable)?;
        if version.is_some() {
            sqlx::query(REMEMBER_DELETED)
                .bind(context.tenant.to_string())
                .bind(kind_text(id.kind()))
                .bind(id.to_string())
                .bind(now.timestamp_micros())
                .execute(&mut *transaction)
                .await
                .map_err(unavailable)?;
        }
        transaction.commit().await.map_err(unavailable)?;
        Ok(version.map(i64::unsigned_abs))
    }

    async fn purge(
        &self,
        context: &RequestContext,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<PurgedKey>, StoreError> {
        check_system(context)?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
        let before = before.timestamp_micros();
        let remember = sqlx::query(REMEMBER_PURGED).bind(before).bind(limit);
        remember.execute(&mut *transaction).await.map_err(unavailable)?;
        let purge = sqlx::query_as::<_, PurgedRow>(PURGE).bind(before).bind(limit);
        let rows = purge.fetch_all(&mut *transaction).await.map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn forget_deleted(&self, context: &RequestContext, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        let forget = sqlx::query(FORGET_DELETED).bind(before.timestamp_micros()).bind(limit);
        Ok(forget.execute(&self.pool).await.map_err(unavailable)?.rows_affected())
    }

    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<RevokedKey>, StoreError> {
        let rows: Vec<EndedRow<i64>> = sqlx::query_as(ENDED_SINCE)
            .bind(since.timestamp_micros())
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(unavailable)?;
        rows.into_iter().map(TryInto::try_into).collect()
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

    async fn close(&self) {
        self.pool.close().await;
    }
}

impl SqliteStore {
    async fn find_one(
        &self,
        statement: &'static str,
        tenant: TenantId,
        kind: KeyKind,
        name: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        let row: Option<KeyRow> = sqlx::query_as(statement)
            .bind(tenant.to_string())
            .bind(kind_text(kind))
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(unavailable)?;
        row.map(TryInto::try_into).transpose()
    }

    async fn insert_rows(&self, rows: &[KeyRow]) -> Result<HashSet<String>, StoreError> {
        insert_rows(&self.pool, rows).await
    }
}

/// Keys as one JSON text: lists of tenant, kind and id.
fn key_names(keys: &[(TenantId, KeyId)]) -> String {
    let names = keys.iter().map(|(tenant, id)| json!([tenant.to_string(), kind_text(id.kind()), id.to_string()]));
    names.collect::<Value>().to_string()
}

/// Adds the rows that are in nobody's way, in one statement, and tells their ids.
async fn insert_rows<'c>(
    executor: impl sqlx::SqliteExecutor<'c>,
    rows: &[KeyRow],
) -> Result<HashSet<String>, StoreError> {
    let json = serde_json::to_string(rows).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let stored = sqlx::query_scalar(INSERT).bind(json).fetch_all(executor).await.map_err(unavailable)?;
    Ok(stored.into_iter().collect())
}

/// Revokes an active row; `None` when there is none.
async fn revoke_row<'c>(
    executor: impl sqlx::SqliteExecutor<'c>,
    (tenant, id): (TenantId, KeyId),
    revocation: &Revocation,
    now: Timestamp,
) -> Result<Option<ApiKey>, StoreError> {
    let row: Option<KeyRow> = sqlx::query_as(REVOKE)
        .bind(revocation.reason.name())
        .bind(&revocation.description)
        .bind(now.timestamp_micros())
        .bind(Revocation::expiry(now, None).timestamp_micros())
        .bind(tenant.to_string())
        .bind(kind_text(id.kind()))
        .bind(id.to_string())
        .fetch_optional(executor)
        .await
        .map_err(unavailable)?;
    row.map(TryInto::try_into).transpose()
}
