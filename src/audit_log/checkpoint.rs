//! Checkpoints: rows that name the last rows of chains. A checkpoint is sealed into the chain of the process that writes it, so
//! that the end of one chain cannot be removed without a trace in another.

use chrono::TimeDelta;

use crate::audit::{AuditEvent, Heads, Recorder};
use crate::id::TenantId;
use crate::store::{AuditQuery, AuditStore, StoreError};

/// Minimum interval between the checkpoints of all processes, a little less than the interval of one process.
const INTERVAL: TimeDelta = TimeDelta::seconds(50);
/// How long before the last checkpoint a chain may have been sealed and not be in it.
const OVERLAP: TimeDelta = TimeDelta::seconds(120);
/// Maximum number of chains in a checkpoint.
const CHAINS_MAX: u32 = 1000;

/// Writes a checkpoint if rows have been sealed since the last one. Unless `now`, none is written soon after that of another
/// process. Returns whether one was written.
pub(super) async fn write(
    store: &dyn AuditStore,
    recorder: &Recorder,
    tenant: TenantId,
    now: bool,
) -> Result<bool, StoreError> {
    let query = AuditQuery { events: vec![AuditEvent::Checkpoint], ..AuditQuery::new(tenant, 1) };
    let last = store.audit_page(&query).await?.pop();
    if last.as_ref().is_some_and(|last| !now && recorder.now() - last.time < INTERVAL) {
        return Ok(false);
    }
    let chains = store.chains(last.as_ref().map(|last| last.time - OVERLAP), CHAINS_MAX).await?;
    // The checkpoint itself moves the head of its chain by one row, which needs no other checkpoint.
    let mut covered = Heads::default();
    if let Some(last) = &last {
        crate::audit::read_checkpoint(&mut covered, recorder.keys(), last);
        if let Some(seal) = &last.seal {
            covered.add(&seal.chain, seal.seq, &seal.code);
        }
    }
    if chains.iter().all(|chain| covered.has(&chain.chain, chain.seq, &chain.seal)) {
        return Ok(false);
    }
    store.record(&[recorder.checkpoint(tenant, &Heads::to_json(&chains))]).await?;
    Ok(true)
}
