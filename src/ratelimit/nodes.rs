//! The number of nodes that share the limits.

use std::sync::atomic::{AtomicU32, Ordering};

/// The number of live nodes, as of the last heartbeat.
#[derive(Debug)]
pub struct Nodes(AtomicU32);

impl Nodes {
    /// One node, until a heartbeat reports more.
    pub fn alone() -> Self {
        Self(AtomicU32::new(1))
    }

    /// The number of nodes, at least 1.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed).max(1)
    }
}

#[cfg(test)]
impl Nodes {
    pub(super) fn of(count: u32) -> Self {
        Self(AtomicU32::new(count))
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Self::alone()
    }
}

#[cfg(feature = "redis")]
mod heartbeat {
    use std::collections::VecDeque;
    use std::sync::LazyLock;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use redis::Script;

    use super::Nodes;
    use crate::redis::{Redis, RedisError};

    /// The time between heartbeats of a node. A node expires when it misses this many.
    const HEARTBEAT: Duration = Duration::from_secs(2);
    const MISSED_MAX: usize = 3;
    const KEY: &str = "keygate:nodes";

    static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/heartbeat.lua")));

    impl Nodes {
        /// Sends heartbeats of the node `name` and updates the count from the replies, for as long as it is polled. The count does
        /// not change while Redis is unavailable.
        pub async fn run_heartbeat(&self, redis: &Redis, name: &str) {
            let mut counts = VecDeque::new();
            loop {
                if let Ok(count) = self.heartbeat(redis, name).await {
                    self.update(count, &mut counts);
                }
                tokio::time::sleep(HEARTBEAT).await;
            }
        }

        /// Sets the count to the highest of the last few. So after Redis restarts empty, the count does not drop before every
        /// node has sent a heartbeat.
        pub(super) fn update(&self, count: u32, counts: &mut VecDeque<u32>) {
            counts.push_back(count);
            counts.drain(..counts.len().saturating_sub(MISSED_MAX));
            self.0.store(counts.iter().copied().max().unwrap_or(1), Ordering::Relaxed);
        }

        pub(super) async fn heartbeat(&self, redis: &Redis, name: &str) -> Result<u32, RedisError> {
            let mut call = SCRIPT.key(KEY);
            call.arg(name).arg(u64::try_from(HEARTBEAT.as_millis()).unwrap_or(u64::MAX) * MISSED_MAX as u64);
            redis.run_script(&call).await
        }

        /// Removes the node `name` from the live nodes.
        ///
        /// # Errors
        /// Any [`RedisError`]. The node then expires.
        pub async fn leave(&self, redis: &Redis, name: &str) -> Result<(), RedisError> {
            redis.run::<u64>(redis::cmd("ZREM").arg(KEY).arg(name)).await.map(drop)
        }
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests;
