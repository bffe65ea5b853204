//! In place of `nodes.rs` in a build without Redis: nothing is shared.

use std::sync::Arc;
#[cfg(feature = "server")]
use std::time::Duration;

use prometheus::Registry;

use super::error::EngineError;
use super::tasks::Tasks;
use crate::cache::SharedCache;
use crate::clock::Clock;
use crate::config::{Config, RateLimitBackend};
use crate::ratelimit::{Limiter, Local, Metrics, Nodes};

/// A connection; there is none.
pub(super) struct Redis;

#[cfg(feature = "server")]
impl Redis {
    pub(super) fn set_timeout(&self, _: Duration) {}
}

/// Limits that nodes share; there are none.
pub(super) struct SharedLimits;

/// Fails if the configuration needs Redis.
#[expect(clippy::unused_async, reason = "as in a build with Redis")]
pub(super) async fn connect_redis(config: &Config, _: &mut Tasks) -> Result<Option<Arc<Redis>>, EngineError> {
    let limits = config.rate_limit.enabled && config.rate_limit.backend == RateLimitBackend::Redis;
    if config.cache.is_shared() || limits {
        return Err(EngineError::Setting(
            "cache.type: redis and rate_limit.backend: redis need the feature redis of keygate".into(),
        ));
    }
    Ok(None)
}

#[expect(clippy::unnecessary_wraps, reason = "as in a build with Redis")]
pub(super) fn register_redis(_: Option<&Arc<Redis>>, _: &Registry) -> Result<(), prometheus::Error> {
    Ok(())
}

pub(super) fn shared_cache(_: &Config, _: Option<&Arc<Redis>>) -> Option<Arc<SharedCache>> {
    None
}

impl SharedLimits {
    pub(super) fn start(
        _: &Config,
        _: &Arc<Redis>,
        local: Local,
        _: Arc<Nodes>,
        metrics: Metrics,
        _: Arc<dyn Clock>,
        _: &mut Tasks,
    ) -> (Limiter, Self) {
        (Limiter::local(local, metrics), Self)
    }

    #[expect(clippy::unused_async, reason = "as in a build with Redis")]
    pub(super) async fn stop(&self) {}
}
