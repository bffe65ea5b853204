//! Verifies a stored trail.

use std::collections::{BTreeSet, HashMap};

use crate::audit::{AuditEvent, AuditKeys, ChainRecord, ChainVerification, Heads, Problem, read_checkpoint};
use crate::clock::Timestamp;
use crate::id::TenantId;
use crate::store::{AuditQuery, AuditStore, StoreError};

/// Rows per statement.
const BATCH: u32 = 1000;
/// Maximum number of chains.
const CHAINS_MAX: u32 = 10_000_000;

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Verification {
    /// The number of sealed rows.
    pub rows: u64,
    /// The number of chains.
    pub chains: u64,
    /// The number of rows that retention has removed.
    pub removed: u64,
    /// The number of rows that are authentic, but not in a chain yet.
    pub unsealed: u64,
    /// The time of the oldest and of the latest row.
    pub span: Option<(Timestamp, Timestamp)>,
    /// What does not fit.
    pub problems: Vec<Problem>,
}

/// Verifies all rows. `heads` are seals that rows must have besides those that checkpoints name, such as those of an export.
///
/// # Errors
/// [`StoreError`] when the store cannot answer.
pub async fn verify(
    store: &dyn AuditStore,
    keys: &AuditKeys,
    tenant: TenantId,
    mut heads: Heads,
) -> Result<Verification, StoreError> {
    let mut verification = Verification::default();
    verification.read_unsealed(store, keys).await?;
    read_checkpoints(store, keys, tenant, &mut heads).await?;
    let mut names: BTreeSet<String> = store.chain_names().await?.into_iter().collect();
    // Read before the rows: what is sealed later is not expected.
    let records = records(store).await?;
    names.extend(records.keys().cloned());
    names.extend(heads.chains().map(str::to_owned));
    for chain in names {
        let record = records.get(&chain).cloned();
        verification.verify_chain(store, keys, (&chain, record), &heads).await?;
    }
    Ok(verification)
}

async fn records(store: &dyn AuditStore) -> Result<HashMap<String, ChainRecord>, StoreError> {
    let records = store.chains(None, CHAINS_MAX).await?;
    Ok(records.into_iter().map(|record| (record.chain.clone(), record)).collect())
}

async fn read_checkpoints(
    store: &dyn AuditStore,
    keys: &AuditKeys,
    tenant: TenantId,
    heads: &mut Heads,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let events = vec![AuditEvent::Checkpoint];
        let query = AuditQuery { events, after, ascending: true, ..AuditQuery::new(tenant, BATCH) };
        let page = store.audit_page(&query).await?;
        for row in &page {
            read_checkpoint(heads, keys, row);
        }
        match page.last() {
            Some(last) if page.len() == BATCH as usize => after = Some(last.id.clone()),
            _ => return Ok(()),
        }
    }
}

impl Verification {
    async fn verify_chain(
        &mut self,
        store: &dyn AuditStore,
        keys: &AuditKeys,
        (chain, record): (&str, Option<ChainRecord>),
        heads: &Heads,
    ) -> Result<(), StoreError> {
        let mut result = Self::of_chain(store, ChainVerification::new(keys, chain, record, heads), chain).await?;
        if !result.problems.is_empty() {
            // Retention may have removed rows in between.
            let record = records(store).await?.remove(chain);
            result = Self::of_chain(store, ChainVerification::new(keys, chain, record, heads), chain).await?;
        }
        self.chains += 1;
        self.rows += result.rows;
        self.removed += result.removed;
        self.problems.append(&mut result.problems);
        if let Some((first, last)) = result.span {
            self.extend_span(first);
            self.extend_span(last);
        }
        Ok(())
    }

    async fn of_chain(
        store: &dyn AuditStore,
        mut chain: ChainVerification<'_>,
        name: &str,
    ) -> Result<Self, StoreError> {
        let mut result = Self { removed: chain.position().unsigned_abs(), ..Self::default() };
        // Rows that were inserted before the anchor are read too.
        let mut after = 0;
        loop {
            let rows = store.chain_rows(name, after, BATCH).await?;
            for row in &rows {
                chain.add(row);
                result.rows += 1;
                result.extend_span(row.time);
            }
            match rows.last().and_then(|row| row.seal.as_ref()) {
                Some(last) if rows.len() == BATCH as usize => after = last.seq,
                _ => break,
            }
        }
        result.problems = chain.finish();
        Ok(result)
    }

    /// Rows in no chain must be authentic.
    async fn read_unsealed(&mut self, store: &dyn AuditStore, keys: &AuditKeys) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let rows = store.unsealed(&after, BATCH).await?;
            for row in &rows {
                if keys.is_row(row) {
                    self.unsealed += 1;
                } else {
                    self.problems.push(Problem::Inserted(row.describe()));
                }
            }
            match rows.last() {
                Some(last) if rows.len() == BATCH as usize => after.clone_from(&last.id),
                _ => return Ok(()),
            }
        }
    }

    fn extend_span(&mut self, time: Timestamp) {
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
    }
}
