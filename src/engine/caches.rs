//! Builds the caches of a node and their synchronisation with other nodes.

use std::sync::Arc;
use std::time::Instant;

use prometheus::Registry;

use super::error::EngineError;
use super::nodes::{Redis, shared_cache};
use super::parts::{MAX_REVOKED_PARENTS, longest_token_life};
use super::tasks::Tasks;
use crate::cache::{self, CacheTimes, Caches, Freshness, KeyCache, RevokedParents};
use crate::cache_sync::{self, CacheSync, load_revoked_parents};
use crate::clock::{Clock, SystemClock};
use crate::config::{CacheConfig, Config, OnDatabaseDown};
use crate::store::{KeyStore, StoreError};

/// Builds the caches, loads their initial state and keeps them up to date in the background.
pub(super) async fn start(
    config: &Config,
    store: &Arc<dyn KeyStore>,
    redis: Option<&Arc<Redis>>,
    registry: &Registry,
    tasks: &mut Tasks,
) -> Result<Caches<StoreError>, EngineError> {
    let (settings, times) = (&config.cache, times(&config.cache));
    let local = settings.is_on().then(|| Arc::new(local(settings, &times)));
    if let Some(local) = &local {
        tasks.spawn(Arc::clone(local).keep_removing_expired());
    }
    let revoked_parents = Arc::new(RevokedParents::new(longest_token_life(config), MAX_REVOKED_PARENTS));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Some(feed) = Arc::clone(store).feed() else {
        if settings.is_shared() {
            return Err(EngineError::Setting(
                "cache.type: redis needs a database that nodes share; set db.dsn to a PostgreSQL database or cache.type to memory"
                    .into(),
            ));
        }
        load_revoked_parents(&**store, &revoked_parents, &*clock).await?;
        return Ok(Caches::alone(local, revoked_parents));
    };
    let freshness = Arc::new(Freshness::new(times.max_staleness, times.on_database_down, Instant::now()));
    let shared = shared_cache(config, redis);
    for refusals in [local.as_ref().map(|cache| cache.refusals()), shared.as_ref().map(|cache| cache.refusals())] {
        refusals.map_or(Ok(()), |refusals| registry.register(Box::new(refusals)))?;
    }
    let changes = Arc::default();
    let caches = Caches { local, shared, revoked_parents, freshness: Arc::clone(&freshness), changes };
    let metrics = cache_sync::Metrics::register(registry, freshness)?;
    let cache_sync = CacheSync::new(feed, Arc::clone(store), caches.clone(), clock, metrics);
    let position = cache_sync.begin().await?;
    tasks.spawn(async move { cache_sync.follow(position).await });
    Ok(caches)
}

/// The times of a configuration that can change while the caches are used.
pub(super) fn times(settings: &CacheConfig) -> CacheTimes {
    let on_database_down = match settings.on_database_down {
        OnDatabaseDown::ServeStale => cache::OnDatabaseDown::ServeStale(settings.stale_limit.0),
        OnDatabaseDown::Deny => cache::OnDatabaseDown::Deny,
    };
    CacheTimes { ttl: settings.ttl.0, max_staleness: settings.max_staleness.0, on_database_down }
}

fn local(settings: &CacheConfig, times: &CacheTimes) -> KeyCache<StoreError> {
    KeyCache::with_stale(settings.memory.key_bytes(), times.ttl, times.stale())
}
