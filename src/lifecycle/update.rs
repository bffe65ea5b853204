//! Updating keys (contract, admin API section 5.3). The last write of a field wins; concurrent writes of different fields are
//! all kept.

use super::error::LifecycleError;
use super::log::log_change;
use super::write_side::{Lifecycle, RETRIES};
use crate::id::KeyId;
use crate::key::{ApiKey, KeyChange};
use crate::request_context::RequestContext;

impl Lifecycle {
    /// Changes fields of a key in any status. Returns the updated key.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::NotFound`] or a failure of the store.
    pub async fn update(
        &self,
        context: &RequestContext,
        id: KeyId,
        change: KeyChange,
    ) -> Result<ApiKey, LifecycleError> {
        change.check()?;
        let _lock = self.key_locks.lock(id).await;
        for _ in 0..RETRIES {
            let replaced = self.get(context, id).await?;
            let mut key = replaced.clone();
            change.clone().apply(&mut key);
            key.update_time = self.now();
            key.version += 1;
            if self.store.replace(context, &key, &replaced).await? {
                self.changed(&key).await;
                log_change!(context, key_id = %id, "key {id} updated");
                return Ok(key);
            }
        }
        Err(LifecycleError::Internal(format!("key {id} changed during each of {RETRIES} tries")))
    }
}
