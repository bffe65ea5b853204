//! The usage of keys.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::error::store_error;
use super::store::SqliteStore;
use crate::id::KeyId;
use crate::request_context::RequestContext;
use crate::store::error::StoreError;
use crate::store::key_store::{check_system, check_tenants};
use crate::store::usage_row::{SumRow, TopRow, count_column, key_columns, ordered, read_sum, read_top};
use crate::store::usage_store::{
    TOP_ROWS_MAX, TopUsageQuery, UsageBatch, UsageHour, UsageQuery, UsageRow, UsageStore, UsageSum,
};

/// Changes no row if this batch or a later one was added.
const ADD_WRITER: &str = "INSERT INTO usage_writers (writer, batch, hour) VALUES (?1, ?2, ?3) \
     ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, hour = excluded.hour WHERE batch < excluded.batch";
/// The rows are given as one JSON text.
const ADD: &str = "INSERT INTO key_usage (tenant, kind, key_id, hour, refusal, requests, bytes_received, bytes_sent) \
     SELECT ?1, value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM json_each(?2) WHERE true \
     ON CONFLICT (tenant, kind, key_id, hour, refusal) DO UPDATE SET requests = requests + excluded.requests, \
     bytes_received = bytes_received + excluded.bytes_received, bytes_sent = bytes_sent + excluded.bytes_sent";
/// Parameters: tenant, kind, id, first hour, hour after the last one, hours in a period (1 to 6).
const SUMS: &str = "SELECT is_of_key, hour / ?6 * ?6 AS period, refusal, sum(requests), sum(bytes_received), sum(bytes_sent) FROM (\
     SELECT true AS is_of_key, * FROM key_usage WHERE tenant = ?1 AND kind = ?2 AND key_id = ?3 AND hour >= ?4 AND hour < ?5 \
     UNION ALL SELECT false, * FROM key_usage WHERE tenant = ?1 AND kind = '' AND key_id = '' AND hour >= ?4 AND hour < ?5) \
     GROUP BY period, is_of_key, refusal ORDER BY period, is_of_key, refusal";
/// Parameters: tenant, first hour, whether only refused requests count, rows, keys (1 to 5). Without the index by hour the rows of all hours
/// would be read.
const TOP: &str = "SELECT kind, key_id, sum(requests) AS total FROM (\
     SELECT kind, key_id, requests FROM key_usage INDEXED BY key_usage_by_hour \
     WHERE tenant = ?1 AND hour >= ?2 AND kind <> '' AND (NOT ?3 OR refusal <> '') LIMIT ?4) \
     GROUP BY kind, key_id ORDER BY total DESC, kind DESC, key_id LIMIT ?5";
const PRUNE: &str = "DELETE FROM key_usage WHERE (tenant, kind, key_id, hour, refusal) IN \
     (SELECT tenant, kind, key_id, hour, refusal FROM key_usage WHERE hour < ?1 LIMIT ?2)";
const PRUNE_WRITERS: &str = "DELETE FROM usage_writers WHERE hour < ?1";

#[async_trait]
impl UsageStore for SqliteStore {
    async fn add_usage(&self, context: &RequestContext, batch: &UsageBatch) -> Result<(), StoreError> {
        check_tenants(context, [batch.tenant])?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(store_error)?;
        let writer = sqlx::query(ADD_WRITER)
            .bind(batch.writer.to_string())
            .bind(count_column(batch.number))
            .bind(batch.hour.0)
            .execute(&mut *transaction)
            .await
            .map_err(store_error)?;
        if writer.rows_affected() == 0 {
            return transaction.rollback().await.map_err(store_error);
        }
        let add = sqlx::query(ADD).bind(batch.tenant.to_string()).bind(rows(batch));
        add.execute(&mut *transaction).await.map_err(store_error)?;
        transaction.commit().await.map_err(store_error)
    }

    async fn usage_of(&self, query: &UsageQuery) -> Result<Vec<UsageSum>, StoreError> {
        let (kind, key_id) = key_columns(Some(query.key));
        let rows: Vec<SumRow> = sqlx::query_as(SUMS)
            .bind(query.tenant.to_string())
            .bind(kind)
            .bind(key_id)
            .bind(query.from.0)
            .bind(query.to.0)
            .bind(query.step)
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        rows.into_iter().map(read_sum).collect()
    }

    async fn top_usage(&self, query: &TopUsageQuery) -> Result<Vec<(KeyId, u64)>, StoreError> {
        let rows: Vec<TopRow> = sqlx::query_as(TOP)
            .bind(query.tenant.to_string())
            .bind(query.from.0)
            .bind(query.only_refused)
            .bind(TOP_ROWS_MAX)
            .bind(query.limit)
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        rows.into_iter().map(read_top).collect()
    }

    async fn prune_usage(&self, context: &RequestContext, before: UsageHour, limit: u32) -> Result<u64, StoreError> {
        check_system(context)?;
        sqlx::query(PRUNE_WRITERS).bind(before.0).execute(&self.pool).await.map_err(store_error)?;
        let prune = sqlx::query(PRUNE).bind(before.0).bind(limit);
        Ok(prune.execute(&self.pool).await.map_err(store_error)?.rows_affected())
    }
}

/// The rows of a batch as one JSON text: an array of arrays of kind, id, hour, refusal, requests, bytes received and bytes sent.
fn rows(batch: &UsageBatch) -> String {
    let row = |row: &UsageRow| {
        let (kind, key_id) = key_columns(row.key);
        let counts = &row.counts;
        json!([
            kind,
            key_id,
            row.hour.0,
            row.refusal.unwrap_or_default(),
            count_column(counts.requests),
            count_column(counts.bytes_received),
            count_column(counts.bytes_sent)
        ])
    };
    ordered(batch).into_iter().map(row).collect::<Value>().to_string()
}
