//! Who makes an authorized request.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::id::{KeyId, TenantId};
use crate::key::Metadata;
use crate::pipeline::Exchange;
use crate::pipeline::rate_limit::LimitStates;
use crate::policy::Scopes;
use crate::verifier::{CredentialKind, Verdict};

/// Who makes an authorized request, in the extensions of the request. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Principal {
    verdict: Verdict,
    limits: LimitStates,
}

/// The state of a rate limit after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState<'p> {
    /// The name: `default` for the limit of the key itself.
    pub name: &'p str,
    /// Requests per window.
    pub quota: u64,
    /// The window.
    pub window: Duration,
    /// Requests that the limit would admit now.
    pub remaining: u64,
    /// The time until the quota is replenished completely.
    pub reset: Duration,
}

impl Principal {
    /// The caller of an authorized request; `None` if it is anonymous.
    pub(super) fn of(exchange: &Exchange) -> Option<Self> {
        Some(Self { verdict: exchange.verdict()?.clone(), limits: exchange.limits().limit_states() })
    }

    /// A caller without limits.
    pub(crate) fn new(verdict: Verdict) -> Self {
        Self { verdict, limits: LimitStates::default() }
    }

    /// The id of the key; for a derived token that of its parent.
    pub fn key_id(&self) -> KeyId {
        self.verdict.key_id()
    }

    /// The id of the actor that the key was issued to.
    pub fn actor_id(&self) -> &str {
        self.verdict.actor_id()
    }

    /// The tenant of the key.
    pub fn tenant(&self) -> TenantId {
        self.verdict.tenant()
    }

    /// What the credential may do.
    pub fn scopes(&self) -> &Scopes {
        self.verdict.scopes()
    }

    /// Whether the credential has a scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes().as_slice().iter().any(|granted| **granted == *scope)
    }

    /// The metadata of the key, and of a derived token also its custom claims. A key's metadata is parsed on each call.
    pub fn metadata(&self) -> Metadata {
        self.verdict.metadata()
    }

    /// The kind of the credential.
    pub fn credential_kind(&self) -> CredentialKind {
        self.verdict.kind()
    }

    /// The audiences that a derived token names; a key names none.
    pub fn audiences(&self) -> &[String] {
        self.verdict.audiences()
    }

    /// When the credential expires; `None` if it does not.
    pub fn expire_time(&self) -> Option<DateTime<Utc>> {
        self.verdict.expire_time()
    }

    /// The rate limits that the request was charged to.
    pub fn limits(&self) -> impl Iterator<Item = LimitState<'_>> {
        self.limits.iter().map(|(named, state)| LimitState {
            name: &named.name,
            quota: named.limit.quota().get(),
            window: named.limit.window(),
            remaining: state.remaining,
            reset: state.reset,
        })
    }
}
