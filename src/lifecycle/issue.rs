//! Issuing keys (contract, admin API section 5.1).

use std::time::Duration;

use secrecy::SecretString;

use super::log::log_change;
use super::{Lifecycle, LifecycleError, invalid};
use crate::clock::Timestamp;
use crate::credential::mint;
use crate::duration::format_go;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, KeyDraft, Status};
use crate::policy::Visibility;
use crate::request_context::RequestContext;
use crate::store::Inserted;

pub(super) const TTL_MIN: Duration = Duration::from_secs(1);
pub(super) const TTL_MAX: Duration = Duration::from_secs(315_360_000);

/// An issued key.
#[derive(Debug)]
pub struct Issued {
    /// The record.
    pub key: ApiKey,
    /// The key's text, shown this once; `None` when an earlier call with the same request id was given it.
    pub secret: Option<SecretString>,
}

impl Lifecycle {
    /// Issues a key, or returns the one that an earlier call with the same request id issued.
    ///
    /// # Errors
    /// [`LifecycleError::Invalid`], [`LifecycleError::QuotaExceeded`], [`LifecycleError::IdTaken`] or a failure of the
    /// store.
    pub async fn issue(&self, context: &RequestContext, draft: KeyDraft) -> Result<Issued, LifecycleError> {
        draft.check()?;
        let ttl = self.life(draft.ttl)?;
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
            Inserted::Replay(first) => Ok(Issued { key: *first, secret: None }),
            Inserted::Exists => Err(LifecycleError::IdTaken),
        }
    }

    /// The life that a key gets; limits are never applied silently.
    pub(super) fn life(&self, wanted: Option<Duration>) -> Result<Duration, LifecycleError> {
        let ttl = wanted.or(self.settings.default_ttl).unwrap_or_default();
        let max = self.settings.max_ttl;
        if ttl.is_zero() {
            invalid("ttl must be greater than 0; non-expiring API keys are not supported".into())
        } else if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
            invalid("ttl must be between 1s and 315360000s".into())
        } else if !max.is_zero() && ttl > max {
            invalid(format!("ttl {} exceeds the project maximum of {}", format_go(ttl), format_go(max)))
        } else {
            Ok(ttl)
        }
    }

    /// The key that an earlier call with the same request id made.
    pub(super) async fn replay(
        &self,
        context: &RequestContext,
        kind: KeyKind,
        request_id: Option<&str>,
    ) -> Result<Option<ApiKey>, LifecycleError> {
        match request_id {
            Some(request_id) => Ok(self.store.find_by_request(context.tenant, kind, request_id).await?),
            None => Ok(None),
        }
    }

    pub(super) async fn check_quota(&self, context: &RequestContext) -> Result<(), LifecycleError> {
        match self.settings.quota {
            Some(quota) if self.store.count_active(context.tenant).await? >= quota => {
                Err(LifecycleError::QuotaExceeded)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn mint(&self, visibility: Visibility) -> Result<(KeyId, SecretString, Timestamp), LifecycleError> {
        let settings = &self.settings;
        let prefix = match (visibility, &settings.public_prefix) {
            (Visibility::Secret, _) => &settings.prefix,
            (Visibility::Public, Some(prefix)) => prefix,
            (Visibility::Public, None) => {
                return invalid(
                    "public key prefix not configured: set credentials.api_keys.prefix.public_current".into(),
                );
            }
        };
        let now = self.now();
        let (id, secret) = mint(prefix, &settings.keyring, now, &mut *self.rng())
            .map_err(|error| LifecycleError::Internal(error.to_string()))?;
        Ok((id, secret, now))
    }
}

/// The first record of a key.
pub(super) fn record(tenant: TenantId, id: KeyId, draft: KeyDraft, now: Timestamp, ttl: Duration) -> ApiKey {
    ApiKey {
        tenant,
        id,
        name: draft.name,
        actor_id: draft.actor_id,
        scopes: draft.scopes.into_iter().collect(),
        metadata: draft.metadata,
        status: Status::Active,
        visibility: draft.visibility,
        create_time: now,
        update_time: now,
        expire_time: Some(now + ttl),
        last_used_time: None,
        rate_limit: draft.rate_limit,
        networks: draft.networks,
        version: ApiKey::first_version(now),
    }
}
