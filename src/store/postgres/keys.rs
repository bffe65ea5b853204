//! Reads and writes of keys.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{Connection, Error, PgConnection, query_as};
use tokio::time::timeout;

use super::pool::Access;
use super::statements::{
    ABOVE_ALL, COUNT_ACTIVE, DELETE, FIND, FIND_BY_REQUEST, FIND_MANY, INSERT, LOCK_EXPIRED, PING, PRUNE_DELETED,
    PURGE, RECORD_LAST_USED, REPLACE, REVOKE, REVOKED_SINCE, ROTATE, ROTATE_LATER, list,
};
use super::store::PostgresStore;
use crate::audit::{AuditRow, Recorder};
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, EffectiveStatus, Revocation};
use crate::request_context::RequestContext;
use crate::store::audit_row;
use crate::store::audit_store::{AuditStore, RecorderSlot};
use crate::store::error::StoreError;
use crate::store::feed::ChangeFeed;
use crate::store::inactive::{InactiveCount, InactiveQuery};
use crate::store::key_store::{
    Inserted, KeySource, KeyStore, PageQuery, PurgedKey, RETRIES, Revoked, RevokedKey, check_system, check_tenants,
    contended, day_begin,
};
use crate::store::node_directory::NodeDirectory;
use crate::store::row::{self, PurgedRow, RevokedRow, kind_text};
use crate::store::search::{FoundKeys, SearchQuery};
use crate::store::usage_store::UsageStore;

type KeyRow = row::KeyRow<Timestamp>;

#[async_trait]
impl KeySource for PostgresStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.find_one(FIND, tenant, id.kind(), &id.to_string()).await
    }

    async fn find_many(&self, keys: &[(TenantId, KeyId)]) -> Result<Vec<ApiKey>, StoreError> {
        let names = KeyNames::new(keys);
        let query = || query_as::<_, KeyRow>(FIND_MANY).bind(&names.tenants).bind(&names.kinds).bind(&names.ids);
        let rows = self.connections.rows(Access::Read, query).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn find_by_request(
        &self,
        tenant: TenantId,
        kind: KeyKind,
        request_id: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.find_one(FIND_BY_REQUEST, tenant, kind, request_id).await
    }

    async fn list(&self, page: &PageQuery<'_>) -> Result<Vec<ApiKey>, StoreError> {
        let before = page.before.map_or_else(|| ABOVE_ALL.to_owned(), |id| id.to_string());
        let prefixes =
            page.actors.prefixes().map(|prefixes| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>());
        let query = || {
            query_as::<_, KeyRow>(list(page.filter))
                .bind(page.tenant.0)
                .bind(kind_text(page.kind))
                .bind(&before)
                .bind(i64::from(page.limit))
                .bind(&page.filter.actor_id)
                .bind(page.now)
                .bind(&prefixes)
        };
        let rows = self.connections.rows(Access::Read, query).await?;
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
        let audit = self.recorder.rows(|recorder| [recorder.created(context, key)]);
        let stored = self.insert_rows(&[KeyRow::new(key, request_id)?], &audit).await?;
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
        let created = |recorder: &Recorder| keys.iter().map(|key| recorder.created(context, key)).collect::<Vec<_>>();
        let stored = self.insert_rows(&rows, &self.recorder.rows(created)).await?;
        Ok(keys.iter().map(|key| stored.contains(&key.id.to_string())).collect())
    }

    async fn replace(&self, context: &RequestContext, key: &ApiKey, replaced: &ApiKey) -> Result<bool, StoreError> {
        check_tenants(context, [key.tenant])?;
        let row = KeyRow::new(key, None)?;
        let audit = audit_json(&self.recorder.rows(|recorder| [recorder.updated(context, replaced, key)]))?;
        let query = || {
            query_as::<_, (String,)>(REPLACE)
                .bind(key.tenant.0)
                .bind(&row.kind)
                .bind(&row.key_id)
                .bind(&row.name)
                .bind(&row.scopes)
                .bind(&row.metadata)
                .bind(row.rate_limit_quota)
                .bind(row.rate_limit_window)
                .bind(&row.allowed_cidrs)
                .bind(row.update_time)
                .bind(row.version)
                .bind(replaced.version.cast_signed())
                .bind(&audit)
        };
        Ok(!self.connections.rows(Access::Write, query).await?.is_empty())
    }

    async fn revoke(
        &self,
        context: &RequestContext,
        id: KeyId,
        revocation: &Revocation,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        let key_id = id.to_string();
        // Only a key that is deleted and imported again, or rotated, between the two statements needs another try.
        for _ in 0..RETRIES {
            let Some(old) = self.find(context.tenant, id).await? else { return Ok(Revoked::Absent) };
            if old.effective_status(now) == EffectiveStatus::Revoked {
                return Ok(Revoked::Already);
            }
            let audit = self.recorder.rows(|recorder| [recorder.revoked(context, &old, revocation, now)]);
            let audit = audit_json(&audit)?;
            let query = || {
                query_as::<_, KeyRow>(REVOKE)
                    .bind(context.tenant.0)
                    .bind(kind_text(id.kind()))
                    .bind(&key_id)
                    .bind(revocation.reason.name())
                    .bind(&revocation.description)
                    .bind(now)
                    .bind(Revocation::expiry(now, None))
                    .bind(old.create_time)
                    .bind(&audit)
                    .bind(old.revoke_time)
            };
            if let Some(row) = self.connections.rows(Access::Write, query).await?.pop() {
                return Ok(Revoked::Done(Box::new(row.try_into()?)));
            }
        }
        Err(contended(id))
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
        let (key_id, new_id) = (old.id.to_string(), new.id.to_string());
        let rotated = |recorder: &Recorder| recorder.rotated(context, (old, new), now, revoke_time);
        let audit = audit_json(&self.recorder.rows(rotated))?;
        let (new, revocation) = (json(&[KeyRow::new(new, None)?])?, Revocation::superseded());
        let query = || {
            let statement = if revoke_time.is_some() { ROTATE_LATER } else { ROTATE };
            let query =
                query_as::<_, KeyRow>(statement).bind(old.tenant.0).bind(kind_text(old.id.kind())).bind(&key_id);
            match revoke_time {
                Some(end) => {
                    let query = query.bind(now).bind(end).bind(&new_id).bind(old.version.cast_signed());
                    query.bind(&new).bind(&audit)
                }
                None => query
                    .bind(revocation.reason.name())
                    .bind(&revocation.description)
                    .bind(now)
                    .bind(Revocation::expiry(now, None))
                    .bind(old.version.cast_signed())
                    .bind(&new)
                    .bind(&new_id)
                    .bind(&audit),
            }
        };
        self.connections.rows(Access::Write, query).await?.pop().map(TryInto::try_into).transpose()
    }

    async fn record_last_used(
        &self,
        context: &RequestContext,
        keys: &[(TenantId, KeyId)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        check_tenants(context, keys.iter().map(|(tenant, _)| *tenant))?;
        let names = KeyNames::new(keys);
        let query = || {
            query_as::<_, (i64,)>(RECORD_LAST_USED)
                .bind(now)
                .bind(day_begin(now))
                .bind(&names.tenants)
                .bind(&names.kinds)
                .bind(&names.ids)
        };
        self.connections.rows(Access::Write, query).await.map(drop)
    }

    async fn delete(&self, context: &RequestContext, id: KeyId, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let key_id = id.to_string();
        for _ in 0..RETRIES {
            let Some(old) = self.find(context.tenant, id).await? else { return Ok(None) };
            let audit = audit_json(&self.recorder.rows(|recorder| [recorder.deleted(context, &old)]))?;
            let query = || {
                query_as::<_, (i64,)>(DELETE)
                    .bind(context.tenant.0)
                    .bind(kind_text(id.kind()))
                    .bind(&key_id)
                    .bind(now)
                    .bind(old.version.cast_signed())
                    .bind(&audit)
            };
            if let Some((version,)) = self.connections.rows(Access::Write, query).await?.pop() {
                return Ok(Some(version.unsigned_abs()));
            }
        }
        Err(contended(id))
    }

    async fn purge(
        &self,
        context: &RequestContext,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<PurgedKey>, StoreError> {
        check_system(context)?;
        let mut lease = self.connections.tested().await?;
        let purged = purge(lease.connection(), (before, limit), &self.recorder, context);
        let result = timeout(self.connections.transaction_timeout(), purged).await;
        lease.finish_transaction(result)?.and_then(|rows| rows.into_iter().map(TryInto::try_into).collect())
    }

    async fn prune_deleted(&self, context: &RequestContext, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        let query = || query_as::<_, (i64,)>(PRUNE_DELETED).bind(before).bind(i64::from(limit));
        let count = self.connections.rows(Access::Write, query).await?.pop();
        Ok(count.map_or(0, |(count,)| count.unsigned_abs()))
    }

    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<RevokedKey>, StoreError> {
        let query = || query_as::<_, RevokedRow<Timestamp>>(REVOKED_SINCE).bind(since).bind(i64::from(limit));
        let rows = self.connections.rows(Access::Read, query).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn count_active(&self, tenant: TenantId, now: Timestamp) -> Result<u64, StoreError> {
        let query = || query_as::<_, (i64,)>(COUNT_ACTIVE).bind(tenant.0).bind(now);
        let count = self.connections.rows(Access::Read, query).await?.pop();
        Ok(count.map_or(0, |(count,)| count.unsigned_abs()))
    }

    async fn count_inactive(&self, query: &InactiveQuery<'_>) -> Result<InactiveCount, StoreError> {
        self.count_inactive_keys(query).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.connections.rows(Access::Read, || query_as::<_, (i32,)>(PING)).await.map(drop)
    }

    fn audit(self: Arc<Self>) -> Option<Arc<dyn AuditStore>> {
        Some(self)
    }

    fn feed(self: Arc<Self>) -> Option<Arc<dyn ChangeFeed>> {
        Some(self)
    }

    fn usage(self: Arc<Self>) -> Option<Arc<dyn UsageStore>> {
        Some(self)
    }

    fn node_directory(self: Arc<Self>) -> Option<Arc<dyn NodeDirectory>> {
        Some(self)
    }

    async fn close(&self) {
        self.connections.close().await;
        self.feed.close().await;
    }
}

impl PostgresStore {
    async fn find_one(
        &self,
        statement: &'static str,
        tenant: TenantId,
        kind: KeyKind,
        name: &str,
    ) -> Result<Option<ApiKey>, StoreError> {
        let query = || query_as::<_, KeyRow>(statement).bind(tenant.0).bind(kind_text(kind)).bind(name);
        self.connections.rows(Access::Read, query).await?.pop().map(TryInto::try_into).transpose()
    }

    /// Adds the rows that conflict with no other row, in one statement. Returns their ids.
    async fn insert_rows(&self, rows: &[KeyRow], audit: &[AuditRow]) -> Result<HashSet<String>, StoreError> {
        let (json, audit) = (json(rows)?, audit_json(audit)?);
        let query = || query_as::<_, (String,)>(INSERT).bind(&json).bind(&audit);
        let stored = self.connections.rows(Access::Write, query).await?;
        Ok(stored.into_iter().map(|(id,)| id).collect())
    }
}

/// Purges keys in one transaction. A row that cannot be read as a record is an error, as nothing is then known to audit.
async fn purge(
    connection: &mut PgConnection,
    (before, limit): (Timestamp, u32),
    recorder: &RecorderSlot,
    context: &RequestContext,
) -> Result<Result<Vec<PurgedRow>, StoreError>, Error> {
    let mut transaction = connection.begin().await?;
    let expired = query_as::<_, KeyRow>(LOCK_EXPIRED).bind(before).bind(i64::from(limit));
    let expired = expired.fetch_all(&mut *transaction).await?;
    let prepare = || {
        let keys = expired.into_iter().map(ApiKey::try_from).collect::<Result<Vec<_>, _>>()?;
        let purged = |recorder: &Recorder| keys.iter().map(|key| recorder.purged(context, key)).collect::<Vec<_>>();
        let audit = audit_json(&recorder.rows(purged))?;
        Ok((KeyNames::new(&keys.iter().map(|key| (key.tenant, key.id)).collect::<Vec<_>>()), audit))
    };
    let (names, audit) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => return Ok(Err(error)),
    };
    let purge = query_as(PURGE).bind(names.tenants).bind(names.kinds).bind(names.ids).bind(audit);
    let rows = purge.fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Ok(rows))
}

/// Keys as one array per column.
struct KeyNames {
    tenants: Vec<uuid::Uuid>,
    kinds: Vec<&'static str>,
    ids: Vec<String>,
}

impl KeyNames {
    fn new(keys: &[(TenantId, KeyId)]) -> Self {
        Self {
            tenants: keys.iter().map(|(tenant, _)| tenant.0).collect(),
            kinds: keys.iter().map(|(_, id)| kind_text(id.kind())).collect(),
            ids: keys.iter().map(|(_, id)| id.to_string()).collect(),
        }
    }
}

fn json(rows: &[KeyRow]) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn audit_json(rows: &[AuditRow]) -> Result<String, StoreError> {
    audit_row::json::<Timestamp>(rows)
}
