//! Who counts requests: this process, or Redis for all nodes.

use std::sync::Arc;

use prometheus::Registry;
use tokio::runtime::Runtime;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, RateLimitBackend, RateLimitMode};
use crate::ratelimit::{Backend, Exact, Leased, Limiter, Local, Metrics, Nodes, RedisBucketStore};
use crate::redis::Redis;

/// Whose buckets are kept in memory: some 200 bytes each.
const OWNERS_MAX: usize = 1_000_000;

/// The limiter, if limits are enforced, and what is to be done before the process stops.
pub(super) struct RunningLimiter {
    pub(super) limiter: Option<Arc<Limiter>>,
    leased: Option<Arc<Leased>>,
    /// Where this node has told that it is alive, and by what name.
    announced: Option<(Arc<Nodes>, Arc<Redis>, String)>,
}

impl RunningLimiter {
    pub(super) fn start(
        config: &Config,
        redis: Option<&Arc<Redis>>,
        registry: &Registry,
        background: &Runtime,
    ) -> Result<Self, prometheus::Error> {
        if !config.rate_limit.enabled {
            return Ok(Self::counted_by(None));
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let nodes = Arc::new(Nodes::alone());
        let metrics = Metrics::register(registry, Arc::clone(&nodes))?;
        let local = Local::new(OWNERS_MAX, Arc::clone(&clock));
        let (RateLimitBackend::Redis, Some(redis)) = (config.rate_limit.backend, redis) else {
            return Ok(Self::counted_by(Some(Limiter::local(local, metrics))));
        };
        let name = uuid::Uuid::from_u128(rand::random()).to_string();
        let announced = Some((Arc::clone(&nodes), Arc::clone(redis), name.clone()));
        let (alive, telling) = (Arc::clone(&nodes), Arc::clone(redis));
        background.spawn(async move { alive.run_heartbeat(&telling, &name).await });
        let store = Arc::new(RedisBucketStore::new(Arc::clone(redis)));
        let (backend, leased): (Arc<dyn Backend>, _) = match config.rate_limit.mode {
            RateLimitMode::Exact => (Arc::new(Exact::new(store)), None),
            RateLimitMode::Leased => {
                let (leased, worker) = Leased::new(store, clock, Arc::clone(&nodes), OWNERS_MAX);
                background.spawn(worker.run());
                (Arc::<Leased>::clone(&leased), Some(leased))
            }
        };
        let limiter = Limiter::shared(backend, config.rate_limit.on_backend_down, local, nodes, metrics);
        Ok(Self { leased, announced, ..Self::counted_by(Some(limiter)) })
    }

    fn counted_by(limiter: Option<Limiter>) -> Self {
        Self { limiter: limiter.map(Arc::new), leased: None, announced: None }
    }

    /// Gives back what this node has leased and not used, and tells the others that it is gone.
    pub(super) async fn stop(&self) {
        if let Some(leased) = &self.leased {
            leased.release_all().await;
        }
        if let Some((nodes, redis, name)) = &self.announced
            && let Err(error) = nodes.leave(redis, name).await
        {
            tracing::debug!(%error, "the other nodes will notice by themselves that this one is gone");
        }
    }
}
