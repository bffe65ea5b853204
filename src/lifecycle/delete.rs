//! Deleting imported keys for good (contract, admin API section 5.8).

use super::{Lifecycle, LifecycleError};
use crate::id::{KeyId, TenantId};

impl Lifecycle {
    /// Takes a key out, in any status. The same raw key can be imported again afterwards.
    ///
    /// # Errors
    /// [`LifecycleError::NotFound`] or a failure of the store.
    pub async fn delete(&self, tenant: TenantId, id: KeyId) -> Result<(), LifecycleError> {
        let now = self.now();
        let version = self.store.delete(tenant, id, now).await?.ok_or(LifecycleError::NotFound(id))?;
        self.deleted((tenant, id), version, now).await;
        tracing::info!(key_id = %id, tenant = %tenant, "key {id} deleted");
        Ok(())
    }
}
