//! The life of keys, from issue or import to revocation or deletion. Every change is in the store before it is in the cache, and in the cache
//! before the caller hears of it.

mod batch;
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

pub use batch::{BatchCode, BatchItem, ItemError};
pub use derive::{DeriveToken, Derived, TokenForm};
pub use import::ImportKey;
pub use issue::Issued;
pub use list::{ListKeys, Page};
pub use metrics::Metrics;
pub use rotate::Rotated;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::key_locks::KeyLocks;
use arc_swap::ArcSwap;
use chrono::SubsecRound;
use rand::Rng;
use rand::rngs::StdRng;

use crate::cache::{CacheKey, Caches};
use crate::clock::{Clock, Timestamp};
use crate::credential::{Keyring, Routing, SigningKeys};
use crate::id::KeyId;
use crate::key::{ApiKey, InvalidField, Status};
use crate::request_context::RequestContext;
use crate::store::{KeyStore, StoreError};

/// How often a change is tried again that another one came before.
const RETRIES: usize = 16;

/// What new keys depend on beside the caller's wishes.
#[derive(Debug)]
pub struct Settings {
    /// The secret that mints.
    pub keyring: Arc<Keyring>,
    /// Tells which texts cannot be imported.
    pub routing: Routing,
    /// The prefix of secret keys.
    pub prefix: String,
    /// The prefix of public keys; none can be issued when absent.
    pub public_prefix: Option<String>,
    /// The life of a key whose caller names none; a refusal when absent.
    pub default_ttl: Option<Duration>,
    /// The longest life; any when zero.
    pub max_ttl: Duration,
    /// How many active keys a tenant may have; any number when absent.
    pub quota: Option<u64>,
    /// What derived tokens depend on.
    pub derived: DerivedSettings,
}

/// What derived tokens depend on.
#[derive(Debug, Default)]
pub struct DerivedSettings {
    /// The name of this issuer.
    pub issuer: String,
    /// The life of a token whose caller names none.
    pub default_ttl: Duration,
    /// What macaroons begin with.
    pub macaroon_prefix: String,
    /// The `kid` of the key that signs JWTs; the first that can when empty.
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

/// Why a change was refused, or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LifecycleError {
    /// A field breaks a limit.
    #[error("{0}")]
    Invalid(String),
    /// There is no such key.
    #[error("{}", match .0 { KeyId::Issued(_) => "API key not found", KeyId::Imported(_) => "imported key not found" })]
    NotFound(KeyId),
    /// The raw key has the shape of an issued one.
    #[error("cannot import key: format conflicts with issued api key pattern")]
    IssuedShape,
    /// The raw key has the shape of a derived token.
    #[error("cannot import key: format conflicts with derived token pattern")]
    DerivedShape,
    /// The raw key is there already, in whatever status.
    #[error("key already imported (duplicate detected)")]
    AlreadyImported,
    /// The fresh id of a key is that of another one; the call can be made again.
    #[error("An API key with this identifier already exists.")]
    IdTaken,
    /// The key cannot be rotated: it was revoked, or its end has come.
    #[error("cannot rotate a non-active key")]
    NotActive,
    /// The key's end has come.
    #[error("The API key has expired.")]
    Expired,
    /// A public key is everybody's, so nobody may revoke it for all.
    #[error("public keys cannot be revoked by who has them")]
    PublicKey,
    /// The parent of a token has ended since it was verified.
    #[error("the key has ended")]
    ParentEnded,
    /// A token is to have a scope that its parent lacks.
    #[error("scope {0:?} is not granted to the key")]
    ScopeNotGranted(String),
    /// No key can sign a JWT; of the name given, if one is configured.
    #[error("no usable signing key: set credentials.derived_tokens.jwt.signing_keys.urls and signing_key_id")]
    NoSigningKey(String),
    /// The key was revoked before.
    #[error("key is already revoked")]
    AlreadyRevoked,
    /// The tenant has as many keys as it may have.
    #[error("the tenant has reached its quota of active keys")]
    QuotaExceeded,
    /// Nothing is known to have changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that should not happen; the text is for the log.
    #[error("{0}")]
    Internal(String),
}

impl From<InvalidField> for LifecycleError {
    fn from(invalid: InvalidField) -> Self {
        Self::Invalid(invalid.0)
    }
}

impl Lifecycle {
    /// The write side over `store`, keeping `caches` in step. `rng` must be cryptographically strong: it makes the
    /// unguessable part of new keys.
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

    /// The record of a key, in any status.
    ///
    /// # Errors
    /// [`LifecycleError::NotFound`] or [`LifecycleError::Store`].
    pub async fn get(&self, context: &RequestContext, id: KeyId) -> Result<ApiKey, LifecycleError> {
        self.store.find(context.tenant, id).await?.ok_or(LifecycleError::NotFound(id))
    }

    /// Whether changes can be made now.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.store.ping().await
    }

    /// Now, by the clock that stamps records.
    pub fn now(&self) -> Timestamp {
        // Stores keep microseconds, and an answer must show what a later read shows.
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

    async fn changed(&self, key: &ApiKey) {
        let key = self.noted(key);
        if let Some(shared) = &self.caches.shared {
            shared.put(&key, Instant::now()).await;
        }
    }

    /// Tells this node alone, which is enough for a key that nobody can have looked up with success.
    fn noted(&self, key: &ApiKey) -> Arc<ApiKey> {
        let (id, key) = ((key.tenant, key.id), Arc::new(key.clone()));
        if let Some(shared) = &self.caches.shared {
            shared.invalidate(id, key.version);
        }
        if let Some(local) = &self.caches.local {
            local.invalidate(id, key.version);
        }
        if let Status::Revoked(_) = key.status {
            self.caches.revoked_parents.add(id, key.update_time, self.now());
        }
        key
    }

    async fn deleted(&self, key: CacheKey, last_version: u64, now: Timestamp) {
        if let Some(local) = &self.caches.local {
            local.invalidate_deleted(key, last_version);
        }
        self.caches.revoked_parents.add(key, now, now);
        if let Some(shared) = &self.caches.shared {
            shared.invalidate_deleted(key, last_version).await;
        }
    }
}

fn invalid<T>(message: String) -> Result<T, LifecycleError> {
    Err(LifecycleError::Invalid(message))
}

#[cfg(test)]
mod tests;
