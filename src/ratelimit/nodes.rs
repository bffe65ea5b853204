//! How many nodes share the limits.

use std::sync::atomic::{AtomicU32, Ordering};

/// The nodes that were alive when that was last known.
#[derive(Debug)]
pub struct Nodes(AtomicU32);

impl Nodes {
    /// This node, as far as it knows alone.
    pub fn alone() -> Self {
        Self(AtomicU32::new(1))
    }

    /// So many, one at least.
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
mod announce {
    use std::collections::VecDeque;
    use std::sync::LazyLock;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use redis::Script;

    use super::Nodes;
    use crate::redis::{Redis, RedisError};

    /// How often a node tells that it is alive, and how many times it may fail to before it is taken for dead.
    const BEAT: Duration = Duration::from_secs(2);
    const BEATS: usize = 3;
    const KEY: &str = "keygate:nodes";

    static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/announce.lua")));

    impl Nodes {
        /// Tells the others that the node of that name is alive, and counts them, for as long as it is polled. While Redis is
        /// away the count stays.
        pub async fn keep_announced(&self, redis: &Redis, name: &str) {
            let mut counts = VecDeque::new();
            loop {
                if let Ok(count) = self.announce(redis, name).await {
                    self.heard(count, &mut counts);
                }
                tokio::time::sleep(BEAT).await;
            }
        }

        /// Takes over a count: the highest of the last few. A Redis that starts empty has to hear from all nodes before its
        /// count is believed.
        pub(super) fn heard(&self, count: u32, counts: &mut VecDeque<u32>) {
            counts.push_back(count);
            counts.drain(..counts.len().saturating_sub(BEATS));
            self.0.store(counts.iter().copied().max().unwrap_or(1), Ordering::Relaxed);
        }

        pub(super) async fn announce(&self, redis: &Redis, name: &str) -> Result<u32, RedisError> {
            let mut call = ANNOUNCE.key(KEY);
            call.arg(name).arg(u64::try_from(BEAT.as_millis()).unwrap_or(u64::MAX) * BEATS as u64);
            redis.run_script(&call).await
        }

        /// Tells the others that the node of that name stops.
        ///
        /// # Errors
        /// What Redis fails with; then they notice by themselves.
        pub async fn leave(&self, redis: &Redis, name: &str) -> Result<(), RedisError> {
            redis.run::<u64>(redis::cmd("ZREM").arg(KEY).arg(name)).await.map(drop)
        }
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests;
