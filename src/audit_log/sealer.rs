//! Seals rows into the chain of this process.

use std::sync::Arc;

use chrono::TimeDelta;

use super::metrics::Metrics;
use super::output::Output;
use crate::audit::{AuditRow, ChainHead, Recorder};
use crate::store::{AuditStore, StoreError, Unsealed};

/// Maximum number of rows per transaction.
const BATCH: u32 = 500;
/// The age from which any process seals a row: the process that wrote it may have ended.
const ORPHANED: TimeDelta = TimeDelta::seconds(10);

/// The end of the chain of this process.
pub(super) struct Sealer {
    store: Arc<dyn AuditStore>,
    recorder: Arc<Recorder>,
    output: Option<Output>,
    metrics: Metrics,
    head: ChainHead,
}

impl Sealer {
    pub(super) fn new(
        store: Arc<dyn AuditStore>,
        recorder: Arc<Recorder>,
        output: Option<Output>,
        metrics: Metrics,
    ) -> Self {
        Self { store, recorder, output, metrics, head: ChainHead::start() }
    }

    /// Seals all rows that can be sealed now. Returns their number.
    ///
    /// # Errors
    /// The error of the store. It is not known then whether the last rows were sealed, so the next ones begin a new chain.
    pub(super) async fn seal_all(&mut self) -> Result<usize, StoreError> {
        let mut total = 0;
        loop {
            let (sealed, rejected) = self.seal_batch().await?;
            total += sealed;
            if sealed + rejected < BATCH as usize {
                return Ok(total);
            }
        }
    }

    async fn seal_batch(&mut self) -> Result<(usize, usize), StoreError> {
        let orphaned = self.recorder.now() - ORPHANED;
        let selection = Unsealed { writer: self.recorder.writer(), orphaned, limit: BATCH };
        let (mut next, mut rejected) = (self.head.clone(), 0);
        let (head, keys) = (&self.head, self.recorder.keys());
        let mut plan = |rows: &[AuditRow]| {
            let (head, plan) = head.seal(keys, rows);
            (next, rejected) = (head, plan.rejected.len());
            plan
        };
        let sealed = match self.store.seal(&selection, &mut plan).await {
            Ok(sealed) => sealed,
            Err(error) => {
                self.head = ChainHead::start();
                return Err(error);
            }
        };
        self.head = next;
        self.metrics.sealed(sealed.len());
        if rejected > 0 {
            self.metrics.rejected(rejected);
            tracing::error!(
                rejected,
                "rows of the audit trail were not written by Keygate; run `keygate audit verify`"
            );
        }
        if let Some(output) = self.output.as_ref().filter(|_| !sealed.is_empty())
            && let Err(error) = output.write(&sealed).await
        {
            self.metrics.failed("output", &error);
        }
        Ok((sealed.len(), rejected))
    }
}
