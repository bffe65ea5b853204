//! The shared cache in Redis: one hash for each key, with the version, the form of the bytes, the bytes, and the age in milliseconds at which
//! the entry expires. The age of an entry is that age without the time that it has left, so that no clock of a node takes part.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use redis::Script;

use super::record::{FORMAT, decode, encode};
use super::storage::{EntryTimes, FoundEntry, SharedEntry, SharedStorage};
use crate::cache::CacheKey;
use crate::redis::{Redis, RedisError};

/// Writes an entry unless the current one is newer. Versions are strings of one length, because Lua's numbers would round them.
static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local current = redis.call('HGET', KEYS[1], 'version') \
         if current and current > ARGV[1] then return 0 end \
         redis.call('HSET', KEYS[1], 'version', ARGV[1], 'format', ARGV[2], 'record', ARGV[3], 'end', ARGV[5]) \
         redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
         return 1",
    )
});

/// Reads an entry and the time that it has left, in one step: of two entries that follow each other, no mixture is read.
static GET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local entry = redis.call('HMGET', KEYS[1], 'version', 'format', 'record', 'end') \
         entry[5] = redis.call('PTTL', KEYS[1]) \
         return entry",
    )
});

/// The fields of a hash, and the time that it has left in milliseconds; negative if it does not exist or has no end.
type Fields = (Option<String>, Option<String>, Option<Vec<u8>>, Option<u64>, i64);

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
    async fn get(&self, key: CacheKey) -> Option<FoundEntry> {
        let mut script = GET.prepare_invoke();
        script.key(name(key));
        let fields: Fields = log_refusal(self.redis.run_script(&script).await)?;
        let (Some(version), Some(FORMAT), Some(bytes), Some(end), left) =
            (fields.0, fields.1.as_deref(), fields.2, fields.3, fields.4)
        else {
            return None;
        };
        let age = Duration::from_millis(end.saturating_sub(u64::try_from(left).ok()?));
        let entry = if bytes.is_empty() {
            SharedEntry::Deleted(version.parse().ok()?)
        } else {
            SharedEntry::Key(Arc::new(decode(key, &bytes)?))
        };
        Some(FoundEntry { entry, age })
    }

    async fn put(&self, key: CacheKey, entry: &SharedEntry, EntryTimes { age, life }: EntryTimes) {
        let bytes = match entry {
            SharedEntry::Key(record) => encode(record),
            SharedEntry::Deleted(_) => Some(Vec::new()),
        };
        let Some(bytes) = bytes else { return };
        let life = millis(life).max(1);
        // Rounded up, as every age.
        let end = millis(age).saturating_add(1).saturating_add(life);
        let mut script = PUT.prepare_invoke();
        script.key(name(key)).arg(format!("{:020}", entry.version())).arg(FORMAT).arg(bytes).arg(life).arg(end);
        log_refusal(self.redis.run_script::<u8>(&script).await);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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
