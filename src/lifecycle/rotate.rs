//! Rotating keys (contract, admin API section 5.4): a new key replaces an old one, in one transaction. Beyond the contract, the old key can
//! stay active for a time.

use std::time::Duration;

use secrecy::SecretString;

use super::error::{LifecycleError, invalid};
use super::log::log_change;
use super::settings::TTL_MAX;
use super::write_side::{Lifecycle, RETRIES};
use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::key::{ApiKey, EffectiveStatus, RotateKey, Status};
use crate::request_context::RequestContext;

/// A rotated key.
#[derive(Debug)]
pub struct Rotated {
    /// The new key.
    pub key: ApiKey,
    /// The text of the new key, which cannot be read again.
    pub secret: SecretString,
    /// The old key: revoked, or active until its `revoke_time`.
    pub old: ApiKey,
}

impl Lifecycle {
    /// Issues a key that inherits all fields that the command does not change, and revokes the old key, at once or some time later. Actor
    /// and expiry are always inherited.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::NotFound`], [`LifecycleError::NotActive`] (also for the later of two
    /// concurrent rotations), [`LifecycleError::Replaced`], or a failure of the store.
    pub async fn rotate(
        &self,
        context: &RequestContext,
        id: KeyId,
        command: RotateKey,
    ) -> Result<Rotated, LifecycleError> {
        command.change.check()?;
        if command.revoke_old_after.is_some_and(|time| time > TTL_MAX) {
            return invalid("revoke_old_after must be at most 315360000s".into());
        }
        let _lock = self.key_locks.lock(id).await;
        for _ in 0..RETRIES {
            let old = self.get(context, id).await?;
            if old.effective_status(self.now()) != EffectiveStatus::Active {
                return Err(LifecycleError::NotActive);
            }
            if let Some(new) = old.replaced_by {
                return Err(LifecycleError::Replaced(new));
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
            let revoke_time = revoke_time(&old, command.revoke_old_after, now);
            if let Some(old) = self.store.rotate(context, &old, &key, now, revoke_time).await? {
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

/// When the old key counts as revoked: not after its expiry. `None` for at once.
fn revoke_time(old: &ApiKey, after: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
    let end = now + after.filter(|after| !after.is_zero())?;
    Some(old.expire_time.map_or(end, |expiry| expiry.min(end)))
}
