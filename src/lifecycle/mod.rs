//! The write side: issues, imports, changes, rotates, revokes and deletes keys, and derives tokens. Every change is committed
//! in the store first, then invalidated in the caches, and only then reported to the caller.

mod batch;
mod batch_item;
mod delete;
mod derive;
mod import;
mod issue;
mod key_locks;
mod list;
mod log;
mod metrics;
mod purge;
mod revoke;
mod rotate;
mod update;

pub use batch_item::{BatchCode, BatchItem, ItemError};
pub use derive::{DeriveToken, Derived, TokenForm};
pub use import::ImportKey;
pub use issue::Issued;
pub use list::{ListKeys, Page};
pub use metrics::Metrics;
pub use rotate::Rotated;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::key_locks::KeyLocks;
use arc_swap::ArcSwap;
use chrono::SubsecRound;
use rand::Rng;
use rand::rngs::StdRng;

use crate::cache::{CacheKey, Caches, Invalidation};
use crate::clock::{Clock, Timestamp};
use crate::credential::{Keyring, Routing, SigningKeys};
use crate::id::KeyId;
use crate::key::{ApiKey, InvalidField};
use crate::request_context::RequestContext;
use crate::store::{KeyStore, StoreError};

/// How often a change is tried while others change the same key.
const RETRIES: usize = 16;

/// Settings of new keys and tokens.
#[derive(Debug)]
pub struct Settings {
    /// The secrets that sign new keys, macaroons and page tokens.
    pub keyring: Arc<Keyring>,
    /// Recognises texts that cannot be imported, because they look like issued keys or derived tokens.
    pub routing: Routing,
    /// The prefix of secret keys.
    pub prefix: String,
    /// The prefix of public keys; if absent, none can be issued.
    pub public_prefix: Option<String>,
    /// The default lifetime of a key; if absent, a request must name one.
    pub default_ttl: Option<Duration>,
    /// The maximum lifetime of keys and tokens; zero means no limit.
    pub max_ttl: Duration,
    /// The maximum number of active keys of a tenant; no limit if absent.
    pub quota: Option<u64>,
    /// Settings of derived tokens.
    pub derived: DerivedSettings,
}

/// Settings of derived tokens.
#[derive(Debug, Default)]
pub struct DerivedSettings {
    /// The `iss` claim.
    pub issuer: String,
    /// The default lifetime.
    pub default_ttl: Duration,
    /// The prefix of macaroons.
    pub macaroon_prefix: String,
    /// The `kid` of the key that signs JWTs; if empty, the first key that can sign.
    pub signing_key_id: String,
    /// The keys that sign JWTs.
    pub signing_keys: Arc<ArcSwap<SigningKeys>>,
}

/// The write side.
pub struct Lifecycle {
    settings: Settings,
    store: Arc<dyn KeyStore>,
    caches: Caches<StoreError>,
    clock: Arc<dyn Clock>,
    rng: Mutex<StdRng>,
    key_locks: KeyLocks,
    metrics: Metrics,
}

/// Why a call was rejected or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LifecycleError {
    /// A field breaks a limit.
    #[error("{0}")]
    Invalid(String),
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

impl Lifecycle {
    /// Creates the write side over `store`, which invalidates `caches` on every change. `rng` must be cryptographically
    /// secure: it generates the secret part of new keys.
    pub fn new(
        settings: Settings,
        store: Arc<dyn KeyStore>,
        caches: Caches<StoreError>,
        clock: Arc<dyn Clock>,
        rng: StdRng,
        metrics: Metrics,
    ) -> Self {
        Self { settings, store, caches, clock, rng: Mutex::new(rng), key_locks: KeyLocks::new(), metrics }
    }

    /// Returns a key in any status.
    ///
    /// # Errors
    /// [`LifecycleError::NotFound`] or [`LifecycleError::Store`].
    pub async fn get(&self, context: &RequestContext, id: KeyId) -> Result<ApiKey, LifecycleError> {
        self.store.find(context.tenant, id).await?.ok_or(LifecycleError::NotFound(id))
    }

    /// Checks that the store answers.
    ///
    /// # Errors
    /// The error of the store.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    /// The current time, as in records.
    pub fn now(&self) -> Timestamp {
        // Stores keep microseconds, and a response must equal later reads.
        self.clock.now().trunc_subsecs(6)
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random_uuid(&self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.rng().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Applies a change to the caches of this node and writes the record to the shared cache.
    async fn changed(&self, key: &ApiKey) {
        self.caches.apply(&Invalidation::writing_through(key), self.now()).await;
    }

    async fn deleted(&self, key: CacheKey, last_version: u64, now: Timestamp) {
        self.caches.apply(&Invalidation::deleted(key, last_version, now), now).await;
    }
}

fn invalid<T>(message: String) -> Result<T, LifecycleError> {
    Err(LifecycleError::Invalid(message))
}

#[cfg(test)]
mod tests;
