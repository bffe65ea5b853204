//! What the nodes of an installation share in Redis: the shared cache and rate limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{PullingGauge, Registry};

use super::error::EngineError;
use super::parts::MAX_OWNERS;
use super::tasks::Tasks;
use crate::cache::{RedisStorage, SharedCache};
use crate::clock::Clock;
use crate::config::{Config, RateLimitBackend, RateLimitMode};
use crate::ratelimit::{Backend, Exact, Leased, Limiter, Local, Metrics, Nodes, RedisBucketStore};
pub(super) use crate::redis::Redis;

/// How long the start waits for Redis. The node also starts without it.
const REDIS_START: Duration = Duration::from_secs(1);

/// This node's part in rate limits that are counted in Redis.
pub(super) struct SharedLimits {
    nodes: Arc<Nodes>,
    redis: Arc<Redis>,
    /// The name of this node.
    name: String,
    leased: Option<Arc<Leased>>,
}

/// The connection to Redis for the shared cache and rate limits, if either is configured.
pub(super) async fn connect_redis(config: &Config, tasks: &mut Tasks) -> Result<Option<Arc<Redis>>, EngineError> {
    let limits = config.rate_limit.enabled && config.rate_limit.backend == RateLimitBackend::Redis;
    if !config.cache.is_shared() && !limits {
        return Ok(None);
    }
    let redis = Redis::new(&config.cache.redis).map_err(|error| EngineError::Setting(error.to_string()))?;
    let redis = Arc::new(redis);
    let connection = Arc::clone(&redis);
    tasks.spawn(async move { connection.keep_connected().await });
    redis.connected(REDIS_START).await;
    Ok(Some(redis))
}

/// Registers the metric of the connection to Redis, if there is one.
pub(super) fn register_redis(redis: Option<&Arc<Redis>>, registry: &Registry) -> Result<(), prometheus::Error> {
    let Some(redis) = redis.cloned() else { return Ok(()) };
    let is_connected = Box::new(move || f64::from(u8::from(redis.is_connected())));
    let help = "Whether this node is connected to Redis";
    registry.register(Box::new(PullingGauge::new("keygate_redis_connected", help, is_connected)?))
}

/// The shared cache, if it is configured.
pub(super) fn shared_cache(config: &Config, redis: Option<&Arc<Redis>>) -> Option<Arc<SharedCache>> {
    let redis = redis.filter(|_| config.cache.is_shared())?;
    let storage = Arc::new(RedisStorage::new(Arc::clone(redis)));
    Some(Arc::new(SharedCache::new(storage, config.cache.ttl.0, Instant::now())))
}

impl SharedLimits {
    /// Starts to count in Redis. `local` counts while Redis is unavailable.
    pub(super) fn start(
        config: &Config,
        redis: &Arc<Redis>,
        local: Local,
        nodes: Arc<Nodes>,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        tasks: &mut Tasks,
    ) -> (Limiter, Self) {
        let name = uuid::Uuid::from_u128(rand::random()).to_string();
        let (alive, connection, heartbeat) = (Arc::clone(&nodes), Arc::clone(redis), name.clone());
        tasks.spawn(async move { alive.run_heartbeat(&connection, &heartbeat).await });
        let store = Arc::new(RedisBucketStore::new(Arc::clone(redis)));
        let (backend, leased): (Arc<dyn Backend>, _) = match config.rate_limit.mode {
            RateLimitMode::Exact => (Arc::new(Exact::new(store)), None),
            RateLimitMode::Leased => {
                let (leased, worker) = Leased::new(store, clock, Arc::clone(&nodes), MAX_OWNERS);
                tasks.spawn(worker.run());
                (Arc::<Leased>::clone(&leased), Some(leased))
            }
        };
        let on_down = config.rate_limit.on_backend_down;
        let limiter = Limiter::shared(backend, on_down, local, Arc::clone(&nodes), metrics);
        (limiter, Self { nodes, redis: Arc::clone(redis), name, leased })
    }

    /// Releases unused leases, and removes this node from the nodes that share the limits.
    pub(super) async fn stop(&self) {
        if let Some(leased) = &self.leased {
            leased.release_all().await;
        }
        if let Err(error) = self.nodes.leave(&self.redis, &self.name).await {
            tracing::debug!(%error, "this node could not leave; the other nodes remove it when its heartbeat expires");
        }
    }
}
