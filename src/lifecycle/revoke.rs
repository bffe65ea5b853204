//! Revoking keys (contract, admin API section 5.5). There is no way back.

use super::{Lifecycle, LifecycleError};
use crate::id::{KeyId, TenantId};
use crate::key::RevokeKey;
use crate::store::Revoked;

impl Lifecycle {
    /// Revokes a key. When this returns, this process accepts the key no more.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::NotFound`], [`LifecycleError::AlreadyRevoked`] or a failure of the
    /// store.
    pub async fn revoke(&self, tenant: TenantId, id: KeyId, command: RevokeKey) -> Result<(), LifecycleError> {
        let revocation = command.check()?;
        match self.store.revoke(tenant, id, &revocation, self.now()).await? {
            Revoked::Done(key) => {
                self.changed(&key);
                self.metrics.revoked(revocation.reason);
                tracing::info!(key_id = %id, tenant = %tenant, reason = revocation.reason.name(), "key {id} revoked");
                Ok(())
            }
            Revoked::Already => Err(LifecycleError::AlreadyRevoked),
            Revoked::Absent => Err(LifecycleError::NotFound(id)),
        }
    }
}
