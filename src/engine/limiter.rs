//! Starts and stops the limiter that counts requests: in this process, or in Redis for all nodes.

use std::sync::Arc;

use prometheus::Registry;

use super::nodes::{Redis, SharedLimits};
use super::parts::MAX_OWNERS;
use super::tasks::Tasks;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, RateLimitBackend};
use crate::ratelimit::{Limiter, Local, Metrics, Nodes};

/// The limiter, and what it needs at the stop of the process.
pub(super) struct RunningLimiter {
    /// `None` if limits are not enforced.
    pub(super) limiter: Option<Arc<Limiter>>,
    shared: Option<SharedLimits>,
}

impl RunningLimiter {
    pub(super) fn start(
        config: &Config,
        redis: Option<&Arc<Redis>>,
        registry: &Registry,
        tasks: &mut Tasks,
    ) -> Result<Self, prometheus::Error> {
        if !config.rate_limit.enabled {
            return Ok(Self { limiter: None, shared: None });
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let nodes = Arc::new(Nodes::alone());
        let metrics = Metrics::register(registry, Arc::clone(&nodes))?;
        let local = Local::new(MAX_OWNERS, Arc::clone(&clock));
        let (limiter, shared) = match (config.rate_limit.backend, redis) {
            (RateLimitBackend::Redis, Some(redis)) => {
                let (limiter, shared) = SharedLimits::start(config, redis, local, nodes, metrics, clock, tasks);
                (limiter, Some(shared))
            }
            _ => (Limiter::local(local, metrics), None),
        };
        Ok(Self { limiter: Some(Arc::new(limiter)), shared })
    }

    /// Leaves the nodes that share the limits.
    pub(super) async fn stop(&self) {
        if let Some(shared) = &self.shared {
            shared.stop().await;
        }
    }
}
