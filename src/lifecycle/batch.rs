//! Batch import (contract, admin API section 5.7). Each item is validated on its own; all valid ones are stored in one
//! transaction.

use std::collections::HashMap;

use super::batch_item::{BatchCode, BatchItem, ItemError};
use super::error::{LifecycleError, invalid};
use super::import::ImportKey;
use super::log::log_change;
use super::write_side::Lifecycle;
use crate::audit::Recorder;
use crate::cache::Invalidation;
use crate::id::KeyId;
use crate::key::ApiKey;
use crate::request_context::RequestContext;

const BATCH_MAX: usize = 1000;

impl From<LifecycleError> for ItemError {
    fn from(error: LifecycleError) -> Self {
        let code = match error {
            LifecycleError::Invalid(_) => BatchCode::InvalidArgument,
            LifecycleError::IssuedShape | LifecycleError::DerivedShape | LifecycleError::ActorNotAllowed => {
                BatchCode::FailedPrecondition
            }
            LifecycleError::AlreadyImported => BatchCode::AlreadyExists,
            LifecycleError::QuotaExceeded => BatchCode::ResourceExhausted,
            _ => {
                tracing::error!(%error, "an item of a batch failed");
                return Self { code: BatchCode::Internal, message: "an internal error occurred".into() };
            }
        };
        Self { code, message: error.to_string() }
    }
}

impl Lifecycle {
    /// Imports 1 to 1000 keys. An item that could not be parsed is given as its error message. Request ids are ignored. The
    /// results are in the order of the items.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`] for an empty or too large batch, or a failure of the store; then nothing is stored.
    pub async fn import_batch(
        &self,
        context: &RequestContext,
        items: Vec<Result<ImportKey, String>>,
    ) -> Result<Vec<BatchItem>, LifecycleError> {
        match items.len() {
            0 => return invalid("keys must contain at least one item".into()),
            1..=BATCH_MAX => {}
            _ => return invalid(format!("maximum {BATCH_MAX} keys per batch")),
        }
        let mut results = self.validate_items(context, items);
        self.apply_quota(context, &mut results).await?;
        let valid: Vec<ApiKey> = results.iter().filter_map(|item| item.as_ref().ok()).cloned().collect();
        let stored = if valid.is_empty() { Vec::new() } else { self.store.insert_many(context, &valid).await? };
        let mut stored = stored.into_iter();
        for item in results.iter_mut().filter(|item| item.is_ok()) {
            if stored.next() != Some(true) {
                *item = Err(LifecycleError::AlreadyImported.into());
            }
        }
        self.record_failures(context, &results).await;
        // Not written to the shared cache: no node has looked these keys up with success.
        for key in results.iter().flatten() {
            self.caches.apply(&Invalidation::of_record(key), self.now()).await;
        }
        self.metrics.batch(&results);
        let imported = results.iter().flatten().count();
        log_change!(context, imported, of = results.len(), "keys imported in a batch");
        Ok(results)
    }

    /// Writes an audit row for each rejected item. A failure is only logged: what was imported is stored and has its rows.
    async fn record_failures(&self, context: &RequestContext, results: &[BatchItem]) {
        let failed = |recorder: &Recorder| {
            let failed = results.iter().enumerate().filter_map(|(index, item)| Some((index, item.as_ref().err()?)));
            let row = |(index, error): (usize, &ItemError)| {
                recorder.import_failed(context, index, error.code.name(), &error.message)
            };
            failed.map(row).collect::<Vec<_>>()
        };
        if let Err(error) = self.record(failed).await {
            tracing::warn!(%error, "the rejected items of a batch are not in the audit trail");
        }
    }

    fn validate_items(&self, context: &RequestContext, items: Vec<Result<ImportKey, String>>) -> Vec<BatchItem> {
        let now = self.now();
        let mut first_index: HashMap<KeyId, usize> = HashMap::new();
        let validate = |(index, item): (usize, Result<ImportKey, String>)| {
            let key =
                item.map_err(LifecycleError::Invalid).and_then(|item| self.validate_import(context, item, now))?;
            let first = *first_index.entry(key.id).or_insert(index);
            if first < index {
                let message = format!("duplicate of the key at index {first} of this batch");
                return Err(ItemError { code: BatchCode::AlreadyExists, message });
            }
            Ok(key)
        };
        items.into_iter().enumerate().map(validate).collect()
    }

    /// Rejects the last items, as many as exceed the quota.
    async fn apply_quota(&self, context: &RequestContext, results: &mut [BatchItem]) -> Result<(), LifecycleError> {
        let Some(quota) = self.settings.quota else {
            return Ok(());
        };
        let free = quota.saturating_sub(self.store.count_active(context.tenant, self.now()).await?);
        let free = usize::try_from(free).unwrap_or(usize::MAX);
        for item in results.iter_mut().filter(|item| item.is_ok()).skip(free) {
            *item = Err(LifecycleError::QuotaExceeded.into());
        }
        Ok(())
    }
}
