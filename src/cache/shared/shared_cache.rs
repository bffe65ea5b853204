//! The shared cache as one node uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::storage::{EntryTimes, SharedEntry, SharedStorage};
use crate::cache::CacheKey;
use crate::cache::min_versions::MinVersions;
use crate::cache::refusals::refusals;

/// By how much an entry may be older than its age says: the time that its write took, that the commit of a change took, and the difference of
/// clocks over the life of an entry.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest history that is read from the feed of changes, which all nodes keep for longer whatever their settings are.
const HISTORY_MAX: Duration = Duration::from_secs(1800);

/// The shared cache as one node uses it. Its time to live can change, and other nodes can have another one.
pub struct SharedCache {
    storage: Arc<dyn SharedStorage>,
    /// In microseconds.
    ttl: AtomicU64,
    min_versions: MinVersions,
    refusals: IntCounter,
}

impl SharedCache {
    /// The number of minimum versions, of some 100 bytes each.
    pub const CHANGES_MAX: usize = 200_000;

    /// A cache in `storage` whose entries live for `ttl`. No entry of before `now` is used until [`SharedCache::open`].
    pub fn new(storage: Arc<dyn SharedStorage>, ttl: Duration, now: Instant) -> Self {
        let min_versions = MinVersions::new(Self::CHANGES_MAX, now);
        Self { storage, ttl: AtomicU64::new(micros(ttl)), min_versions, refusals: refusals("shared") }
    }

    /// Changes how long entries are used. A shorter time applies to the entries that are stored already, also by nodes with a longer one. A
    /// longer one applies to entries that are stored from now on; after that, entries are used up to that age as soon as minimum versions
    /// have been kept for so long.
    pub fn set_ttl(&self, ttl: Duration) {
        self.ttl.store(micros(ttl), Ordering::Relaxed);
    }

    /// The time before [`SharedCache::open`] of which changes are applied first. Older entries are not used until this node has run for as
    /// long as they live.
    pub fn history(&self) -> Duration {
        self.kept().min(HISTORY_MAX)
    }

    /// Uses the entries that were read from the store after `since`: all changes since then were applied.
    pub fn open(&self, since: Instant) {
        self.min_versions.open(since);
    }

    /// Uses no entries of before `now` until [`SharedCache::open`]: changes may have been missed.
    pub fn close(&self, now: Instant) {
        self.min_versions.close(now);
    }

    /// The entry of a key, if it is not older than the key's last change, nor than entries are used.
    pub async fn get(&self, key: CacheKey) -> Option<SharedEntry> {
        let ttl = self.ttl();
        if ttl.is_zero() {
            return None;
        }
        let asked = Instant::now();
        let found = self.storage.get(key).await?;
        if found.age > ttl {
            return None;
        }
        // Checked after the answer, so that a change in between counts.
        let read_at = asked.checked_sub(found.age + MARGIN)?;
        if self.min_versions.admits(&key, found.entry.version(), read_at) {
            return Some(found.entry);
        }
        self.refusals.inc();
        None
    }

    /// Writes an entry that was true at `read_at`, if it is not older than the one there. It expires `ttl` after `read_at`.
    pub async fn put(&self, key: CacheKey, entry: &SharedEntry, read_at: Instant) {
        let age = read_at.elapsed();
        let life = self.ttl().saturating_sub(age);
        if !life.is_zero() {
            self.storage.put(key, entry, EntryTimes { age, life }).await;
        }
    }

    /// A counter of the entries that were too old to be used, for a registry of metrics.
    pub fn refusals(&self) -> IntCounter {
        self.refusals.clone()
    }

    /// Refuses entries of a key below `min_version` from now on.
    pub fn invalidate(&self, key: CacheKey, min_version: u64) {
        self.min_versions.raise(key, min_version, self.kept(), Instant::now());
    }

    /// For how long minimum versions are kept. An entry within its time to live was read, by its age and the margin, after all changes whose
    /// minimum versions were dropped, so that none is refused for that.
    fn kept(&self) -> Duration {
        self.ttl().saturating_add(MARGIN)
    }

    fn ttl(&self) -> Duration {
        Duration::from_micros(self.ttl.load(Ordering::Relaxed))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::super::storage::FoundEntry;
    use super::*;
    use crate::id::{KeyId, TenantId};

    const KEY: CacheKey = (TenantId::NIL, KeyId::Imported([1; 32]));
    const OTHER: CacheKey = (TenantId::NIL, KeyId::Imported([2; 32]));
    const MINUTE: Duration = Duration::from_secs(60);

    /// An entry of a chosen age, and the times of the last one that was stored.
    struct Storage {
        age: Mutex<Duration>,
        stored: Mutex<Option<EntryTimes>>,
    }

    #[async_trait]
    impl SharedStorage for Storage {
        async fn get(&self, _: CacheKey) -> Option<FoundEntry> {
            Some(FoundEntry { entry: SharedEntry::Deleted(1), age: *self.age.lock().unwrap() })
        }

        async fn put(&self, _: CacheKey, _: &SharedEntry, times: EntryTimes) {
            *self.stored.lock().unwrap() = Some(times);
        }
    }

    /// A cache that knows all changes within a time.
    fn cache(ttl: Duration, known: Duration) -> (SharedCache, Arc<Storage>, Instant) {
        let now = Instant::now();
        let storage = Arc::new(Storage { age: Mutex::default(), stored: Mutex::default() });
        let cache = SharedCache::new(Arc::<Storage>::clone(&storage), ttl, now);
        cache.open(now.checked_sub(known).expect("the machine runs for longer"));
        (cache, storage, now)
    }

    async fn uses(cache: &SharedCache, storage: &Storage, age: Duration) -> bool {
        *storage.age.lock().unwrap() = age;
        cache.get(KEY).await.is_some()
    }

    #[tokio::test]
    async fn shorter_ttl_applies_to_stored_entries() {
        let (cache, storage, _) = cache(MINUTE * 5, MINUTE * 10);
        assert!(uses(&cache, &storage, MINUTE * 5).await && !uses(&cache, &storage, MINUTE * 6).await);
        cache.set_ttl(MINUTE);
        assert!(uses(&cache, &storage, MINUTE).await && !uses(&cache, &storage, MINUTE * 2).await);
        assert_eq!(cache.refusals().get(), 0, "they are not outdated");
        cache.set_ttl(Duration::ZERO);
        assert!(!uses(&cache, &storage, Duration::ZERO).await);
        cache.put(KEY, &SharedEntry::Deleted(1), Instant::now()).await;
        assert!(storage.stored.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn longer_ttl_uses_no_entry_of_before_a_change_whose_min_version_was_dropped() {
        // As long as the time to live of the entries, and no longer.
        let (cache, storage, start) = cache(MINUTE, MINUTE + MARGIN);
        let at = |time| start + time;
        cache.min_versions.raise(KEY, 9, cache.kept(), at(Duration::ZERO));
        cache.set_ttl(MINUTE * 60);
        assert!(!uses(&cache, &storage, MINUTE * 2).await, "changes of that time are not known");
        assert!(!uses(&cache, &storage, Duration::ZERO).await, "it is older than the change");
        // The minimum version is kept as long as entries live from now on.
        cache.min_versions.raise(OTHER, 1, cache.kept(), at(MINUTE * 59));
        assert!(!uses(&cache, &storage, Duration::ZERO).await);
        // A shorter time drops it, and with it all entries of before.
        cache.set_ttl(MINUTE);
        cache.min_versions.raise(OTHER, 1, cache.kept(), at(MINUTE * 61));
        cache.set_ttl(MINUTE * 60);
        let admits = |read_at| cache.min_versions.admits(&KEY, 1, at(read_at));
        assert!(!admits(Duration::ZERO) && !admits(MINUTE * 59) && admits(MINUTE * 60));
    }

    #[tokio::test]
    async fn entry_is_stored_for_the_rest_of_its_ttl_with_its_age() {
        let (cache, storage, now) = cache(MINUTE, MINUTE);
        let read_at = now.checked_sub(MINUTE / 2).expect("the machine runs for longer");
        for (ttl, shortest) in [(MINUTE, Duration::ZERO), (MINUTE * 5, MINUTE * 4)] {
            cache.set_ttl(ttl);
            cache.put(KEY, &SharedEntry::Deleted(1), read_at).await;
            let EntryTimes { age, life } = storage.stored.lock().unwrap().take().unwrap();
            assert!(age >= MINUTE / 2 && life > shortest && age + life == ttl, "{age:?} {life:?}");
        }
        cache.set_ttl(MINUTE / 2);
        cache.put(KEY, &SharedEntry::Deleted(1), read_at).await;
        assert!(storage.stored.lock().unwrap().is_none(), "it is too old to be stored");
    }

    #[test]
    fn history_is_as_long_as_entries_live_and_no_longer_than_the_feed_is_kept() {
        let (cache, ..) = cache(MINUTE, MINUTE);
        assert_eq!(cache.history(), MINUTE + MARGIN);
        cache.set_ttl(MINUTE * 600);
        assert_eq!(cache.history(), HISTORY_MAX);
        assert!(cache.kept() > MINUTE * 600);
    }
}
