//! Verdicts: positive decisions about credentials.

use std::sync::Arc;

use super::proof_cache::ProvenToken;
use crate::clock::Timestamp;
use crate::credential::{CredentialKind, DerivedToken};
use crate::id::{KeyId, TenantId};
use crate::key::{Actor, CachedKey, Grant, Metadata};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};

/// Who the caller is and what it may do. Shares the record or token that it was judged by.
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
    pub(crate) fn of_key(record: Arc<CachedKey>, kind: CredentialKind) -> Self {
        Self { subject: Subject::Key(record), kind }
    }

    pub(super) fn of_token(token: Arc<ProvenToken>) -> Self {
        Self { kind: token.kind, subject: Subject::Token(token) }
    }

    /// The record, if the credential is a key and not a token.
    pub fn record(&self) -> Option<&CachedKey> {
        match &self.subject {
            Subject::Key(key) => Some(key),
            Subject::Token(_) => None,
        }
    }

    /// The token, if the credential is a token and not a key.
    pub fn token(&self) -> Option<&DerivedToken> {
        match &self.subject {
            Subject::Key(_) => None,
            Subject::Token(token) => Some(token.as_ref()),
        }
    }

    /// The key behind the credential; the parent of a token.
    pub fn key_id(&self) -> KeyId {
        match &self.subject {
            Subject::Key(key) => key.id(),
            Subject::Token(token) => token.key_id,
        }
    }

    /// The actor.
    pub fn actor(&self) -> &Actor {
        match &self.subject {
            Subject::Key(key) => key.actor(),
            Subject::Token(token) => &token.actor,
        }
    }

    /// What the credential may do.
    pub fn grant(&self) -> &Grant {
        match &self.subject {
            Subject::Key(key) => key.grant(),
            Subject::Token(token) => &token.grant,
        }
    }

    /// The tenant of the key.
    pub fn tenant(&self) -> TenantId {
        self.actor().tenant()
    }

    /// The id of the actor.
    pub fn actor_id(&self) -> &str {
        self.actor().id()
    }

    /// What the credential may do.
    pub fn scopes(&self) -> &Scopes {
        self.grant().scopes()
    }

    /// The metadata of the key, and of a token also its custom claims. A key's metadata is parsed on each call.
    pub fn metadata(&self) -> Metadata {
        match &self.subject {
            Subject::Key(key) => key.metadata(),
            Subject::Token(token) => token.metadata.clone(),
        }
    }

    /// Whether the key may be shown.
    pub fn visibility(&self) -> Visibility {
        match &self.subject {
            Subject::Key(key) => key.visibility(),
            Subject::Token(token) => token.visibility,
        }
    }

    /// When the credential expires.
    pub fn expire_time(&self) -> Option<Timestamp> {
        match &self.subject {
            Subject::Key(key) => key.expire_time(),
            Subject::Token(token) => token.expire_time,
        }
    }

    /// The rate limit of the key; `None` for a token, which has no limit of its own.
    pub fn rate_limit(&self) -> Option<RateLimitPolicy> {
        self.record().and_then(CachedKey::rate_limit)
    }

    /// Whether it may be used only from certain addresses.
    pub fn is_address_bound(&self) -> bool {
        match &self.subject {
            Subject::Key(key) => key.networks().is_some(),
            Subject::Token(token) => token.is_address_bound(),
        }
    }

    /// The audiences that it names; a key names none.
    pub fn audiences(&self) -> &[String] {
        match &self.subject {
            Subject::Key(_) => &[],
            Subject::Token(token) => token.audiences(),
        }
    }

    /// The kind of the credential.
    pub fn kind(&self) -> CredentialKind {
        self.kind
    }
}
