//! Rotating keys (contract, admin API section 5.4): a new key replaces an old one, in one transaction.

use secrecy::SecretString;

use super::error::LifecycleError;
use super::log::log_change;
use super::write_side::{Lifecycle, RETRIES};
use crate::id::KeyId;
use crate::key::{ApiKey, EffectiveStatus, Revocation, RevocationReason, RotateKey, Status};
use crate::request_context::RequestContext;

/// A rotated key.
#[derive(Debug)]
pub struct Rotated {
    /// The new key.
    pub key: ApiKey,
    /// The text of the new key, which cannot be read again.
    pub secret: SecretString,
    /// The old key, revoked.
    pub old: ApiKey,
}

impl Lifecycle {
    /// Issues a key that inherits all fields that the command does not change, and revokes the old key. Actor and expiry are
    /// always inherited.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::NotFound`], [`LifecycleError::NotActive`] (also for the later of two
    /// concurrent rotations), or a failure of the store.
    pub async fn rotate(
        &self,
        context: &RequestContext,
        id: KeyId,
        command: RotateKey,
    ) -> Result<Rotated, LifecycleError> {
        command.change.check()?;
        let _lock = self.key_locks.lock(id).await;
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
        Err(LifecycleError::Internal(format!("key {id} changed during each of {RETRIES} tries")))
    }
}

/// The revocation of a key that was rotated.
fn superseded() -> Revocation {
    Revocation { reason: RevocationReason::Superseded, description: Some("rotated: replaced by new key".into()) }
}
