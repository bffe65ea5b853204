//! The usage of keys.

use async_trait::async_trait;
use sqlx::query_as;

use super::pool::Access;
use super::store::PostgresStore;
use crate::id::KeyId;
use crate::request_context::RequestContext;
use crate::store::error::StoreError;
use crate::store::key_store::{check_system, check_tenants};
use crate::store::usage_row::{SumRow, TopRow, count_column, key_columns, ordered, read_sum, read_top};
use crate::store::usage_store::{TOP_ROWS_MAX, TopUsageQuery, UsageBatch, UsageHour, UsageQuery, UsageStore, UsageSum};

/// Adds nothing if this batch or a later one of the writer was added. Parameters: writer, batch, hour, tenant, and an array for each
/// further column (1 to 11). The rows are added in one order, so that batches of several nodes cannot deadlock.
const ADD: &str = "WITH fresh AS (INSERT INTO usage_writers (writer, batch, hour) VALUES ($1, $2, $3) \
     ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, hour = excluded.hour \
     WHERE usage_writers.batch < excluded.batch RETURNING 1), \
     added AS (INSERT INTO key_usage AS stored \
     (tenant, kind, key_id, hour, refusal, requests, bytes_received, bytes_sent) \
     SELECT $4, kind, key_id, hour, refusal, requests, bytes_received, bytes_sent \
     FROM unnest($5::text[], $6::text[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[]) \
     AS new (kind, key_id, hour, refusal, requests, bytes_received, bytes_sent) WHERE EXISTS (SELECT 1 FROM fresh) \
     ORDER BY kind, key_id, hour, refusal \
     ON CONFLICT (tenant, kind, key_id, hour, refusal) DO UPDATE SET requests = stored.requests + excluded.requests, \
     bytes_received = stored.bytes_received + excluded.bytes_received, \
     bytes_sent = stored.bytes_sent + excluded.bytes_sent RETURNING 1) \
     SELECT count(*) FROM added";
/// Parameters: tenant, kind, id, first hour, hour after the last one, hours in a period (1 to 6).
const SUMS: &str = "SELECT is_of_key, hour / $6 * $6 AS period, refusal, \
     sum(requests)::bigint, sum(bytes_received)::bigint, sum(bytes_sent)::bigint FROM (\
     SELECT true AS is_of_key, * FROM key_usage \
     WHERE tenant = $1 AND kind = $2 AND key_id = $3 AND hour >= $4 AND hour < $5 \
     UNION ALL SELECT false, * FROM key_usage \
     WHERE tenant = $1 AND kind = '' AND key_id = '' AND hour >= $4 AND hour < $5) AS counted \
     GROUP BY period, is_of_key, refusal ORDER BY period, is_of_key, refusal";
/// Parameters: tenant, first hour, whether only refused requests count, rows, keys (1 to 5).
const TOP: &str = "SELECT kind, key_id, sum(requests)::bigint AS total FROM (\
     SELECT kind, key_id, requests FROM key_usage \
     WHERE tenant = $1 AND hour >= $2 AND kind <> '' AND (NOT $3 OR refusal <> '') LIMIT $4) AS counted \
     GROUP BY kind, key_id ORDER BY total DESC, kind DESC, key_id LIMIT $5";
/// Rows that another node adds to or removes are skipped.
const PRUNE: &str = "WITH writers AS (DELETE FROM usage_writers WHERE hour < $1), \
     pruned AS (DELETE FROM key_usage WHERE (tenant, kind, key_id, hour, refusal) IN \
     (SELECT tenant, kind, key_id, hour, refusal FROM key_usage WHERE hour < $1 LIMIT $2 FOR UPDATE SKIP LOCKED) \
     RETURNING 1) SELECT count(*) FROM pruned";

#[async_trait]
impl UsageStore for PostgresStore {
    async fn add_usage(&self, context: &RequestContext, batch: &UsageBatch) -> Result<(), StoreError> {
        check_tenants(context, [batch.tenant])?;
        let rows = Columns::new(batch);
        let query = || {
            query_as::<_, (i64,)>(ADD)
                .bind(batch.writer)
                .bind(count_column(batch.number))
                .bind(i64::from(batch.hour.0))
                .bind(batch.tenant.0)
                .bind(&rows.kinds)
                .bind(&rows.key_ids)
                .bind(&rows.hours)
                .bind(&rows.refusals)
                .bind(&rows.requests)
                .bind(&rows.bytes_received)
                .bind(&rows.bytes_sent)
        };
        self.connections.rows(Access::Write, query).await.map(drop)
    }

    async fn usage_of(&self, query: &UsageQuery) -> Result<Vec<UsageSum>, StoreError> {
        let (kind, key_id) = key_columns(Some(query.key));
        let select = || {
            query_as::<_, SumRow>(SUMS)
                .bind(query.tenant.0)
                .bind(kind)
                .bind(&key_id)
                .bind(i64::from(query.from.0))
                .bind(i64::from(query.to.0))
                .bind(i64::from(query.step))
        };
        let rows = self.connections.rows(Access::Read, select).await?;
        rows.into_iter().map(read_sum).collect()
    }

    async fn top_usage(&self, query: &TopUsageQuery) -> Result<Vec<(KeyId, u64)>, StoreError> {
        let select = || {
            query_as::<_, TopRow>(TOP)
                .bind(query.tenant.0)
                .bind(i64::from(query.from.0))
                .bind(query.only_refused)
                .bind(i64::from(TOP_ROWS_MAX))
                .bind(i64::from(query.limit))
        };
        let rows = self.connections.rows(Access::Read, select).await?;
        rows.into_iter().map(read_top).collect()
    }

    async fn prune_usage(&self, context: &RequestContext, before: UsageHour, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        let query = || query_as::<_, (i64,)>(PRUNE).bind(i64::from(before.0)).bind(i64::from(limit));
        let count = self.connections.rows(Access::Write, query).await?.pop();
        Ok(count.map_or(0, |(count,)| count.unsigned_abs()))
    }
}

/// The rows of a batch as one array for each column.
#[derive(Default)]
struct Columns {
    kinds: Vec<&'static str>,
    key_ids: Vec<String>,
    hours: Vec<i64>,
    refusals: Vec<&'static str>,
    requests: Vec<i64>,
    bytes_received: Vec<i64>,
    bytes_sent: Vec<i64>,
}

impl Columns {
    fn new(batch: &UsageBatch) -> Self {
        let mut columns = Self::default();
        for row in ordered(batch) {
            let (kind, key_id) = key_columns(row.key);
            columns.kinds.push(kind);
            columns.key_ids.push(key_id);
            columns.hours.push(i64::from(row.hour.0));
            columns.refusals.push(row.refusal.unwrap_or_default());
            columns.requests.push(count_column(row.counts.requests));
            columns.bytes_received.push(count_column(row.counts.bytes_received));
            columns.bytes_sent.push(count_column(row.counts.bytes_sent));
        }
        columns
    }
}
