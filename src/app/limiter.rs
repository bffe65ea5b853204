//! Starts and stops the limiter that counts requests: in this process, or in Redis for all nodes.

use std::sync::Arc;

use prometheus::Registry;
use tokio::runtime::Runtime;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, RateLimitBackend, RateLimitMode};
use crate::ratelimit::{Backend, Exact, Leased, Limiter, Local, Metrics, Nodes, RedisBucketStore};
use crate::redis::Redis;

/// Maximum number of bucket owners in memory, about 200 bytes each.
const MAX_OWNERS: usize = 1_000_000;

/// The limiter, and what it needs at the stop of the process.
pub(super) struct RunningLimiter {
    /// `None` if limits are not enforced.
    pub(super) limiter: Option<Arc<Limiter>>,
    leased: Option<Arc<Leased>>,
    /// The heartbeat of this node in Redis, with its name.
    heartbeat: Option<(Arc<Nodes>, Arc<Redis>, String)>,
}

impl RunningLimiter {
    pub(super) fn start(
        config: &Config,
        redis: Option<&Arc<Redis>>,
        registry: &Registry,
        background: &Runtime,
    ) -> Result<Self, prometheus::Error> {
        if !config.rate_limit.enabled {
            return Ok(Self::with_limiter(None));
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let nodes = Arc::new(Nodes::alone());
        let metrics = Metrics::register(registry, Arc::clone(&nodes))?;
        let local = Local::new(MAX_OWNERS, Arc::clone(&clock));
        let (RateLimitBackend::Redis, Some(redis)) = (config.rate_limit.backend, redis) else {
            return Ok(Self::with_limiter(Some(Limiter::local(local, metrics))));
        };
        let name = uuid::Uuid::from_u128(rand::random()).to_string();
        let heartbeat = Some((Arc::clone(&nodes), Arc::clone(redis), name.clone()));
        let (alive, connection) = (Arc::clone(&nodes), Arc::clone(redis));
        background.spawn(async move { alive.run_heartbeat(&connection, &name).await });
        let store = Arc::new(RedisBucketStore::new(Arc::clone(redis)));
        let (backend, leased): (Arc<dyn Backend>, _) = match config.rate_limit.mode {
            RateLimitMode::Exact => (Arc::new(Exact::new(store)), None),
            RateLimitMode::Leased => {
                let (leased, worker) = Leased::new(store, clock, Arc::clone(&nodes), MAX_OWNERS);
                background.spawn(worker.run());
                (Arc::<Leased>::clone(&leased), Some(leased))
            }
        };
        let limiter = Limiter::shared(backend, config.rate_limit.on_backend_down, local, nodes, metrics);
        Ok(Self { leased, heartbeat, ..Self::with_limiter(Some(limiter)) })
    }

    fn with_limiter(limiter: Option<Limiter>) -> Self {
        Self { limiter: limiter.map(Arc::new), leased: None, heartbeat: None }
    }

    /// Releases unused leases, and removes this node from the nodes that share the limits.
    pub(super) async fn stop(&self) {
        if let Some(leased) = &self.leased {
            leased.release_all().await;
        }
        if let Some((nodes, redis, name)) = &self.heartbeat
            && let Err(error) = nodes.leave(redis, name).await
        {
            tracing::debug!(%error, "this node could not leave; the other nodes remove it when its heartbeat expires");
        }
    }
}
