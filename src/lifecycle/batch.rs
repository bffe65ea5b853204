//! Importing many keys at once (contract, admin API section 5.7): each item is judged alone, all that may be stored are
//! stored in one step.

use std::collections::HashMap;

use super::import::ImportKey;
use super::log::log_change;
use super::{Lifecycle, LifecycleError, invalid};
use crate::id::KeyId;
use crate::key::ApiKey;
use crate::request_context::RequestContext;

const BATCH_MAX: usize = 1000;

/// What became of an item: its key, or why there is none.
pub type BatchItem = Result<ApiKey, ItemError>;

/// Why an item was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// The kind of reason.
    pub code: BatchCode,
    /// The reason in words.
    pub message: String,
}

/// Kinds of reasons, in the order in which they win a tie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchCode {
    /// Something that should not happen.
    Internal,
    /// The key is stored already, or stands twice in the batch.
    AlreadyExists,
    /// A field breaks its limit.
    InvalidArgument,
    /// The text has the shape of another kind of credential.
    FailedPrecondition,
    /// The quota is used up.
    ResourceExhausted,
}

impl BatchCode {
    /// All codes, in the order in which they win a tie.
    pub const ALL: [Self; 5] =
        [Self::Internal, Self::AlreadyExists, Self::InvalidArgument, Self::FailedPrecondition, Self::ResourceExhausted];

    /// The name in metric labels and, behind a prefix, on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "INTERNAL",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
        }
    }
}

impl From<LifecycleError> for ItemError {
    fn from(error: LifecycleError) -> Self {
        let code = match error {
            LifecycleError::Invalid(_) => BatchCode::InvalidArgument,
            LifecycleError::IssuedShape | LifecycleError::DerivedShape => BatchCode::FailedPrecondition,
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
    /// Imports 1 to 1000 keys; an item that could not be read comes with the reason in words. Request ids are not used.
    /// The results are in the order of the items.
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
        let mut results = self.judge_items(context, items);
        self.cut_to_quota(context, &mut results).await?;
        let wanted: Vec<ApiKey> = results.iter().filter_map(|item| item.as_ref().ok()).cloned().collect();
        let stored = if wanted.is_empty() { Vec::new() } else { self.store.insert_many(context, &wanted).await? };
        let mut stored = stored.into_iter();
        for item in results.iter_mut().filter(|item| item.is_ok()) {
            if stored.next() != Some(true) {
                *item = Err(LifecycleError::AlreadyImported.into());
            }
        }
        results.iter().flatten().for_each(|key| drop(self.noted(key)));
        self.metrics.batch(&results);
        let imported = results.iter().flatten().count();
        log_change!(context, imported, of = results.len(), "keys imported in a batch");
        Ok(results)
    }

    fn judge_items(&self, context: &RequestContext, items: Vec<Result<ImportKey, String>>) -> Vec<BatchItem> {
        let now = self.now();
        let mut first_index: HashMap<KeyId, usize> = HashMap::new();
        let judge = |(index, item): (usize, Result<ImportKey, String>)| {
            let key = item.map_err(LifecycleError::Invalid).and_then(|item| self.importable(context, item, now))?;
            let first = *first_index.entry(key.id).or_insert(index);
            if first < index {
                let message = format!("duplicate of the key at index {first} of this batch");
                return Err(ItemError { code: BatchCode::AlreadyExists, message });
            }
            Ok(key)
        };
        items.into_iter().enumerate().map(judge).collect()
    }

    /// Refuses the last of the items that would go beyond the quota.
    async fn cut_to_quota(&self, context: &RequestContext, results: &mut [BatchItem]) -> Result<(), LifecycleError> {
        let Some(quota) = self.settings.quota else {
            return Ok(());
        };
        let free = quota.saturating_sub(self.store.count_active(context.tenant).await?);
        let free = usize::try_from(free).unwrap_or(usize::MAX);
        for item in results.iter_mut().filter(|item| item.is_ok()).skip(free) {
            *item = Err(LifecycleError::QuotaExceeded.into());
        }
        Ok(())
    }
}
