//! Deleting imported keys (contract, admin API section 5.8).

use super::error::LifecycleError;
use super::log::log_change;
use super::write_side::Lifecycle;
use crate::id::KeyId;
use crate::request_context::RequestContext;

impl Lifecycle {
    /// Deletes a key in any status. The same raw key can be imported again afterwards.
    ///
    /// # Errors
    /// [`LifecycleError::NotFound`] or a failure of the store.
    pub async fn delete(&self, context: &RequestContext, id: KeyId) -> Result<(), LifecycleError> {
        self.check_visible(context, id).await?;
        let now = self.now();
        let version = self.store.delete(context, id, now).await?.ok_or(LifecycleError::NotFound(id))?;
        self.deleted((context.tenant, id), version, now).await;
        log_change!(context, key_id = %id, "key {id} deleted");
        Ok(())
    }
}
