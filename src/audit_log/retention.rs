//! Removes old rows. What is kept of them is an anchor for each chain: the position and the seal of the last removed row, with
//! an authentication code, so that a verification begins there.

use crate::audit::{Anchor, ChainRecord, ChainVerification, Heads, Recorder};
use crate::clock::Timestamp;
use crate::store::{AuditStore, StoreError};

/// Rows per transaction.
const BATCH: u32 = 500;
/// Maximum number of chains, the latest first.
const CHAINS_MAX: u32 = 1_000_000;

/// Removes the rows at the beginning of each chain that are from before `before`. Stops before a row that does not verify: it is
/// evidence.
pub(super) async fn prune(store: &dyn AuditStore, recorder: &Recorder, before: Timestamp) -> Result<(), StoreError> {
    for record in store.chains(None, CHAINS_MAX).await? {
        if record.anchor.seq < record.seq {
            prune_chain(store, recorder, record, before).await?;
        }
    }
    Ok(())
}

async fn prune_chain(
    store: &dyn AuditStore,
    recorder: &Recorder,
    mut record: ChainRecord,
    before: Timestamp,
) -> Result<(), StoreError> {
    loop {
        let rows = store.chain_rows(&record.chain, record.anchor.seq, BATCH).await?;
        let full = rows.len() == BATCH as usize;
        let mut verification =
            ChainVerification::new(recorder.keys(), &record.chain, Some(record.clone()), &Heads::default());
        let old = rows.iter().take_while(|row| row.time < before);
        let verified = old.take_while(|row| {
            verification.add(row);
            verification.is_intact()
        });
        let verified: Vec<_> = verified.filter_map(|row| row.seal.as_ref()).collect();
        if !verification.is_intact() {
            tracing::error!(
                chain = record.chain,
                "retention of the audit trail stops at a row that does not verify; run `keygate audit verify`"
            );
        }
        let Some(last) = verified.last() else { return Ok(()) };
        let anchor = Anchor::new(recorder.keys(), &record.chain, last.seq, &last.code);
        store.prune_chain(&record.chain, &anchor, record.anchor.seq).await?;
        if !full || verified.len() < BATCH as usize {
            return Ok(());
        }
        record.anchor = anchor;
    }
}
