//! Rotating keys (contract, admin API section 5.4): a new key in the place of an old one, in one step.

use secrecy::SecretString;

use super::log::log_change;
use super::revoke::superseded;
use super::{Lifecycle, LifecycleError, RETRIES};
use crate::id::KeyId;
use crate::key::{ApiKey, EffectiveStatus, RotateKey, Status};
use crate::request_context::RequestContext;

/// A rotated key.
#[derive(Debug)]
pub struct Rotated {
    /// The new key.
    pub key: ApiKey,
    /// The new key's text, shown this once.
    pub secret: SecretString,
    /// The old key as it is now: revoked.
    pub old: ApiKey,
}

impl Lifecycle {
    /// Issues a key that inherits what the command does not change, and revokes the old one. Actor and end are inherited
    /// always.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::NotFound`], [`LifecycleError::NotActive`], also for the slower one
    /// of two that rotate the same key, or a failure of the store.
    pub async fn rotate(
        &self,
        context: &RequestContext,
        id: KeyId,
        command: RotateKey,
    ) -> Result<Rotated, LifecycleError> {
        command.change.check()?;
        let _turn = self.key_locks.of(id).await;
        for _ in 0..RETRIES {
            let old = self.get(context, id).await?;
            if old.effective_status(self.now()) != EffectiveStatus::Active {
                return Err(LifecycleError::NotActive);
            }
            let visibility = command.visibility.unwrap_or(old.visibility);
            let (new_id, secret, now) = self.mint(visibility)?;
            let mut key = ApiKey {
                id: new_id,
                visibility,
                status: Status::Active,
                create_time: now,
                update_time: now,
                last_used_time: None,
                version: ApiKey::first_version(now),
                ..old.clone()
            };
            command.change.clone().apply(&mut key);
            if let Some(old) = self.store.rotate(context, &old, &key, &superseded(), now).await? {
                self.changed(&key).await;
                self.changed(&old).await;
                self.metrics.rotated();
                log_change!(context, key_id = %key.id, old_key_id = %id, "key {id} rotated");
                return Ok(Rotated { key, secret, old });
            }
        }
        Err(LifecycleError::Internal(format!("key {id} is changed by others all the time")))
    }
}
