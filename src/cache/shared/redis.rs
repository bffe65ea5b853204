//! The shared cache in Redis: one hash for each key, with the version, the form of the bytes and the bytes.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use redis::Script;

use super::record::{FORMAT, decode, encode};
use super::storage::{SharedEntry, SharedStorage};
use crate::cache::CacheKey;
use crate::redis::{Redis, RedisError};

/// Writes an entry unless the current one is newer. Versions are strings of one length, because Lua's numbers would round them.
static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local current = redis.call('HGET', KEYS[1], 'version') \
         if current and current > ARGV[1] then return 0 end \
         redis.call('HSET', KEYS[1], 'version', ARGV[1], 'format', ARGV[2], 'record', ARGV[3]) \
         redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
         return 1",
    )
});

/// The storage of the shared cache in Redis.
pub struct RedisStorage {
    redis: Arc<Redis>,
}

impl RedisStorage {
    /// Stores entries through this connection.
    pub fn new(redis: Arc<Redis>) -> Self {
        Self { redis }
    }
}

#[async_trait]
impl SharedStorage for RedisStorage {
    async fn get(&self, key: CacheKey) -> Option<SharedEntry> {
        let mut command = redis::cmd("HMGET");
        command.arg(name(key)).arg(&["version", "format", "record"]);
        let fields: (Option<String>, Option<String>, Option<Vec<u8>>) = log_refusal(self.redis.run(&command).await)?;
        let (Some(version), Some(FORMAT), Some(bytes)) = (fields.0, fields.1.as_deref(), fields.2) else {
            return None;
        };
        if bytes.is_empty() {
            return version.parse().ok().map(SharedEntry::Deleted);
        }
        decode(key, &bytes).map(|record| SharedEntry::Key(Arc::new(record)))
    }

    async fn put(&self, key: CacheKey, entry: &SharedEntry, life: Duration) {
        let bytes = match entry {
            SharedEntry::Key(record) => encode(record),
            SharedEntry::Deleted(_) => Some(Vec::new()),
        };
        let Some(bytes) = bytes else { return };
        let mut script = PUT.prepare_invoke();
        script.key(name(key)).arg(format!("{:020}", entry.version())).arg(FORMAT).arg(bytes);
        script.arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1));
        log_refusal(self.redis.run_script::<u8>(&script).await);
    }
}

/// The name of the hash of a key. It does not reveal the credential: the id of an imported key is a digest.
fn name((tenant, id): CacheKey) -> String {
    format!("keygate:key:{tenant}:{id}")
}

fn log_refusal<T>(answer: Result<T, RedisError>) -> Option<T> {
    answer
        .inspect_err(|error| {
            if let RedisError::Refused(_) = error {
                tracing::warn!(%error, "the shared cache is unavailable");
            }
        })
        .ok()
}
