//! [`Lifecycle`] itself: its state, and what all operations use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::SubsecRound;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::error::LifecycleError;
use super::key_locks::KeyLocks;
use super::metrics::Metrics;
use super::settings::Settings;
use crate::cache::{CacheKey, Caches, Invalidation};
use crate::clock::{Clock, Timestamp};
use crate::id::KeyId;
use crate::key::ApiKey;
use crate::request_context::{ActorScope, RequestContext};
use crate::store::{KeyStore, StoreError};

/// How often a change is tried while others change the same key.
pub(super) const RETRIES: usize = 16;

/// The write side.
pub struct Lifecycle {
    pub(super) settings: Settings,
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) caches: Caches<StoreError>,
    clock: Arc<dyn Clock>,
    rng: Mutex<StdRng>,
    pub(super) key_locks: Arc<KeyLocks>,
    pub(super) metrics: Metrics,
}

impl Lifecycle {
    /// Creates the write side over `store`, which invalidates `caches` on every change. `rng` must be cryptographically
    /// secure: it generates the secret part of new keys.
    #[doc(hidden)]
    pub fn new(
        settings: Settings,
        store: Arc<dyn KeyStore>,
        caches: Caches<StoreError>,
        clock: Arc<dyn Clock>,
        rng: StdRng,
        metrics: Metrics,
    ) -> Self {
        Self { settings, store, caches, clock, rng: Mutex::new(rng), key_locks: Arc::new(KeyLocks::new()), metrics }
    }

    /// A write side with other settings over the same store and caches, with the metrics of this one.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Self {
        Self {
            settings,
            store: Arc::clone(&self.store),
            caches: self.caches.clone(),
            clock: Arc::clone(&self.clock),
            rng: Mutex::new(StdRng::from_rng(&mut *self.rng())),
            key_locks: Arc::clone(&self.key_locks),
            metrics: self.metrics.clone(),
        }
    }

    /// Returns a key in any status, of the actors of the context.
    ///
    /// # Errors
    /// [`LifecycleError::NotFound`] or [`LifecycleError::Store`].
    pub async fn get(&self, context: &RequestContext, id: KeyId) -> Result<ApiKey, LifecycleError> {
        let found = self.store.find(context.tenant, id).await?;
        found.filter(|key| context.actors.allows(&key.actor_id)).ok_or(LifecycleError::NotFound(id))
    }

    /// Fails with [`LifecycleError::NotFound`] for a key of an actor outside of the context's actors. An actor never changes. Reads
    /// nothing if the context has every actor.
    pub(super) async fn check_visible(&self, context: &RequestContext, id: KeyId) -> Result<(), LifecycleError> {
        match context.actors {
            ActorScope::All => Ok(()),
            ActorScope::Prefixes(_) => self.get(context, id).await.map(drop),
        }
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

    pub(super) fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn random_uuid(&self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.rng().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Applies a change to the caches of this node and writes the record to the shared cache.
    pub(super) async fn changed(&self, key: &ApiKey) {
        self.caches.apply(&Invalidation::writing_through(key), self.now()).await;
    }

    pub(super) async fn deleted(&self, key: CacheKey, last_version: u64, now: Timestamp) {
        self.caches.apply(&Invalidation::deleted(key, last_version, now), now).await;
    }
}
