//! The audit trail. Columns are cast, so that rows that were tampered with can be read too.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::error::store_error;
use super::statements::INSERT_AUDIT;
use super::store::SqliteStore;
use crate::audit::{Anchor, AuditRow, ChainRecord, REJECTED, Recorder, SealPlan, SealedRow};
use crate::clock::Timestamp;
use crate::store::audit_row::{self, AuditEventRow, ChainRow, Dialect, micros};
use crate::store::audit_store::{AuditQuery, AuditStore, MakePlan, Unsealed};
use crate::store::error::StoreError;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT CAST(id AS TEXT) AS id, CAST(tenant AS TEXT) AS tenant, CAST(time AS INTEGER) AS time, \
             CAST(writer AS TEXT) AS writer, CAST(event AS TEXT) AS event, CAST(principal AS TEXT) AS principal, \
             CAST(roles AS TEXT) AS roles, CAST(client_ip AS TEXT) AS client_ip, CAST(request_id AS TEXT) AS request_id, \
             CAST(key_id AS TEXT) AS key_id, CAST(actor_id AS TEXT) AS actor_id, CAST(before AS TEXT) AS before, \
             CAST(after AS TEXT) AS after, CAST(details AS TEXT) AS details, CAST(mac AS TEXT) AS mac, \
             CAST(chain AS TEXT) AS chain, CAST(seq AS INTEGER) AS seq, CAST(seal AS TEXT) AS seal",
            $rest
        )
    };
}

const DIALECT: Dialect = Dialect { select: select!(""), parameter: '?', id: "", text: "", time: micros };
const SELECT_UNSEALED: &str = select!(
    " FROM audit_events WHERE seq IS NULL AND chain IS NULL AND (writer = ? OR time < ?) ORDER BY audit_events.id LIMIT ?"
);
/// Seals rows, which are given as one JSON text of arrays of id, position and seal. Parameters: chain, rows (1, 2).
const SEAL: &str = "UPDATE audit_events SET chain = ?1, seq = sealed.value->>1, seal = sealed.value->>2 \
     FROM json_each(?2) AS sealed WHERE audit_events.id = sealed.value->>0";
/// The ids are given as one JSON array.
const REJECT: &str = "UPDATE audit_events SET chain = ?1 WHERE id IN (SELECT value FROM json_each(?2))";
const UPSERT_CHAIN: &str = "INSERT INTO audit_chains (chain, seq, seal, secret, time) VALUES (?, ?, ?, ?, \
     unixepoch('subsec') * 1000000) ON CONFLICT (chain) DO UPDATE SET seq = excluded.seq, seal = excluded.seal, \
     time = excluded.time";
const CHAINS: &str = "SELECT chain, seq, seal, secret, anchor_seq, anchor_seal, anchor_mac FROM audit_chains \
     WHERE time >= ? ORDER BY time DESC LIMIT ?";
const CHAIN_NAMES: &str = "SELECT DISTINCT CAST(chain AS TEXT) FROM audit_events WHERE seq IS NOT NULL";
const CHAIN_ROWS: &str =
    select!(" FROM audit_events WHERE chain = ? AND seq > ? AND seq IS NOT NULL ORDER BY audit_events.seq LIMIT ?");
const UNSEALED: &str = select!(" FROM audit_events WHERE seq IS NULL AND id > ? ORDER BY audit_events.id LIMIT ?");
const MOVE_ANCHOR: &str =
    "UPDATE audit_chains SET anchor_seq = ?, anchor_seal = ?, anchor_mac = ? WHERE chain = ? AND anchor_seq = ?";
const PRUNE: &str = "DELETE FROM audit_events WHERE chain = ? AND seq IS NOT NULL AND seq <= ?";

type EventRow = AuditEventRow<i64>;

#[async_trait]
impl AuditStore for SqliteStore {
    fn record_with(&self, recorder: Arc<Recorder>) {
        self.recorder.set(recorder);
    }

    async fn record(&self, rows: &[AuditRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        insert_audit(&mut transaction, rows).await?;
        transaction.commit().await
    }

    async fn seal(&self, selection: &Unsealed<'_>, plan: MakePlan<'_>) -> Result<Vec<AuditRow>, StoreError> {
        let mut transaction = self.begin().await?;
        let select = sqlx::query_as::<_, EventRow>(SELECT_UNSEALED)
            .bind(selection.writer)
            .bind(selection.orphaned.timestamp_micros())
            .bind(selection.limit);
        let rows = select.fetch_all(&mut *transaction).await.map_err(store_error)?;
        let rows: Vec<AuditRow> = rows.into_iter().map(Into::into).collect();
        if rows.is_empty() {
            transaction.commit().await?;
            return Ok(rows);
        }
        let plan = plan(&rows);
        write_seals(&mut transaction, &plan).await.map_err(store_error)?;
        transaction.commit().await?;
        Ok(plan.apply(rows))
    }

    async fn audit_page(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        let (text, parameters) = audit_row::page(query, &DIALECT);
        let mut page = sqlx::query_as::<_, EventRow>(AssertSqlSafe(text));
        for parameter in parameters {
            page = page.bind(parameter);
        }
        self.audit_rows(page.fetch_all(&self.pool).await)
    }

    async fn chains(&self, since: Option<Timestamp>, limit: u32) -> Result<Vec<ChainRecord>, StoreError> {
        let since = since.map_or(i64::MIN, |since| since.timestamp_micros());
        let rows = sqlx::query_as::<_, ChainRow>(CHAINS).bind(since).bind(limit).fetch_all(&self.pool).await;
        Ok(rows.map_err(store_error)?.into_iter().map(Into::into).collect())
    }

    async fn chain_names(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(CHAIN_NAMES).fetch_all(&self.pool).await.map_err(store_error)
    }

    async fn chain_rows(&self, chain: &str, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query_as(CHAIN_ROWS).bind(chain).bind(after).bind(limit);
        self.audit_rows(rows.fetch_all(&self.pool).await)
    }

    async fn unsealed(&self, after: &str, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.audit_rows(sqlx::query_as(UNSEALED).bind(after).bind(limit).fetch_all(&self.pool).await)
    }

    async fn prune_chain(&self, chain: &str, anchor: &Anchor, replaced: i64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let moved = sqlx::query(MOVE_ANCHOR)
            .bind(anchor.seq)
            .bind(&anchor.seal)
            .bind(&anchor.mac)
            .bind(chain)
            .bind(replaced)
            .execute(&mut *transaction)
            .await
            .map_err(store_error)?;
        if moved.rows_affected() == 1 {
            let prune = sqlx::query(PRUNE).bind(chain).bind(anchor.seq);
            prune.execute(&mut *transaction).await.map_err(store_error)?;
        }
        transaction.commit().await
    }
}

impl SqliteStore {
    #[expect(clippy::unused_self, reason = "keeps the calls short")]
    fn audit_rows(&self, rows: sqlx::Result<Vec<EventRow>>) -> Result<Vec<AuditRow>, StoreError> {
        Ok(rows.map_err(store_error)?.into_iter().map(Into::into).collect())
    }
}

/// Adds rows, as a part of the transaction on the connection.
pub(super) async fn insert_audit(connection: &mut SqliteConnection, rows: &[AuditRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let insert = sqlx::query(INSERT_AUDIT).bind(audit_json(rows)?);
    insert.execute(connection).await.map(drop).map_err(store_error)
}

/// Rows as one JSON text.
pub(super) fn audit_json(rows: &[AuditRow]) -> Result<String, StoreError> {
    audit_row::json::<i64>(rows)
}

async fn write_seals(connection: &mut SqliteConnection, plan: &SealPlan) -> sqlx::Result<()> {
    if let Some(last) = plan.sealed.last() {
        let rows: Value = plan.sealed.iter().map(|SealedRow { id, seq, seal }| json!([id, seq, seal])).collect();
        sqlx::query(SEAL).bind(&plan.chain).bind(rows.to_string()).execute(&mut *connection).await?;
        let upsert = sqlx::query(UPSERT_CHAIN).bind(&plan.chain).bind(last.seq).bind(&last.seal).bind(&plan.secret);
        upsert.execute(&mut *connection).await?;
    }
    if !plan.rejected.is_empty() {
        let ids = json!(plan.rejected).to_string();
        sqlx::query(REJECT).bind(REJECTED).bind(ids).execute(connection).await?;
    }
    Ok(())
}
