//! Positive decisions.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::credential::CredentialKind;
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, Metadata};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};

/// Who the caller is and what it may do. Shares the record that it was judged by.
#[derive(Debug, Clone)]
pub struct Verdict {
    record: Arc<ApiKey>,
    kind: CredentialKind,
}

impl Verdict {
    pub(super) fn new(record: Arc<ApiKey>, kind: CredentialKind) -> Self {
        Self { record, kind }
    }

    /// The key behind the credential.
    pub fn key_id(&self) -> KeyId {
        self.record.id
    }

    /// Whom the key belongs to.
    pub fn tenant(&self) -> TenantId {
        self.record.tenant
    }

    /// The owner.
    pub fn actor_id(&self) -> &str {
        &self.record.actor_id
    }

    /// What the credential may do.
    pub fn scopes(&self) -> &Scopes {
        &self.record.scopes
    }

    /// The owner's own data.
    pub fn metadata(&self) -> &Metadata {
        &self.record.metadata
    }

    /// Whether the key may be shown.
    pub fn visibility(&self) -> Visibility {
        self.record.visibility
    }

    /// When the credential ends.
    pub fn expire_time(&self) -> Option<Timestamp> {
        self.record.expire_time
    }

    /// How often it may be used.
    pub fn rate_limit(&self) -> Option<RateLimitPolicy> {
        self.record.rate_limit
    }

    /// Whether it is bound to addresses.
    pub fn is_address_bound(&self) -> bool {
        !self.record.networks.is_empty()
    }

    /// What kind of credential was presented.
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }
}
