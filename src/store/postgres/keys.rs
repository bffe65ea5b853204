//! The statements on the table of keys. Those that change a key note the change for the feed.

use std::collections::HashSet;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::query_as;

use super::PostgresStore;
use super::list::statement;
use super::pool::Access;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, Revocation};
use crate::request_context::RequestContext;
use crate::store::row::{self, EndedRow, PurgedRow, kind_text};
use crate::store::{
    ChangeFeed, Inserted, KeySource, KeyStore, PageQuery, PurgedKey, Revoked, RevokedKey, StoreError, check_system,
    check_tenants, day_begin,
};

type KeyRow = row::KeyRow<Timestamp>;

/// The columns of a key as they are read. All are named, so that a statement lives on when a column is added.
macro_rules! columns {
    () => {
        "tenant::text, kind, key_id, request_id, name, actor_id, scopes::text, metadata::text, status, \
         revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, \
         last_used_time, rate_limit_quota, rate_limit_window, allowed_cidrs::text, version"
    };
}
pub(super) use columns;

/// The row of the feed for each row of `$rows`; `$change` is an expression on it.
macro_rules! note {
    ($rows:literal, $change:literal) => {
        concat!(
            "INSERT INTO changes (tenant, kind, key_id, change, version) SELECT tenant, kind, key_id, ",
            $change,
            ", version FROM ",
            $rows
        )
    };
}

/// Adds any number of rows, given as one JSON text. The order keeps two batches with the same keys from waiting for each
/// other.
macro_rules! insert {
    ($json:literal, $on_conflict:literal) => {
        concat!(
            "INSERT INTO keys (tenant, kind, key_id, request_id, name, actor_id, scopes, metadata, status, \
             revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, \
             last_used_time, rate_limit_quota, rate_limit_window, allowed_cidrs, version) \
             SELECT tenant, kind, key_id, request_id, name, actor_id, scopes::jsonb, metadata::json, status, \
             revocation_reason, revocation_description, visibility, create_time, update_time, expire_time, \
             last_used_time, rate_limit_quota, rate_limit_window, allowed_cidrs::jsonb, version \
             FROM json_to_recordset(",
            $json,
            "::json) AS new (tenant uuid, kind text, key_id text, request_id text, name text, actor_id text, \
             scopes text, metadata text, status text, revocation_reason text, revocation_description text, \
             visibility text, create_time timestamptz, update_time timestamptz, expire_time timestamptz, \
             last_used_time timestamptz, rate_limit_quota bigint, rate_limit_window bigint, allowed_cidrs text, \
             version bigint) ",
            $on_conflict,
            " RETURNING tenant, kind, key_id, version"
        )
    };
}

/// Revokes an active key; the parameters are as in [`PostgresStore::revoke`].
macro_rules! end {
    ($and:literal) => {
        concat!(
            "UPDATE keys SET status = 'revoked', revocation_reason = $4, revocation_description = $5, \
             update_time = $6, expire_time = greatest($7, expire_time), version = version + 1 \
             WHERE tenant = $1 AND kind = $2 AND key_id = $3 AND status = 'active'",
            $and,
            " RETURNING *"
        )
    };
}

const FIND: &str = concat!("SELECT ", columns!(), " FROM keys WHERE tenant = $1 AND kind = $2 AND key_id = $3");
const FIND_MANY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM keys JOIN unnest($1::uuid[], $2::text[], $3::text[]) AS named (tenant, kind, key_id) \
     USING (tenant, kind, key_id)"
);
const FIND_BY_REQUEST: &str =
    concat!("SELECT ", columns!(), " FROM keys WHERE tenant = $1 AND kind = $2 AND request_id = $3");
const INSERT: &str = concat!(
    "WITH stored AS (",
    insert!("$1", "ORDER BY tenant, kind, key_id ON CONFLICT DO NOTHING"),
    "), noted AS (",
    note!("stored", "CASE kind WHEN 'issued' THEN 'issue' ELSE 'import' END"),
    ") SELECT key_id FROM stored"
);
const REPLACE: &str = concat!(
    "WITH stored AS (UPDATE keys SET name = $4, scopes = $5::jsonb, metadata = $6::json, rate_limit_quota = $7, \
     rate_limit_window = $8, allowed_cidrs = $9::jsonb, update_time = $10, version = $11 \
     WHERE tenant = $1 AND kind = $2 AND key_id = $3 AND version = $12 RETURNING tenant, kind, key_id, version), \
     noted AS (",
    note!("stored", "'update'"),
    ") SELECT key_id FROM stored"
);
const REVOKE: &str = concat!(
    "WITH ended AS (",
    end!(""),
    "), noted AS (",
    note!("ended", "'revoke'"),
    ") SELECT ",
    columns!(),
    " FROM ended"
);
/// The new row is taken in only when the old one was there to end; that the new id is taken undoes all of it.
const ROTATE: &str = concat!(
    "WITH ended AS (",
    end!(" AND version = $8"),
    "), stored AS (",
    insert!("$9", "WHERE EXISTS (SELECT 1 FROM ended)"),
    "), ended_noted AS (",
    note!("ended", "'rotate'"),
    "), stored_noted AS (",
    note!("stored", "CASE kind WHEN 'issued' THEN 'issue' ELSE 'import' END"),
    ") SELECT ",
    columns!(),
    " FROM ended"
);
/// The rows are locked in one order, so that two batches with the same keys do not wait for each other.
const TOUCH: &str = "WITH used AS (SELECT tenant, kind, key_id FROM keys \
     JOIN unnest($3::uuid[], $4::text[], $5::text[]) AS named (tenant, kind, key_id) USING (tenant, kind, key_id) \
     WHERE last_used_time IS NULL OR last_used_time < $2 \
     ORDER BY tenant, kind, key_id FOR NO KEY UPDATE OF keys), \
     touched AS (UPDATE keys SET last_used_time = $1 FROM used \
     WHERE keys.tenant = used.tenant AND keys.kind = used.kind AND keys.key_id = used.key_id RETURNING 1) \
     SELECT count(*) FROM touched";
const DELETE: &str = concat!(
    "WITH gone AS (DELETE FROM keys WHERE tenant = $1 AND kind = $2 AND key_id = $3 \
     RETURNING tenant, kind, key_id, version), \
     remembered AS (INSERT INTO deleted_keys (tenant, kind, key_id, delete_time) \
     SELECT tenant, kind, key_id, $4 FROM gone \
     ON CONFLICT (tenant, kind, key_id) DO UPDATE SET delete_time = excluded.delete_time), noted AS (",
    note!("gone", "'delete'"),
    ") SELECT version FROM gone"
);
/// By one caller at a time, who waits for nobody: what another transaction holds is left for the next time. Whatever the
/// clock of a node shows, a key that lives by the database's is left alone.
pub(super) const PURGE: &str = concat!(
    "WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(7738151096025474131) AS mine), \
     over AS (SELECT tenant, kind, key_id FROM keys \
     WHERE expire_time < $1 AND expire_time < now() AND (SELECT mine FROM turn) \
     ORDER BY expire_time LIMIT $2 FOR UPDATE SKIP LOCKED), \
     gone AS (DELETE FROM keys USING over \
     WHERE keys.tenant = over.tenant AND keys.kind = over.kind AND keys.key_id = over.key_id \
     RETURNING keys.tenant, keys.kind, keys.key_id, keys.status, keys.update_time, keys.version), \
     remembered AS (INSERT INTO deleted_keys (tenant, kind, key_id, delete_time) \
     SELECT tenant, kind, key_id, update_time FROM gone WHERE status = 'revoked' \
     ON CONFLICT (tenant, kind, key_id) DO UPDATE SET delete_time = excluded.delete_time), noted AS (",
    note!("gone", "'purge'"),
    ") SELECT tenant::text, kind, key_id, version FROM gone"
);
const FORGET_DELETED: &str = "WITH gone AS (DELETE FROM deleted_keys WHERE (tenant, kind, key_id) IN \
     (SELECT tenant, kind, key_id FROM deleted_keys WHERE delete_time < $1 ORDER BY delete_time LIMIT $2 \
     FOR UPDATE SKIP LOCKED) RETURNING 1) SELECT count(*) FROM gone";
const ENDED_SINCE: &str = "SELECT tenant::text, kind, key_id, time FROM (\
     (SELECT tenant, kind, key_id, update_time AS time FROM keys \
     WHERE status = 'revoked' AND update_time >= $1 ORDER BY update_time DESC LIMIT $2) \
     UNION ALL (SELECT tenant, kind, key_id, delete_time FROM deleted_keys \
     WHERE delete_time >= $1 ORDER BY delete_time DESC LIMIT $2)) AS ended ORDER BY time DESC LIMIT $2";
const COUNT_ACTIVE: &str = "SELECT count(*) FROM keys WHERE tenant = $1 AND status = 'active'";
const PING: &str = "SELECT 1 FROM keys LIMIT 1";
/// The largest bound for a page without one: above every id, whose characters are lower-case letters, digits and `-`.
const ABOVE_ALL: &str = "~";

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
        let query = || {
            query_as::<_, KeyRow>(statement(page.filter))
                .bind(page.tenant.0)
                .bind(kind_text(page.kind))
                .bind(&before)
                .bind(i64::from(page.limit))
                .bind(&page.filter.actor_id)
                .bind(page.now)
        };
        let rows = self.connections.rows(Access::Read, query).await?;
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
                .bind(replaced.cast_signed())
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
        let query = || {
            query_as::<_, KeyRow>(REVOKE)
                .bind(context.tenant.0)
                .bind(kind_text(id.kind()))
                .bind(&key_id)
                .bind(revocation.reason.name())
                .bind(&revocation.description)
                .bind(now)
                .bind(Revocation::expiry(now, None))
        };
        match self.connections.rows(Access::Write, query).await?.pop() {
            Some(row) => Ok(Revoked::Done(Box::new(row.try_into()?))),
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
        let key_id = old.id.to_string();
        let new = json(&[KeyRow::new(new, None)?])?;
        let query = || {
            query_as::<_, KeyRow>(ROTATE)
                .bind(old.tenant.0)
                .bind(kind_text(old.id.kind()))
                .bind(&key_id)
                .bind(revocation.reason.name())
                .bind(&revocation.description)
                .bind(now)
                .bind(Revocation::expiry(now, None))
                .bind(old.version.cast_signed())
                .bind(&new)
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
            query_as::<_, (i64,)>(TOUCH)
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
        let query =
            || query_as::<_, (i64,)>(DELETE).bind(context.tenant.0).bind(kind_text(id.kind())).bind(&key_id).bind(now);
        let version = self.connections.rows(Access::Write, query).await?.pop();
        Ok(version.map(|(version,)| version.unsigned_abs()))
    }

    async fn purge(
        &self,
        context: &RequestContext,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<PurgedKey>, StoreError> {
        check_system(context)?;
        let query = || query_as::<_, PurgedRow>(PURGE).bind(before).bind(i64::from(limit));
        let rows = self.connections.rows(Access::Write, query).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn forget_deleted(&self, context: &RequestContext, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        let query = || query_as::<_, (i64,)>(FORGET_DELETED).bind(before).bind(i64::from(limit));
        let count = self.connections.rows(Access::Write, query).await?.pop();
        Ok(count.map_or(0, |(count,)| count.unsigned_abs()))
    }

    async fn revoked_since(&self, since: Timestamp, limit: u32) -> Result<Vec<RevokedKey>, StoreError> {
        let query = || query_as::<_, EndedRow<Timestamp>>(ENDED_SINCE).bind(since).bind(i64::from(limit));
        let rows = self.connections.rows(Access::Read, query).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    async fn count_active(&self, tenant: TenantId) -> Result<u64, StoreError> {
        let query = || query_as::<_, (i64,)>(COUNT_ACTIVE).bind(tenant.0);
        let count = self.connections.rows(Access::Read, query).await?.pop();
        Ok(count.map_or(0, |(count,)| count.unsigned_abs()))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.connections.rows(Access::Read, || query_as::<_, (i32,)>(PING)).await.map(drop)
    }

    fn feed(self: Arc<Self>) -> Option<Arc<dyn ChangeFeed>> {
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

    /// Adds the rows that are in nobody's way, in one statement, and tells their ids.
    async fn insert_rows(&self, rows: &[KeyRow]) -> Result<HashSet<String>, StoreError> {
        let json = json(rows)?;
        let stored = self.connections.rows(Access::Write, || query_as::<_, (String,)>(INSERT).bind(&json)).await?;
        Ok(stored.into_iter().map(|(id,)| id).collect())
    }
}

/// Keys as arrays of their parts.
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
