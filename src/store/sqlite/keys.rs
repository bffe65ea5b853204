//! Reads and writes of keys.

use std::collections::HashSet;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::error::store_error;
use super::statements::{
    ABOVE_ALL, COUNT_ACTIVE, DELETE, FIND, FIND_BY_REQUEST, FIND_MANY, INSERT, INSERT_DELETED, INSERT_PURGED, PING,
    PRUNE_DELETED, PURGE, RECORD_LAST_USED, REPLACE, REVOKE, REVOKE_LATER, REVOKED_SINCE, list,
};
use super::store::SqliteStore;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, Revocation};
use crate::request_context::RequestContext;
use crate::store::error::StoreError;
use crate::store::key_store::{
    Inserted, KeySource, KeyStore, PageQuery, PurgedKey, Revoked, RevokedKey, check_system, check_tenants, day_begin,
};
use crate::store::row::{self, PurgedRow, RevokedRow, kind_text};
use crate::store::search::{FoundKeys, SearchQuery};

type KeyRow = row::KeyRow<i64>;

#[async_trait]
impl KeySource for SqliteStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.find_one(FIND, tenant, id.kind(), &id.to_string()).await
    }

    async fn find_many(&self, keys: &[(TenantId, KeyId)]) -> Result<Vec<ApiKey>, StoreError> {
        let query = sqlx::query_as(FIND_MANY).bind(key_names(keys));
        let rows: Vec<KeyRow> = query.fetch_all(&self.pool).await.map_err(store_error)?;
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
        let rows: Vec<KeyRow> = sqlx::query_as(list(page.filter))
            .bind(page.tenant.to_string())
            .bind(kind_text(page.kind))
            .bind(page.before.map_or_else(|| ABOVE_ALL.to_owned(), |id| id.to_string()))
            .bind(page.limit)
            .bind(&page.filter.actor_id)
            .bind(page.now.timestamp_micros())
            .bind(page.actors.prefixes().map(|prefixes| json!(prefixes).to_string()))
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn search(&self, query: &SearchQuery<'_>) -> Result<FoundKeys, StoreError> {
        self.search_keys(query).await
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
            .map_err(store_error)?;
        Ok(result.rows_affected() == 1)
    }

    async fn revoke(
        &self,
        context: &RequestContext,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        match revoke_row(&self.pool, (context.tenant, id), revocation, now, None).await? {
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
        now: Timestamp,
        revoke_time: Option<Timestamp>,
    ) -> Result<Option<ApiKey>, StoreError> {
        check_tenants(context, [old.tenant, new.tenant])?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)?;
        let (key, new_id) = ((old.tenant, old.id), Some(new.id));
        let replaced = match revoke_time {
            Some(end) => revoke_row_later(&mut *transaction, key, end, now, new.id).await?,
            None => revoke_row(&mut *transaction, key, &Revocation::superseded(), now, new_id).await?,
        };
        let Some(replaced) = replaced.filter(|replaced| replaced.version == old.version + 1) else {
            transaction.rollback().await.map_err(store_error)?;
            return Ok(None);
        };
        let stored = insert_rows(&mut *transaction, &[KeyRow::new(new, None)?]).await?;
        if stored.is_empty() {
            return Err(StoreError::Corrupt(format!("the new key id {} is taken", new.id)));
        }
        transaction.commit().await.map_err(store_error)?;
        Ok(Some(replaced))
    }

    async fn record_last_used(
        &self,
        context: &RequestContext,
        keys: &[(TenantId, KeyId)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        check_tenants(context, keys.iter().map(|(tenant, _)| *tenant))?;
        let written = sqlx::query(RECORD_LAST_USED)
            .bind(now.timestamp_micros())
            .bind(day_begin(now).timestamp_micros())
            .bind(key_names(keys))
            .execute(&self.pool)
            .await;
        written.map(drop).map_err(store_error)
    }

    async fn delete(&self, context: &RequestContext, id: KeyId, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)?;
        let version: Option<i64> = sqlx::query_scalar(DELETE)
            .bind(context.tenant.to_string())
            .bind(kind_text(id.kind()))
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(store_error)?;
        if version.is_some() {
            sqlx::query(INSERT_DELETED)
                .bind(context.tenant.to_string())
                .bind(kind_text(id.kind()))
                .bind(id.to_string())
                .bind(now.timestamp_micros())
                .execute(&mut *transaction)
                .await
                .map_err(store_error)?;
        }
        transaction.commit().await.map_err(store_error)?;
        Ok(version.map(i64::unsigned_abs))
    }

    async fn purge(
        &self,
        context: &RequestContext,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<PurgedKey>, StoreError> {
        check_system(context)?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)?;
        let before = before.timestamp_micros();
        let insert = sqlx::query(INSERT_PURGED).bind(before).bind(limit);
        insert.execute(&mut *transaction).await.map_err(store_error)?;
        let purge = sqlx::query_as::<_, PurgedRow>(PURGE).bind(before).bind(limit);
        let rows = purge.fetch_all(&mut *transaction).await.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn prune_deleted(&self, context: &RequestContext, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        let prune = sqlx::query(PRUNE_DELETED).bind(before.timestamp_micros()).bind(limit);
        Ok(prune.execute(&self.pool).await.map_err(store_error)?.rows_affected())
    }

    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<RevokedKey>, StoreError> {
        let rows: Vec<RevokedRow<i64>> = sqlx::query_as(REVOKED_SINCE)
            .bind(since.timestamp_micros())
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn count_active(&self, tenant: TenantId, now: Timestamp) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(COUNT_ACTIVE)
            .bind(tenant.to_string())
            .bind(now.timestamp_micros())
            .fetch_one(&self.pool)
            .await
            .map_err(store_error)?;
        Ok(count.unsigned_abs())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answer = sqlx::query(PING).fetch_optional(&self.pool).await;
        answer.map(drop).map_err(store_error)
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
            .map_err(store_error)?;
        row.map(TryInto::try_into).transpose()
    }

    async fn insert_rows(&self, rows: &[KeyRow]) -> Result<HashSet<String>, StoreError> {
        insert_rows(&self.pool, rows).await
    }
}

/// Keys as one JSON text: an array of arrays of tenant, kind and id.
fn key_names(keys: &[(TenantId, KeyId)]) -> String {
    let names = keys.iter().map(|(tenant, id)| json!([tenant.to_string(), kind_text(id.kind()), id.to_string()]));
    names.collect::<Value>().to_string()
}

/// Adds the rows that conflict with no other row, in one statement. Returns their ids.
async fn insert_rows<'c>(
    executor: impl sqlx::SqliteExecutor<'c>,
    rows: &[KeyRow],
) -> Result<HashSet<String>, StoreError> {
    let json = serde_json::to_string(rows).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let stored = sqlx::query_scalar(INSERT).bind(json).fetch_all(executor).await.map_err(store_error)?;
    Ok(stored.into_iter().collect())
}

/// Leaves an active key active until `end`, because `new_id` replaces it. Returns `None` if there is none.
async fn revoke_row_later<'c>(
    executor: impl sqlx::SqliteExecutor<'c>,
    (tenant, id): (TenantId, KeyId),
    end: Timestamp,
    now: Timestamp,
    new_id: KeyId,
) -> Result<Option<ApiKey>, StoreError> {
    let row: Option<KeyRow> = sqlx::query_as(REVOKE_LATER)
        .bind(now.timestamp_micros())
        .bind(end.timestamp_micros())
        .bind(new_id.to_string())
        .bind(tenant.to_string())
        .bind(kind_text(id.kind()))
        .bind(id.to_string())
        .fetch_optional(executor)
        .await
        .map_err(store_error)?;
    row.map(TryInto::try_into).transpose()
}

/// Revokes an active key, which `new_id` may replace. Returns `None` if there is none.
async fn revoke_row<'c>(
    executor: impl sqlx::SqliteExecutor<'c>,
    (tenant, id): (TenantId, KeyId),
    revocation: &Revocation,
    now: Timestamp,
    new_id: Option<KeyId>,
) -> Result<Option<ApiKey>, StoreError> {
    let row: Option<KeyRow> = sqlx::query_as(REVOKE)
        .bind(revocation.reason.name())
        .bind(&revocation.description)
        .bind(now.timestamp_micros())
        .bind(Revocation::expiry(now, None).timestamp_micros())
        .bind(new_id.map(|id| id.to_string()))
        .bind(tenant.to_string())
        .bind(kind_text(id.kind()))
        .bind(id.to_string())
        .fetch_optional(executor)
        .await
        .map_err(store_error)?;
    row.map(TryInto::try_into).transpose()
}
