//! Positive decisions.

use std::sync::Arc;

use super::proof_cache::ProvenToken;
use crate::clock::Timestamp;
use crate::credential::CredentialKind;
use crate::id::{KeyId, TenantId};
use crate::key::{Actor, CachedKey, Grant, Metadata};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};

/// Who the caller is and what it may do. Shares what it was judged by.
#[derive(Debug, Clone)]
pub struct Verdict {
    subject: Subject,
    kind: CredentialKind,
}

#[derive(Debug, Clone)]
enum Subject {
    Key(Arc<CachedKey>),
    Token(Arc<ProvenToken>),
}

impl Verdict {
    pub(super) fn of_key(record: Arc<CachedKey>, kind: CredentialKind) -> Self {
        Self { subject: Subject::Key(record), kind }
    }

    pub(super) fn of_token(token: Arc<ProvenToken>) -> Self {
        Self { kind: token.kind, subject: Subject::Token(token) }
    }

    /// The record, if a key itself was presented.
    pub fn record(&self) -> Option<&CachedKey> {
        match &self.subject {
            Subject::Key(key) => Some(key),
            Subject::Token(_) => None,
        }
    }

    /// The key behind the credential; the parent of a token.
    pub fn key_id(&self) -> KeyId {
        match &self.subject {
            Subject::Key(key) => key.id(),
            Subject::Token(bearer) => bearer.key_id,
        }
    }

    /// The owner.
    pub fn actor(&self) -> &Actor {
        match &self.subject {
            Subject::Key(key) => key.actor(),
            Subject::Token(bearer) => &bearer.owner,
        }
    }

    /// What the credential may do.
    pub fn grant(&self) -> &Grant {
        match &self.subject {
            Subject::Key(key) => key.grant(),
            Subject::Token(bearer) => &bearer.grant,
        }
    }

    /// Whom the key belongs to.
    pub fn tenant(&self) -> TenantId {
        self.actor().tenant()
    }

    /// The owner's name.
    pub fn actor_id(&self) -> &str {
        self.actor().id()
    }

    /// What the credential may do.
    pub fn scopes(&self) -> &Scopes {
        self.grant().scopes()
    }

    /// The owner's own data; of a token also its custom claims. A key's is read from its text each time.
    pub fn metadata(&self) -> Metadata {
        match &self.subject {
            Subject::Key(key) => key.metadata(),
            Subject::Token(bearer) => bearer.metadata.clone(),
        }
    }

    /// Whether the key may be shown.
    pub fn visibility(&self) -> Visibility {
        match &self.subject {
            Subject::Key(key) => key.visibility(),
            Subject::Token(bearer) => bearer.visibility,
        }
    }

    /// When the credential ends.
    pub fn expire_time(&self) -> Option<Timestamp> {
        match &self.subject {
            Subject::Key(key) => key.expire_time(),
            Subject::Token(bearer) => bearer.expire_time,
        }
    }

    /// How often it may be used; a token has no policy of its own.
    pub fn rate_limit(&self) -> Option<RateLimitPolicy> {
        self.record().and_then(CachedKey::rate_limit)
    }

    /// Whether it is bound to addresses.
    pub fn is_address_bound(&self) -> bool {
        match &self.subject {
            Subject::Key(key) => key.networks().is_some(),
            Subject::Token(bearer) => bearer.is_address_bound(),
        }
    }

    /// The audiences it names; a key names none.
    pub fn audiences(&self) -> &[String] {
        match &self.subject {
            Subject::Key(_) => &[],
            Subject::Token(bearer) => bearer.audiences(),
        }
    }

    /// What kind of credential was presented.
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }
}
