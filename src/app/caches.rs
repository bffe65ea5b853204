//! Builds the caches of a node, their synchronisation with other nodes and the connection to Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use tokio::runtime::Runtime;

use super::error::AppError;
use crate::cache::{self, Caches, Freshness, KeyCache, RedisStorage, RevokedParents, SharedCache};
use crate::cache_sync::{self, CacheSync, load_revoked_parents};
use crate::clock::{Clock, SystemClock};
use crate::config::{CacheConfig, Config, OnDatabaseDown, RateLimitBackend};
use crate::engine::{MAX_REVOKED_PARENTS, longest_token_life};
use crate::redis::Redis;
use crate::store::{KeyStore, StoreError};

/// How long the start waits for Redis. The node also starts without it.
const REDIS_START: Duration = Duration::from_secs(1);

/// Builds the caches, loads their initial state and keeps them up to date in the background.
pub(super) fn start(
    config: &Config,
    store: &Arc<dyn KeyStore>,
    redis: Option<&Arc<Redis>>,
    registry: &Registry,
    background: &Runtime,
) -> Result<Caches<StoreError>, AppError> {
    let settings = &config.cache;
    let local = settings.is_on().then(|| Arc::new(local(settings)));
    let revoked_parents = Arc::new(RevokedParents::new(longest_token_life(config), MAX_REVOKED_PARENTS));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Some(feed) = Arc::clone(store).feed() else {
        if settings.is_shared() {
            return Err(AppError::Setting(
                "cache.type: redis needs a database that nodes share; set db.dsn to a PostgreSQL database or cache.type to memory"
                    .into(),
            ));
        }
        background.block_on(load_revoked_parents(&**store, &revoked_parents, &*clock))?;
        return Ok(Caches::alone(local, revoked_parents));
    };
    let down = match settings.on_database_down {
        OnDatabaseDown::ServeStale => cache::OnDatabaseDown::ServeStale(settings.stale_limit.0),
        OnDatabaseDown::Deny => cache::OnDatabaseDown::Deny,
    };
    let freshness = Arc::new(Freshness::new(settings.max_staleness.0, down, Instant::now()));
    let shared = shared(config, redis);
    for refusals in [local.as_ref().map(|cache| cache.refusals()), shared.as_ref().map(|cache| cache.refusals())] {
        refusals.map_or(Ok(()), |refusals| registry.register(Box::new(refusals)))?;
    }
    let caches = Caches { local, shared, revoked_parents, freshness: Arc::clone(&freshness) };
    let metrics = cache_sync::Metrics::register(registry, freshness)?;
    let cache_sync = CacheSync::new(feed, Arc::clone(store), caches.clone(), clock, metrics);
    let position = background.block_on(cache_sync.begin())?;
    background.spawn(async move { cache_sync.follow(position).await });
    Ok(caches)
}

fn local(settings: &CacheConfig) -> KeyCache<StoreError> {
    let stale = match settings.on_database_down {
        OnDatabaseDown::ServeStale => settings.stale_limit.0,
        OnDatabaseDown::Deny => Duration::ZERO,
    };
    KeyCache::with_stale(settings.memory.key_bytes(), settings.ttl.0, stale)
}

/// The connection to Redis for the shared cache and rate limits, if either is configured.
pub(super) fn connect_redis(config: &Config, background: &Runtime) -> Result<Option<Arc<Redis>>, AppError> {
    let limits = config.rate_limit.enabled && config.rate_limit.backend == RateLimitBackend::Redis;
    if !config.cache.is_shared() && !limits {
        return Ok(None);
    }
    let redis = Redis::new(&config.cache.redis).map_err(|error| AppError::Setting(error.to_string()))?;
    let redis = Arc::new(redis);
    let connection = Arc::clone(&redis);
    background.spawn(async move { connection.keep_connected().await });
    background.block_on(redis.connected(REDIS_START));
    Ok(Some(redis))
}

fn shared(config: &Config, redis: Option<&Arc<Redis>>) -> Option<Arc<SharedCache>> {
    let redis = redis.filter(|_| config.cache.is_shared())?;
    let storage = Arc::new(RedisStorage::new(Arc::clone(redis)));
    Some(Arc::new(SharedCache::new(storage, config.cache.ttl.0, Instant::now())))
}
