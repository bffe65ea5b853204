//! Revoking keys (contract, admin API sections 5.5 and 5.13). A revocation cannot be undone.

use super::error::{LifecycleError, invalid};
use super::log::log_change;
use super::write_side::Lifecycle;
use crate::id::KeyId;
use crate::key::{EffectiveStatus, RevocationReason, RevokeKey};
use crate::policy::Visibility;
use crate::request_context::RequestContext;
use crate::store::Revoked;

impl Lifecycle {
    /// Revokes a key. When this returns, this process no longer accepts the key.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::NotFound`], [`LifecycleError::AlreadyRevoked`] or a failure of the
    /// store.
    pub async fn revoke(&self, context: &RequestContext, id: KeyId, command: RevokeKey) -> Result<(), LifecycleError> {
        let revocation = command.check()?;
        self.check_visible(context, id).await?;
        match self.store.revoke(context, id, &revocation, self.now()).await? {
            Revoked::Done(key) => {
                self.changed(&key).await;
                self.metrics.revoked(revocation.reason);
                log_change!(context, key_id = %id, reason = revocation.reason.name(), "key {id} revoked");
                Ok(())
            }
            Revoked::Already => Err(LifecycleError::AlreadyRevoked),
            Revoked::Absent => Err(LifecycleError::NotFound(id)),
        }
    }

    /// Revokes a key on behalf of its holder. Does nothing if it is revoked already.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`] for a reason that only administrators may give, [`LifecycleError::NotFound`],
    /// [`LifecycleError::Expired`], [`LifecycleError::PublicKey`] or a failure of the store.
    pub async fn revoke_own(
        &self,
        context: &RequestContext,
        id: KeyId,
        reason: RevocationReason,
    ) -> Result<(), LifecycleError> {
        if reason == RevocationReason::PrivilegeWithdrawn {
            return invalid("PRIVILEGE_WITHDRAWN is not allowed for self-revocation".into());
        }
        let key = self.get(context, id).await?;
        match (key.effective_status(self.now()), key.visibility) {
            (EffectiveStatus::Revoked, _) => return Ok(()),
            (EffectiveStatus::Expired, _) => return Err(LifecycleError::Expired),
            (EffectiveStatus::Active, Visibility::Public) => return Err(LifecycleError::PublicKey),
            (EffectiveStatus::Active, Visibility::Secret) => {}
        }
        let command = RevokeKey { reason, description: None };
        match self.revoke(context, id, command).await {
            // A concurrent call revoked it.
            Err(LifecycleError::AlreadyRevoked) => Ok(()),
            result => result,
        }
    }
}
