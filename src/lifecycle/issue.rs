//! Issuing keys (contract, admin API section 5.1).

use secrecy::SecretString;

use super::error::LifecycleError;
use super::log::log_change;
use super::new_key::{check_actor, record, visible};
use super::write_side::Lifecycle;
use crate::id::KeyKind;
use crate::key::{ApiKey, KeyDraft};
use crate::request_context::RequestContext;
use crate::store::Inserted;

/// An issued key.
#[derive(Debug)]
pub struct Issued {
    /// The record.
    pub key: ApiKey,
    /// The text of the key, which cannot be read again; `None` if an earlier call with the same request id returned it.
    pub secret: Option<SecretString>,
}

impl Lifecycle {
    /// Issues a key. If an earlier call had the same request id, returns the key of that call.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::ActorNotAllowed`], [`LifecycleError::QuotaExceeded`], [`LifecycleError::IdTaken`] or a failure of the
    /// store.
    pub async fn issue(&self, context: &RequestContext, draft: KeyDraft) -> Result<Issued, LifecycleError> {
        draft.check()?;
        check_actor(context, &draft.actor_id)?;
        let ttl = self.lifetime(draft.ttl)?;
        let request_id = draft.request_id.clone().filter(|id| !id.is_empty());
        if let Some(key) = self.replay(context, KeyKind::Issued, request_id.as_deref()).await? {
            return Ok(Issued { key, secret: None });
        }
        self.check_quota(context).await?;
        let (id, secret, now) = self.mint(draft.visibility)?;
        let key = record(context.tenant, id, draft, now, ttl);
        match self.store.insert(context, &key, request_id.as_deref()).await? {
            Inserted::New => {
                self.changed(&key).await;
                self.metrics.created();
                log_change!(context, key_id = %key.id, "key {} issued", key.id);
                Ok(Issued { key, secret: Some(secret) })
            }
            Inserted::Replay(first) => Ok(Issued { key: visible(context, *first)?, secret: None }),
            Inserted::Exists => Err(LifecycleError::IdTaken),
        }
    }
}
