//! What issuing, importing and rotating have in common: the limits, the text and the record of a new key.

use std::time::Duration;

use secrecy::SecretString;

use super::error::{LifecycleError, invalid};
use super::settings::{TTL_MAX, TTL_MIN};
use super::write_side::Lifecycle;
use crate::clock::Timestamp;
use crate::credential::mint;
use crate::duration::format_go;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, KeyDraft};
use crate::policy::Visibility;
use crate::request_context::RequestContext;

impl Lifecycle {
    /// Returns the lifetime of a new key. A lifetime outside of the limits is an error, never clamped.
    pub(super) fn lifetime(&self, requested: Option<Duration>) -> Result<Duration, LifecycleError> {
        let ttl = requested.or(self.settings.default_ttl).unwrap_or_default();
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

    /// Returns the key that an earlier call with the same request id created.
    pub(super) async fn replay(
        &self,
        context: &RequestContext,
        kind: KeyKind,
        request_id: Option<&str>,
    ) -> Result<Option<ApiKey>, LifecycleError> {
        match request_id {
            Some(request_id) => {
                let first = self.store.find_by_request(context.tenant, kind, request_id).await?;
                first.map(|first| visible(context, first)).transpose()
            }
            None => Ok(None),
        }
    }

    /// Fails if the tenant has reached its quota of active keys.
    pub(super) async fn check_quota(&self, context: &RequestContext) -> Result<(), LifecycleError> {
        match self.settings.quota {
            Some(quota) if self.store.count_active(context.tenant, self.now()).await? >= quota => {
                Err(LifecycleError::QuotaExceeded)
            }
            _ => Ok(()),
        }
    }

    /// Generates the id and the text of a new key. Returns them with the time in the id.
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

/// Fails for an actor outside of the context's actors.
pub(super) fn check_actor(context: &RequestContext, actor_id: &str) -> Result<(), LifecycleError> {
    if context.actors.allows(actor_id) { Ok(()) } else { Err(LifecycleError::ActorNotAllowed) }
}

/// The key that an earlier call with the same request id created. The id is taken if that key is not one of the context's actors.
pub(super) fn visible(context: &RequestContext, first: ApiKey) -> Result<ApiKey, LifecycleError> {
    if context.actors.allows(&first.actor_id) { Ok(first) } else { Err(LifecycleError::IdTaken) }
}

/// The record of a new key.
pub(super) fn record(tenant: TenantId, id: KeyId, draft: KeyDraft, now: Timestamp, ttl: Duration) -> ApiKey {
    ApiKey {
        name: draft.name,
        actor_id: draft.actor_id,
        scopes: draft.scopes.into_iter().collect(),
        metadata: draft.metadata,
        visibility: draft.visibility,
        expire_time: Some(now + ttl),
        rate_limit: draft.rate_limit,
        networks: draft.networks,
        ..ApiKey::new(tenant, id, now)
    }
}
