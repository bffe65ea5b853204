//! The trait of stores of the audit trail. The rows of mutations are written by the mutations themselves.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use super::error::StoreError;
use crate::audit::{Anchor, AuditEvent, AuditRow, ChainRecord, Recorder, SealPlan};
use crate::clock::Timestamp;
use crate::id::TenantId;
use crate::request_context::ActorScope;

/// Makes the plan of a sealing from the unsealed rows.
pub type MakePlan<'a> = &'a mut (dyn FnMut(&[AuditRow]) -> SealPlan + Send);

/// The audit trail.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Sets what makes the rows of mutations, once. Until then, mutations write no rows.
    fn record_with(&self, recorder: Arc<Recorder>);

    /// Writes rows of events that are no mutations, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the rows were written.
    async fn record(&self, rows: &[AuditRow]) -> Result<(), StoreError>;

    /// Seals unsealed rows in one transaction: those of `selection` in the order of their ids, as `plan` says. No other caller
    /// seals the same rows. Returns the sealed rows.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether the rows were sealed.
    async fn seal(&self, selection: &Unsealed<'_>, plan: MakePlan<'_>) -> Result<Vec<AuditRow>, StoreError>;

    /// Returns a page of rows.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn audit_page(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError>;

    /// Returns the records of chains that were sealed at `since` or later, the latest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn chains(&self, since: Option<Timestamp>, limit: u32) -> Result<Vec<ChainRecord>, StoreError>;

    /// Returns the chains that rows are in.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn chain_names(&self) -> Result<Vec<String>, StoreError>;

    /// Returns the rows of a chain after a position, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn chain_rows(&self, chain: &str, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError>;

    /// Returns rows without a position, with ids after `after` (all if empty) in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn unsealed(&self, after: &str, limit: u32) -> Result<Vec<AuditRow>, StoreError>;

    /// Removes the rows of a chain up to an anchor, and keeps the anchor. Does nothing if the anchor of the record is not
    /// `replaced` any more.
    ///
    /// # Errors
    /// [`StoreError`] when it is not known whether they were removed.
    async fn prune_chain(&self, chain: &str, anchor: &Anchor, replaced: i64) -> Result<(), StoreError>;
}

/// Which rows are to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct Unsealed<'a> {
    /// All rows of this process.
    pub writer: &'a str,
    /// The rows of any process from before this time: the process may have ended.
    pub orphaned: Timestamp,
    /// Maximum number of rows.
    pub limit: u32,
}

/// Which rows a page contains.
#[derive(Debug, Clone)]
pub struct AuditQuery {
    /// The tenants.
    pub tenants: Vec<TenantId>,
    /// Only rows about keys of these actors; rows about no key only for all actors.
    pub actors: ActorScope,
    /// Only rows at this time or later.
    pub from: Option<Timestamp>,
    /// Only rows before this time.
    pub to: Option<Timestamp>,
    /// Only rows of this principal, by its name.
    pub principal: Option<String>,
    /// Only rows of these events; all but checkpoints if empty.
    pub events: Vec<AuditEvent>,
    /// Only rows about this key.
    pub key_id: Option<String>,
    /// Only rows about keys of this actor.
    pub actor_id: Option<String>,
    /// Only rows after this id, in the order of the page.
    pub after: Option<String>,
    /// Whether the oldest rows come first.
    pub ascending: bool,
    /// Maximum number of rows.
    pub limit: u32,
}

impl AuditQuery {
    /// A query for all rows of a tenant.
    pub fn new(tenant: TenantId, limit: u32) -> Self {
        Self {
            tenants: vec![tenant],
            actors: ActorScope::All,
            from: None,
            to: None,
            principal: None,
            events: Vec::new(),
            key_id: None,
            actor_id: None,
            after: None,
            ascending: false,
            limit,
        }
    }
}

/// The recorder of a store, which is set once.
#[derive(Clone, Default)]
pub(super) struct RecorderSlot(Arc<OnceLock<Arc<Recorder>>>);

impl RecorderSlot {
    pub(super) fn set(&self, recorder: Arc<Recorder>) {
        // The first one stays, as documented.
        let _ = self.0.set(recorder);
    }

    /// The rows that `make` makes; none without a recorder.
    pub(super) fn rows<T: IntoIterator<Item = AuditRow>>(&self, make: impl FnOnce(&Recorder) -> T) -> Vec<AuditRow> {
        self.0.get().map(|recorder| make(recorder).into_iter().collect()).unwrap_or_default()
    }
}

impl std::fmt::Debug for RecorderSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecorderSlot").field("set", &self.0.get().is_some()).finish()
    }
}
