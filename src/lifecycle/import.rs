//! Importing keys that another system generated (contract, admin API section 5.6).

use secrecy::{ExposeSecret, SecretString};

use super::error::{LifecycleError, invalid};
use super::log::log_change;
use super::new_key::{check_actor, record, visible};
use super::write_side::Lifecycle;
use crate::clock::Timestamp;
use crate::credential::{CREDENTIAL_MAX, Shape, imported_key_id};
use crate::id::KeyKind;
use crate::key::{ApiKey, KeyDraft};
use crate::request_context::RequestContext;
use crate::store::Inserted;

/// A key to import.
#[derive(Debug, Clone)]
pub struct ImportKey {
    /// The text of the key as clients present it, 1 to 8192 bytes. Never stored.
    pub raw_key: SecretString,
    /// The other fields of the key.
    pub draft: KeyDraft,
}

impl Lifecycle {
    /// Imports a key. If an earlier call had the same request id, returns the key of that call.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::ActorNotAllowed`], [`LifecycleError::IssuedShape`], [`LifecycleError::DerivedShape`],
    /// [`LifecycleError::AlreadyImported`], [`LifecycleError::QuotaExceeded`] or a failure of the store.
    pub async fn import(&self, context: &RequestContext, import: ImportKey) -> Result<ApiKey, LifecycleError> {
        let request_id = import.draft.request_id.clone().filter(|id| !id.is_empty());
        let key = self.validate_import(context, import, self.now())?;
        if let Some(first) = self.replay(context, KeyKind::Imported, request_id.as_deref()).await? {
            return Ok(first);
        }
        self.check_quota(context).await?;
        match self.store.insert(context, &key, request_id.as_deref()).await? {
            Inserted::New => {
                self.changed(&key).await;
                self.metrics.created();
                log_change!(context, key_id = %key.id, "key {} imported", key.id);
                Ok(key)
            }
            Inserted::Replay(first) => visible(context, *first),
            Inserted::Exists => Err(LifecycleError::AlreadyImported),
        }
    }

    /// Validates an import. Returns the record to store.
    pub(super) fn validate_import(
        &self,
        context: &RequestContext,
        import: ImportKey,
        now: Timestamp,
    ) -> Result<ApiKey, LifecycleError> {
        let raw_key = import.raw_key.expose_secret();
        if !(1..=CREDENTIAL_MAX).contains(&raw_key.len()) {
            return invalid(format!("raw_key must have 1 to {CREDENTIAL_MAX} bytes"));
        }
        import.draft.check()?;
        check_actor(context, &import.draft.actor_id)?;
        let ttl = self.lifetime(import.draft.ttl)?;
        match self.settings.routing.classify(raw_key) {
            Shape::Issued(_) => Err(LifecycleError::IssuedShape),
            Shape::DerivedJwt(_) | Shape::DerivedMacaroon(_) => Err(LifecycleError::DerivedShape),
            Shape::Imported => {
                Ok(record(context.tenant, imported_key_id(context.tenant, raw_key), import.draft, now, ttl))
            }
        }
    }
}
