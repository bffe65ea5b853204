//! Reads and writes of keys.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::audit::{audit_json, insert_audit};
use super::error::store_error;
use super::statements::{
    ABOVE_ALL, COUNT_ACTIVE, DELETE, FIND, FIND_BY_REQUEST, FIND_MANY, INSERT, INSERT_DELETED, INSERT_MANY,
    INSERT_PURGED, PING, PRUNE_DELETED, PURGE, RECORD_LAST_USED, REPLACE, REVOKE, REVOKED_SINCE, ROTATE, ROTATE_LATER,
    list,
};
use super::store::SqliteStore;
use crate::audit::Recorder;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, Revocation};
use crate::request_context::RequestContext;
use crate::store::audit_store::AuditStore;
use crate::store::error::StoreError;
use crate::store::inactive::{InactiveCount, InactiveQuery};
use crate::store::key_store::{
    Inserted, KeySource, KeyStore, PageQuery, PurgedKey, Revoked, RevokedKey, check_system, check_tenants, day_begin,
};
use crate::store::row::{self, RevokedRow, kind_text};
use crate::store::search::{FoundKeys, SearchQuery};
use crate::store::store_file::StoreFile;
use crate::store::usage_store::UsageStore;

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
        let row = json(&[KeyRow::new(key, request_id)?])?;
        let audit = audit_json(&self.recorder.rows(|recorder| [recorder.created(context, key)]))?;
        let mut transaction = self.begin().await?;
        let insert = sqlx::query(INSERT).bind(row).bind(audit);
        let stored = insert.fetch_all(&mut *transaction).await.map_err(store_error)?;
        transaction.commit().await?;
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
        let mut transaction = self.begin().await?;
        let insert = sqlx::query_scalar::<_, String>(INSERT_MANY).bind(json(&rows)?);
        let stored: HashSet<_> = insert.fetch_all(&mut *transaction).await.map_err(store_error)?.into_iter().collect();
        let created = |recorder: &Recorder| {
            let stored = keys.iter().filter(|key| stored.contains(&key.id.to_string()));
            stored.map(|key| recorder.created(context, key)).collect::<Vec<_>>()
        };
        insert_audit(&mut transaction, &self.recorder.rows(created)).await?;
        transaction.commit().await?;
        Ok(keys.iter().map(|key| stored.contains(&key.id.to_string())).collect())
    }

    async fn replace(&self, context: &RequestContext, key: &ApiKey, replaced: &ApiKey) -> Result<bool, StoreError> {
        check_tenants(context, [key.tenant])?;
        let row = KeyRow::new(key, None)?;
        let audit = audit_json(&self.recorder.rows(|recorder| [recorder.updated(context, replaced, key)]))?;
        let mut transaction = self.begin().await?;
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
            .bind(replaced.version.cast_signed())
            .bind(audit)
            .execute(&mut *transaction)
            .await
            .map_err(store_error)?;
        transaction.commit().await?;
        // The audit row counts too.
        Ok(result.rows_affected() > 0)
    }

    async fn revoke(
        &self,
        context: &RequestContext,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        let mut transaction = self.begin().await?;
        let found = find_row(&mut *transaction, FIND, context.tenant, (id.kind(), &id.to_string())).await?;
        let Some(old) = found else {
            transaction.commit().await?;
            return Ok(Revoked::Absent);
        };
        let audit = self.recorder.rows(|recorder| [recorder.revoked(context, &old, revocation, now)]);
        let mut rows: Vec<KeyRow> = sqlx::query_as(REVOKE)
            .bind(revocation.reason.name())
            .bind(&revocation.description)
            .bind(now.timestamp_micros())
            .bind(Revocation::expiry(now, None).timestamp_micros())
            .bind(None::<String>)
            .bind(context.tenant.to_string())
            .bind(kind_text(id.kind()))
            .bind(id.to_string())
            .bind(audit_json(&audit)?)
            .fetch_all(&mut *transaction)
            .await
            .map_err(store_error)?;
        transaction.commit().await?;
        rows.pop().map_or(Ok(Revoked::Already), |row| Ok(Revoked::Done(Box::new(row.try_into()?))))
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
        let rotated = |recorder: &Recorder| recorder.rotated(context, (old, new), now, revoke_time);
        let audit = audit_json(&self.recorder.rows(rotated))?;
        let (row, revocation) = (json(&[KeyRow::new(new, None)?])?, Revocation::superseded());
        let rotate = match revoke_time {
            Some(end) => sqlx::query_as::<_, KeyRow>(ROTATE_LATER)
                .bind(now.timestamp_micros())
                .bind(end.timestamp_micros())
                .bind(new.id.to_string()),
            None => sqlx::query_as(ROTATE)
                .bind(revocation.reason.name())
                .bind(revocation.description)
                .bind(now.timestamp_micros())
                .bind(Revocation::expiry(now, None).timestamp_micros())
                .bind(new.id.to_string()),
        };
        let rotate = rotate.bind(old.tenant.to_string()).bind(kind_text(old.id.kind())).bind(old.id.to_string());
        let rotate = rotate.bind(old.version.cast_signed()).bind(row).bind(audit);
        let mut transaction = self.begin().await?;
        let mut replaced = rotate.fetch_all(&mut *transaction).await.map_err(store_error)?;
        transaction.commit().await?;
        replaced.pop().map(TryInto::try_into).transpose()
    }

    async fn record_last_used(
        &self,
        context: &RequestContext,
        keys: &[(TenantId, KeyId)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        check_tenants(context, keys.iter().map(|(tenant, _)| *tenant))?;
        let mut transaction = self.begin().await?;
        sqlx::query(RECORD_LAST_USED)
            .bind(now.timestamp_micros())
            .bind(day_begin(now).timestamp_micros())
            .bind(key_names(keys))
            .execute(&mut *transaction)
            .await
            .map_err(store_error)?;
        transaction.commit().await
    }

    async fn delete(&self, context: &RequestContext, id: KeyId, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let mut transaction = self.begin().await?;
        let row: Option<KeyRow> = sqlx::query_as(DELETE)
            .bind(context.tenant.to_string())
            .bind(kind_text(id.kind()))
            .bind(id.to_string())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(store_error)?;
        let Some(row) = row else {
            transaction.commit().await?;
            return Ok(None);
        };
        let key = ApiKey::try_from(row)?;
        sqlx::query(INSERT_DELETED)
            .bind(context.tenant.to_string())
            .bind(kind_text(id.kind()))
            .bind(id.to_string())
            .bind(now.timestamp_micros())
            .bind(audit_json(&self.recorder.rows(|recorder| [recorder.deleted(context, &key)]))?)
            .execute(&mut *transaction)
            .await
            .map_err(store_error)?;
        transaction.commit().await?;
        Ok(Some(key.version))
    }

    async fn purge(
        &self,
        context: &RequestContext,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<PurgedKey>, StoreError> {
        check_system(context)?;
        let mut transaction = self.begin().await?;
        let before = before.timestamp_micros();
        let insert = sqlx::query(INSERT_PURGED).bind(before).bind(limit);
        insert.execute(&mut *transaction).await.map_err(store_error)?;
        let purge = sqlx::query_as::<_, KeyRow>(PURGE).bind(before).bind(limit);
        let rows = purge.fetch_all(&mut *transaction).await.map_err(store_error)?;
        let keys = rows.into_iter().map(ApiKey::try_from).collect::<Result<Vec<_>, _>>()?;
        let purged = |recorder: &Recorder| keys.iter().map(|key| recorder.purged(context, key)).collect::<Vec<_>>();
        insert_audit(&mut transaction, &self.recorder.rows(purged)).await?;
        transaction.commit().await?;
        Ok(keys.iter().map(|key| PurgedKey { tenant: key.tenant, id: key.id, version: key.version }).collect())
    }

    async fn prune_deleted(&self, context: &RequestContext, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        let mut transaction = self.begin().await?;
        let prune = sqlx::query(PRUNE_DELETED).bind(before.timestamp_micros()).bind(limit);
        let pruned = prune.execute(&mut *transaction).await.map_err(store_error)?;
        transaction.commit().await?;
        Ok(pruned.rows_affected())
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

    async fn count_inactive(&self, query: &InactiveQuery<'_>) -> Result<InactiveCount, StoreError> {
        self.count_inactive_keys(query).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let answer = sqlx::query(PING).fetch_optional(&self.pool).await;
        answer.map(drop).map_err(store_error)
    }

    fn audit(self: Arc<Self>) -> Option<Arc<dyn AuditStore>> {
        Some(self)
    }

    fn usage(self: Arc<Self>) -> Option<Arc<dyn UsageStore>> {
        Some(self)
    }

    fn file(self: Arc<Self>) -> Option<Arc<dyn StoreFile>> {
        self.lock.is_held().then_some(self)
    }

    async fn close(&self) {
        if let Err(error) = self.writers.close().await {
            tracing::warn!(%error, "the connection that writes was not closed");
        }
        self.pool.close().await;
        self.lock.release();
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
        find_row(&self.pool, statement, tenant, (kind, name)).await
    }
}

async fn find_row<'c>(
    executor: impl sqlx::SqliteExecutor<'c>,
    statement: &'static str,
    tenant: TenantId,
    (kind, name): (KeyKind, &str),
) -> Result<Option<ApiKey>, StoreError> {
    let row: Option<KeyRow> = sqlx::query_as(statement)
        .bind(tenant.to_string())
        .bind(kind_text(kind))
        .bind(name)
        .fetch_optional(executor)
        .await
        .map_err(store_error)?;
    row.map(TryInto::try_into).transpose()
}

/// Keys as one JSON text: an array of arrays of tenant, kind and id.
fn key_names(keys: &[(TenantId, KeyId)]) -> String {
    let names = keys.iter().map(|(tenant, id)| json!([tenant.to_string(), kind_text(id.kind()), id.to_string()]));
    names.collect::<Value>().to_string()
}

fn json(rows: &[KeyRow]) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Corrupt(error.to_string()))
}
