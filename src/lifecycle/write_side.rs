//! [`Lifecycle`] itself: its state, and what all operations use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::SubsecRound;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::error::LifecycleError;
use super::key_locks::KeyLocks;
use super::metrics::Metrics;
use super::settings::Settings;
use crate::audit::{AuditKeys, AuditRow, Recorder};
use crate::cache::{CacheKey, Caches, Invalidation};
use crate::clock::{Clock, Timestamp};
use crate::id::KeyId;
use crate::key::ApiKey;
use crate::request_context::{ActorScope, RequestContext};
use crate::store::{AuditStore, KeyStore, StoreError};

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
    recorder: Arc<Recorder>,
    audit: Option<Arc<dyn AuditStore>>,
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
        let recorder = Arc::new(Recorder::new(AuditKeys::new(&settings.keyring), Arc::clone(&clock)));
        let audit = Arc::clone(&store).audit();
        if let Some(audit) = &audit {
            audit.record_with(Arc::clone(&recorder));
        }
        let (rng, key_locks) = (Mutex::new(rng), Arc::new(KeyLocks::new()));
        Self { settings, store, caches, clock, rng, key_locks, metrics, recorder, audit }
    }

    /// The audit trail and what makes its rows; `None` if the store keeps none.
    #[doc(hidden)]
    pub fn audit(&self) -> Option<(Arc<dyn AuditStore>, Arc<Recorder>)> {
        Some((self.audit.clone()?, Arc::clone(&self.recorder)))
    }

    /// Writes audit rows of events that are no mutations.
    pub(super) async fn record<T>(&self, make: impl FnOnce(&Recorder) -> T) -> Result<(), StoreError>
    where
        T: IntoIterator<Item = AuditRow>,
    {
        let Some(audit) = &self.audit else { return Ok(()) };
        let rows: Vec<AuditRow> = make(&self.recorder).into_iter().collect();
        if rows.is_empty() { Ok(()) } else { audit.record(&rows).await }
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
            recorder: Arc::clone(&self.recorder),
            audit: self.audit.clone(),
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
