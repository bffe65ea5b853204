//! Reads under way: at most one for each key, and a min_version on each, so that a read that began before a change cannot
//! bring back what the change replaced.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use tokio::sync::OnceCell;

use super::CacheKey;
use crate::sharded::Sharded;

/// The reads under way, bounded by the number of requests that wait for one.
pub(super) struct Singleflight<T> {
    shards: Sharded<Shard<T>>,
}

type Shard<T> = HashMap<CacheKey, Arc<Call<T>>>;

struct Call<T> {
    result: OnceCell<T>,
    min_version: AtomicU64,
}

/// What a change leaves on reads that began before it: what they must not bring back.
///
/// One number, so that of two changes the later one counts: the version, and in the lowest bit whether the key is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MinVersion(u64);

/// A place in a read; the last one to leave clears the read away, also when its request was abandoned.
pub(super) struct Waiter<'a, T> {
    singleflight: &'a Singleflight<T>,
    key: CacheKey,
    call: Arc<Call<T>>,
}

impl MinVersion {
    /// Left by a change that made this version.
    pub(super) fn changed(version: u64) -> Self {
        Self(version << 1)
    }

    /// Left by a deletion; any version that comes later is above `version`.
    pub(super) fn deleted(version: u64) -> Self {
        Self(version << 1 | 1)
    }

    /// Whether a read that found this version, or no record, is as young as the change.
    pub(super) fn admits(self, found: Option<u64>) -> bool {
        match found {
            Some(version) => version << 1 >= self.0,
            None => self.0 == 0 || self.0 & 1 == 1,
        }
    }
}

impl<T> Default for Singleflight<T> {
    fn default() -> Self {
        Self { shards: Sharded::default() }
    }
}

impl<T> Singleflight<T> {
    /// Joins the read of `key`, or begins one.
    pub(super) fn join(&self, key: CacheKey) -> Waiter<'_, T> {
        let call = Arc::clone(
            self.shard(&key)
                .entry(key)
                .or_insert_with(|| Arc::new(Call { result: OnceCell::new(), min_version: AtomicU64::new(0) })),
        );
        Waiter { singleflight: self, key, call }
    }

    /// Makes a read of `key` that is under way refuse what is older than the change.
    pub(super) fn invalidate(&self, key: &CacheKey, min_version: MinVersion) {
        if let Some(call) = self.shard(key).get(key) {
            call.min_version.fetch_max(min_version.0, Ordering::SeqCst);
        }
    }

    /// Returns when everything that runs with_lock now is over.
    pub(super) fn settle(&self) {
        self.shards.lock_each().for_each(drop);
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.shards.lock_each().map(|shard| shard.len()).sum()
    }

    fn shard(&self, key: &CacheKey) -> MutexGuard<'_, Shard<T>> {
        self.shards.lock(key)
    }

    fn clear(&self, key: &CacheKey, call: &Arc<Call<T>>) {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|current| Arc::ptr_eq(current, call)) {
            shard.remove(key);
        }
    }
}

impl<T: Clone> Waiter<'_, T> {
    /// The read's result: from `read` if this seat is the first, else shared. When the one that reads is abandoned, the
    /// next one reads.
    pub(super) async fn result(&self, read: impl Future<Output = T>) -> T {
        let reading = async {
            let result = read.await;
            // Whoever comes from now on must find the answer in the cache, or read anew.
            self.singleflight.clear(&self.key, &self.call);
            result
        };
        self.call.result.get_or_init(|| reading).await.clone()
    }

    /// Runs `work` with what this read must not bring back, while no min_version can be raised on it.
    pub(super) fn with_lock<R>(&self, work: impl FnOnce(MinVersion) -> R) -> R {
        let _shard = self.singleflight.shard(&self.key);
        work(self.min_version())
    }

    /// What this read must not bring back.
    pub(super) fn min_version(&self) -> MinVersion {
        MinVersion(self.call.min_version.load(Ordering::SeqCst))
    }
}

impl<T> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        let mut shard = self.singleflight.shard(&self.key);
        // The table's own reference and this one: nobody else waits.
        let last = Arc::strong_count(&self.call) == 2;
        if last && shard.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &self.call)) {
            shard.remove(&self.key);
        }
    }
}
