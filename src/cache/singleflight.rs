//! Reads in progress: at most one for each key, and a minimum version on each, so that a read that started before a change cannot
//! bring back the record that the change replaced.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use tokio::sync::OnceCell;

use super::cache_key::CacheKey;
use crate::sharded::Sharded;

/// The reads in progress, bounded by the number of requests that wait for one.
pub(super) struct Singleflight<T> {
    shards: Sharded<Shard<T>>,
}

type Shard<T> = HashMap<CacheKey, Arc<Call<T>>>;

struct Call<T> {
    result: OnceCell<T>,
    min_version: AtomicU64,
}

/// The lowest version that a read in progress may return after a change.
///
/// One number, so that the later of two changes is the larger: the version, and in the lowest bit whether the key was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MinVersion(u64);

/// A request that waits for a read. The last one to be dropped removes the read, also when its request was cancelled.
pub(super) struct Waiter<'a, T> {
    singleflight: &'a Singleflight<T>,
    key: CacheKey,
    call: Arc<Call<T>>,
}

impl MinVersion {
    /// After a change that made this version.
    pub(super) fn changed(version: u64) -> Self {
        Self(version << 1)
    }

    /// After the deletion of a key with this last version. A key that is imported again has a higher one.
    pub(super) fn deleted(last_version: u64) -> Self {
        Self(last_version << 1 | 1)
    }

    /// Whether the result of a read, a version or no record, is at least as new as the change.
    pub(super) fn admits(self, version: Option<u64>) -> bool {
        match version {
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
    /// Joins the read of `key`, or starts one.
    pub(super) fn join(&self, key: CacheKey) -> Waiter<'_, T> {
        let call = Arc::clone(
            self.shard(&key)
                .entry(key)
                .or_insert_with(|| Arc::new(Call { result: OnceCell::new(), min_version: AtomicU64::new(0) })),
        );
        Waiter { singleflight: self, key, call }
    }

    /// Raises the minimum version of the read of `key`, if one is in progress.
    pub(super) fn invalidate(&self, key: &CacheKey, min_version: MinVersion) {
        if let Some(call) = self.shard(key).get(key) {
            call.min_version.fetch_max(min_version.0, Ordering::SeqCst);
        }
    }

    /// Waits for every [`Waiter::with_lock`] that runs now.
    pub(super) fn settle(&self) {
        self.shards.lock_each().for_each(drop);
    }

    #[cfg(test)]
    pub(super) fn in_progress(&self) -> usize {
        self.shards.lock_each().map(|shard| shard.len()).sum()
    }

    fn shard(&self, key: &CacheKey) -> MutexGuard<'_, Shard<T>> {
        self.shards.lock(key)
    }

    fn remove(&self, key: &CacheKey, call: &Arc<Call<T>>) {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|current| Arc::ptr_eq(current, call)) {
            shard.remove(key);
        }
    }
}

impl<T: Clone> Waiter<'_, T> {
    /// The result of the read. The first waiter runs `read`, the others share its result. If the one that reads is cancelled, the next
    /// one reads.
    pub(super) async fn result(&self, read: impl Future<Output = T>) -> T {
        let reading = async {
            let result = read.await;
            // A request that comes later must find the result in the cache or read anew.
            self.singleflight.remove(&self.key, &self.call);
            result
        };
        self.call.result.get_or_init(|| reading).await.clone()
    }

    /// Runs `work` with the minimum version, which cannot be raised meanwhile.
    pub(super) fn with_lock<R>(&self, work: impl FnOnce(MinVersion) -> R) -> R {
        let _shard = self.singleflight.shard(&self.key);
        work(self.min_version())
    }

    /// The lowest version that this read may return.
    pub(super) fn min_version(&self) -> MinVersion {
        MinVersion(self.call.min_version.load(Ordering::SeqCst))
    }
}

impl<T> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        let mut shard = self.singleflight.shard(&self.key);
        // Two references, that of the table and this one: no other request waits.
        let is_last = Arc::strong_count(&self.call) == 2;
        if is_last && shard.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &self.call)) {
            shard.remove(&self.key);
        }
    }
}
