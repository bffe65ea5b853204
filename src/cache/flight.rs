//! Reads under way: at most one for each key, and a fence on each, so that a read that began before a change cannot
//! bring back what the change replaced.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::CacheKey;

/// Enough that two requests for different keys rarely meet at one lock.
const SHARDS: usize = 64;

/// The reads under way, bounded by the number of requests that wait for one.
pub(super) struct Flights<T> {
    shards: Box<[Shard<T>]>,
    hasher: RandomState,
}

type Shard<T> = Mutex<HashMap<CacheKey, Arc<Flight<T>>>>;

struct Flight<T> {
    result: OnceCell<T>,
    fence: AtomicU64,
}

/// What a change leaves on reads that began before it: what they must not bring back.
///
/// One number, so that of two changes the later one counts: the version, and in the lowest bit whether the key is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fence(u64);

/// A place in a read; the last one to leave clears the read away, also when its request was abandoned.
pub(super) struct Seat<'a, T> {
    flights: &'a Flights<T>,
    key: CacheKey,
    flight: Arc<Flight<T>>,
}

impl Fence {
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

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl<T> Flights<T> {
    /// Joins the read of `key`, or begins one.
    pub(super) fn join(&self, key: CacheKey) -> Seat<'_, T> {
        let flight = Arc::clone(
            self.shard(&key)
                .entry(key)
                .or_insert_with(|| Arc::new(Flight { result: OnceCell::new(), fence: AtomicU64::new(0) })),
        );
        Seat { flights: self, key, flight }
    }

    /// Makes a read of `key` that is under way refuse what is older than the change.
    pub(super) fn raise_fence(&self, key: &CacheKey, fence: Fence) {
        if let Some(flight) = self.shard(key).get(key) {
            flight.fence.fetch_max(fence.0, Ordering::SeqCst);
        }
    }

    /// Returns when everything that runs undisturbed now is over.
    pub(super) fn settle(&self) {
        for shard in &self.shards {
            drop(shard.lock());
        }
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().map_or(0, |reads| reads.len())).sum()
    }

    fn shard(&self, key: &CacheKey) -> MutexGuard<'_, HashMap<CacheKey, Arc<Flight<T>>>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self, key: &CacheKey, flight: &Arc<Flight<T>>) {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            shard.remove(key);
        }
    }
}

impl<T: Clone> Seat<'_, T> {
    /// The read's result: from `read` if this seat is the first, else shared. When the one that reads is abandoned, the
    /// next one reads.
    pub(super) async fn result(&self, read: impl Future<Output = T>) -> T {
        let reading = async {
            let result = read.await;
            // Whoever comes from now on must find the answer in the cache, or read anew.
            self.flights.clear(&self.key, &self.flight);
            result
        };
        self.flight.result.get_or_init(|| reading).await.clone()
    }

    /// Runs `work` with what this read must not bring back, while no fence can be raised on it.
    pub(super) fn undisturbed<R>(&self, work: impl FnOnce(Fence) -> R) -> R {
        let _shard = self.flights.shard(&self.key);
        work(self.fence())
    }

    /// What this read must not bring back.
    pub(super) fn fence(&self) -> Fence {
        Fence(self.flight.fence.load(Ordering::SeqCst))
    }
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        let mut shard = self.flights.shard(&self.key);
        // The table's own reference and this one: nobody else waits.
        let last = Arc::strong_count(&self.flight) == 2;
        if last && shard.get(&self.key).is_some_and(|current| Arc::ptr_eq(current, &self.flight)) {
            shard.remove(&self.key);
        }
    }
}
