//! Errors of the write side.

use crate::id::KeyId;
use crate::key::InvalidField;
use crate::store::StoreError;

/// Why a call was rejected or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LifecycleError {
    /// A field breaks a limit.
    #[error("{0}")]
    Invalid(String),
    /// The actor of a new key is outside of the actors of the caller.
    #[error("actor_id is outside of the actors that the admin key is bound to")]
    ActorNotAllowed,
    /// There is no such key.
    #[error("{}", match .0 { KeyId::Issued(_) => "API key not found", KeyId::Imported(_) => "imported key not found" })]
    NotFound(KeyId),
    /// The raw key looks like an issued key.
    #[error("cannot import key: format conflicts with issued api key pattern")]
    IssuedShape,
    /// The raw key looks like a derived token.
    #[error("cannot import key: format conflicts with derived token pattern")]
    DerivedShape,
    /// The raw key is imported already, in any status.
    #[error("key already imported (duplicate detected)")]
    AlreadyImported,
    /// The new id of a key is taken; the call can be retried.
    #[error("An API key with this identifier already exists.")]
    IdTaken,
    /// The key cannot be rotated: it is revoked or expired.
    #[error("cannot rotate a non-active key")]
    NotActive,
    /// The key was rotated before and is active only for a time.
    #[error("the key was rotated before and is replaced by {0}; rotate that key")]
    Replaced(KeyId),
    /// The key is expired.
    #[error("The API key has expired.")]
    Expired,
    /// The key is public, so its holders must not revoke it for all others.
    #[error("public keys cannot be revoked by who has them")]
    PublicKey,
    /// The parent of a token was revoked or has expired since it was verified.
    #[error("the key has ended")]
    ParentEnded,
    /// The requested scope of a token is not among its parent's.
    #[error("scope {0:?} is not granted to the key")]
    ScopeNotGranted(String),
    /// No key can sign a JWT. The value is the configured `kid`; empty if none is configured.
    #[error("no usable signing key: set credentials.derived_tokens.jwt.signing_keys.urls and signing_key_id")]
    NoSigningKey(String),
    /// The key was revoked before.
    #[error("key is already revoked")]
    AlreadyRevoked,
    /// The tenant has reached its quota of active keys.
    #[error("the tenant has reached its quota of active keys")]
    QuotaExceeded,
    /// The store failed; it is not known whether the change was made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An unexpected failure; the text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl From<InvalidField> for LifecycleError {
    fn from(invalid: InvalidField) -> Self {
        Self::Invalid(invalid.0)
    }
}

pub(super) fn invalid<T>(message: String) -> Result<T, LifecycleError> {
    Err(LifecycleError::Invalid(message))
}
