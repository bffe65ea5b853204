//! The audit trail.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, Error, PgConnection, query_as};
use tokio::time::timeout;

use super::pool::Access;
use super::statements::{INSERT_AUDIT_ROWS, audit_columns};
use super::store::PostgresStore;
use crate::audit::{Anchor, AuditRow, ChainRecord, REJECTED, Recorder, SealPlan};
use crate::clock::Timestamp;
use crate::store::audit_row::{self, AuditEventRow, ChainRow, Dialect, json, timestamptz};
use crate::store::audit_store::{AuditQuery, AuditStore, MakePlan, Unsealed};
use crate::store::error::StoreError;

const DIALECT: Dialect = Dialect {
    select: concat!("SELECT ", audit_columns!()),
    parameter: '$',
    id: "::text::uuid",
    text: "::text",
    time: timestamptz,
};
/// Rows that another process seals at this moment are skipped.
const SELECT_UNSEALED: &str = concat!(
    "SELECT ",
    audit_columns!(),
    " FROM audit_events WHERE seq IS NULL AND chain IS NULL AND (writer = $1::text::uuid OR time < $2) \
     ORDER BY audit_events.id LIMIT $3 FOR UPDATE SKIP LOCKED"
);
const SEAL: &str = "UPDATE audit_events SET chain = $1::text::uuid, seq = sealed.seq, seal = sealed.seal \
     FROM unnest($2::text[], $3::bigint[], $4::text[]) AS sealed (id, seq, seal) WHERE audit_events.id = sealed.id::uuid";
const REJECT: &str = "UPDATE audit_events SET chain = $1::text::uuid WHERE id = ANY ($2::text[]::uuid[])";
const UPSERT_CHAIN: &str = "INSERT INTO audit_chains (chain, seq, seal, secret, time) \
     VALUES ($1::text::uuid, $2, $3, $4, clock_timestamp()) \
     ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, seal = excluded.seal, time = excluded.time";
const CHAINS: &str = "SELECT chain::text, seq, seal, secret, anchor_seq, anchor_seal, anchor_mac FROM audit_chains \
     WHERE $1::timestamptz IS NULL OR time >= $1 ORDER BY time DESC LIMIT $2";
const CHAIN_NAMES: &str = "SELECT DISTINCT chain::text FROM audit_events WHERE seq IS NOT NULL";
const CHAIN_ROWS: &str = concat!(
    "SELECT ",
    audit_columns!(),
    " FROM audit_events WHERE chain = $1::text::uuid AND seq > $2 AND seq IS NOT NULL ORDER BY seq LIMIT $3"
);
const UNSEALED: &str = concat!(
    "SELECT ",
    audit_columns!(),
    " FROM audit_events WHERE seq IS NULL AND ($1 = '' OR audit_events.id > nullif($1, '')::uuid) \
     ORDER BY audit_events.id LIMIT $2"
);
const PRUNE: &str = "WITH moved AS (UPDATE audit_chains SET anchor_seq = $2, anchor_seal = $3, anchor_mac = $4 \
     WHERE chain = $1::text::uuid AND anchor_seq = $5 RETURNING chain), \
     pruned AS (DELETE FROM audit_events USING moved \
     WHERE audit_events.chain = moved.chain AND audit_events.seq <= $2 AND audit_events.seq IS NOT NULL RETURNING 1) \
     SELECT count(*) FROM pruned";

type EventRow = AuditEventRow<Timestamp>;

#[async_trait]
impl AuditStore for PostgresStore {
    fn record_with(&self, recorder: Arc<Recorder>) {
        self.recorder.set(recorder);
    }

    async fn record(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let json = json::<Timestamp>(rows)?;
        let insert = || query_as::<_, (i64,)>(INSERT_AUDIT_ROWS).bind(&json);
        self.connections.rows(Access::Write, insert).await.map(drop)
    }

    async fn seal(&self, selection: &Unsealed<'_>, plan: MakePlan<'_>) -> Result<Vec<AuditRow>, StoreError> {
        let mut lease = self.connections.tested().await?;
        let limit = self.connections.transaction_timeout();
        let result = timeout(limit, seal_rows(lease.connection(), selection, plan)).await;
        lease.finish_transaction(result)
    }

    async fn audit_page(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        let (text, parameters) = audit_row::page(query, &DIALECT);
        let page = || {
            let page = query_as::<_, EventRow>(AssertSqlSafe(text.clone()));
            parameters.iter().fold(page, sqlx::query::QueryAs::bind)
        };
        Ok(records(self.connections.rows(Access::Read, page).await?))
    }

    async fn chains(&self, since: Option<Timestamp>, limit: u32) -> Result<Vec<ChainRecord>, StoreError> {
        let query = || query_as::<_, ChainRow>(CHAINS).bind(since).bind(i64::from(limit));
        Ok(self.connections.rows(Access::Read, query).await?.into_iter().map(Into::into).collect())
    }

    async fn chain_names(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.connections.rows(Access::Read, || query_as::<_, (String,)>(CHAIN_NAMES)).await?;
        Ok(rows.into_iter().map(|(chain,)| chain).collect())
    }

    async fn chain_rows(&self, chain: &str, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = || query_as::<_, EventRow>(CHAIN_ROWS).bind(chain).bind(after).bind(i64::from(limit));
        Ok(records(self.connections.rows(Access::Read, query).await?))
    }

    async fn unsealed(&self, after: &str, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = || query_as::<_, EventRow>(UNSEALED).bind(after).bind(i64::from(limit));
        Ok(records(self.connections.rows(Access::Read, query).await?))
    }

    async fn prune_chain(&self, chain: &str, anchor: &Anchor, replaced: i64) -> Result<(), StoreError> {
        let query = || {
            query_as::<_, (i64,)>(PRUNE)
                .bind(chain)
                .bind(anchor.seq)
                .bind(&anchor.seal)
                .bind(&anchor.mac)
                .bind(replaced)
        };
        self.connections.rows(Access::Write, query).await.map(drop)
    }
}

fn records(rows: Vec<EventRow>) -> Vec<AuditRow> {
    rows.into_iter().map(Into::into).collect()
}

async fn seal_rows(
    connection: &mut PgConnection,
    selection: &Unsealed<'_>,
    plan: MakePlan<'_>,
) -> Result<Vec<AuditRow>, Error> {
    let mut transaction = connection.begin().await?;
    let select = query_as::<_, EventRow>(SELECT_UNSEALED)
        .bind(selection.writer)
        .bind(selection.orphaned)
        .bind(i64::from(selection.limit));
    let rows = records(select.fetch_all(&mut *transaction).await?);
    if rows.is_empty() {
        transaction.rollback().await?;
        return Ok(rows);
    }
    let plan = plan(&rows);
    write_seals(&mut transaction, &plan).await?;
    transaction.commit().await?;
    Ok(plan.apply(rows))
}

async fn write_seals(connection: &mut PgConnection, plan: &SealPlan) -> Result<(), Error> {
    if let Some(last) = plan.sealed.last() {
        let ids: Vec<_> = plan.sealed.iter().map(|row| row.id.clone()).collect();
        let seqs: Vec<_> = plan.sealed.iter().map(|row| row.seq).collect();
        let seals: Vec<_> = plan.sealed.iter().map(|row| row.seal.clone()).collect();
        let seal = sqlx::query(SEAL).bind(&plan.chain).bind(ids).bind(seqs).bind(seals);
        seal.execute(&mut *connection).await?;
        let upsert = sqlx::query(UPSERT_CHAIN).bind(&plan.chain).bind(last.seq).bind(&last.seal).bind(&plan.secret);
        upsert.execute(&mut *connection).await?;
    }
    if !plan.rejected.is_empty() {
        sqlx::query(REJECT).bind(REJECTED).bind(&plan.rejected).execute(connection).await?;
    }
    Ok(())
}
