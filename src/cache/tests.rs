use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uuid::Uuid;

use super::records::{CacheTime, Entry, Insertion, Records};
use super::*;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, CachedKey, Metadata};

type LoadResult = Result<Loaded, &'static str>;

const ID: CacheKey = (TenantId::NIL, KeyId::Issued(Uuid::from_u128(1)));

fn cache() -> Arc<KeyCache<&'static str>> {
    Arc::new(KeyCache::new(1 << 20, Duration::from_secs(60)))
}

fn record(version: u64) -> Arc<CachedKey> {
    Arc::new(CachedKey::from(&key(version)))
}

/// A record of another key.
fn other() -> Arc<CachedKey> {
    Arc::new(CachedKey::from(&ApiKey { id: KeyId::Imported([1; 32]), ..key(1) }))
}

fn key(version: u64) -> ApiKey {
    ApiKey { version, ..ApiKey::new(ID.0, ID.1, Timestamp::UNIX_EPOCH) }
}

/// The result of a store.
#[expect(clippy::unnecessary_wraps, reason = "what a loader returns")]
fn loaded(record: Option<Arc<CachedKey>>) -> LoadResult {
    Ok(Loaded { record, source: Source::Store })
}

async fn insert(cache: &KeyCache<&'static str>, record: Arc<CachedKey>) {
    let key = (record.tenant(), record.id());
    cache.fetch(key, |_| async { loaded(Some(Arc::clone(&record))) }).await.unwrap();
}

fn nanos(seconds: u64) -> u64 {
    seconds * 1_000_000_000
}

fn version(entry: Option<CacheEntry>) -> u64 {
    entry.and_then(CacheEntry::record).map_or(0, |record| record.version())
}

#[tokio::test]
async fn concurrent_misses_share_one_lookup() {
    let (cache, loads) = (cache(), Arc::new(AtomicUsize::new(0)));
    let callers = (0..1000).map(|_| {
        let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
        tokio::spawn(async move {
            let load = |_| async {
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                loaded(Some(record(1)))
            };
            cache.fetch(ID, load).await.unwrap().record.unwrap().version()
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), 1);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(version(cache.get(&ID)), 1);
}

#[tokio::test]
async fn read_that_started_before_a_change_does_not_bring_the_old_record_back() {
    let (cache, started, release) = (cache(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let loads = Arc::new(AtomicUsize::new(0));
    let reader = tokio::spawn({
        let (cache, started, release) = (Arc::clone(&cache), Arc::clone(&started), Arc::clone(&release));
        async move {
            let load = |_| async {
                if loads.fetch_add(1, Ordering::SeqCst) == 0 {
                    started.notify_one();
                    release.notified().await;
                    return loaded(Some(record(1)));
                }
                loaded(Some(record(2)))
            };
            cache.fetch(ID, load).await.unwrap().record.unwrap().version()
        }
    });
    started.notified().await;
    cache.invalidate(ID, 2);
    release.notify_one();
    assert_eq!(reader.await.unwrap(), 2);
    assert_eq!(version(cache.get(&ID)), 2);
}

#[tokio::test]
async fn absence_that_was_read_before_a_change_is_not_cached() {
    let (cache, loads) = (cache(), AtomicUsize::new(0));
    let load = |_| {
        let first = loads.fetch_add(1, Ordering::SeqCst) == 0;
        if first {
            cache.invalidate(ID, 1);
        }
        async move { loaded((!first).then(|| record(1))) }
    };
    assert!(cache.fetch(ID, load).await.unwrap().record.is_some());
    assert_eq!(version(cache.get(&ID)), 1);
}

#[tokio::test]
async fn absence_is_cached_until_the_key_is_created_and_errors_are_not_cached() {
    let cache = cache();
    assert_eq!(cache.fetch(ID, |_| async { LoadResult::Err("down") }).await.err(), Some("down"));
    assert!(cache.get(&ID).is_none());
    assert!(cache.fetch(ID, |_| async { loaded(None) }).await.unwrap().record.is_none());
    assert!(matches!(cache.get(&ID), Some(CacheEntry::Absent)));
    cache.invalidate(ID, 1);
    assert!(cache.get(&ID).is_none());
}

#[tokio::test]
async fn older_record_does_not_replace_a_newer_one() {
    let cache = cache();
    insert(&cache, record(3)).await;
    insert(&cache, record(2)).await;
    assert_eq!(version(cache.get(&ID)), 3);
    cache.invalidate(ID, 3);
    assert_eq!(version(cache.get(&ID)), 3);
    cache.invalidate(ID, 4);
    assert!(cache.get(&ID).is_none());
}

#[tokio::test]
async fn cancelled_read_is_repeated_by_the_next_waiter() {
    let cache = cache();
    let stuck = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.fetch(ID, |_| std::future::pending::<LoadResult>()).await }
    });
    tokio::task::yield_now().await;
    let waiting = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.fetch(ID, |_| async { loaded(Some(record(1))) }).await }
    });
    tokio::task::yield_now().await;
    stuck.abort();
    assert!(waiting.await.unwrap().unwrap().record.is_some());
    assert_eq!(cache.singleflight.in_progress(), 0);
}

#[test]
fn record_that_was_inserted_before_clear_is_not_returned() {
    let records = Records::new(1 << 20, nanos(60));
    let insert = |version, time| records.insert(ID, Entry { record: record(version), inserted: CacheTime(time) });
    assert_eq!(insert(2, 1), Insertion::New);
    records.clear(CacheTime(1));
    assert!(records.get(&ID).is_none());
    // As while moka replaces an entry of before: it gives it the time of the new one first.
    insert(2, 1);
    assert!(records.get(&ID).is_none());
    assert_eq!(insert(1, 2), Insertion::New, "a cleared record does not count as newer");
    assert_eq!(records.get(&ID).map(|entry| entry.record.version()), Some(1));
}

#[test]
fn records_are_replaced_and_removed_by_version() {
    let records = Records::new(1 << 20, nanos(60));
    let insert = |version| records.insert(ID, Entry { record: record(version), inserted: CacheTime(0) });
    assert_eq!([2, 1, 2, 3].map(insert), [Insertion::New, Insertion::Outdated, Insertion::New, Insertion::Replaced]);
    records.remove_below(ID, 3);
    assert!(records.get(&ID).is_some());
    records.remove_below(ID, 4);
    assert!(records.get(&ID).is_none() && !records.remove(&ID));
}

#[tokio::test]
async fn refused_result_is_counted_and_loaded_again() {
    let cache = cache();
    let load = |refused: u32| {
        if refused == 0 {
            cache.invalidate(ID, 2);
        }
        async move { loaded(Some(record(1 + u64::from(refused)))) }
    };
    assert_eq!(cache.fetch(ID, load).await.unwrap().record.unwrap().version(), 2);
    assert_eq!(cache.refusals().get(), 1);
}

#[tokio::test]
async fn memory_is_bounded() {
    let cache = cache();
    for number in 0..10_000 {
        let id = KeyId::Issued(Uuid::from_u128(number));
        insert(&cache, Arc::new(CachedKey::from(&ApiKey { id, ..key(1) }))).await;
    }
    assert!(cache.weight() <= 1 << 20);
    assert!(cache.len() > 1000);
}

#[tokio::test]
async fn deleted_key_is_not_brought_back_by_a_read_in_progress() {
    let cache = cache();
    let (read, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let reads = Arc::new(AtomicUsize::new(0));
    let slow = {
        let (cache, read, go, reads) = (Arc::clone(&cache), Arc::clone(&read), Arc::clone(&go), Arc::clone(&reads));
        tokio::spawn(async move {
            let load = |_| async {
                if reads.fetch_add(1, Ordering::SeqCst) > 0 {
                    return loaded(None);
                }
                read.notify_one();
                go.notified().await;
                loaded(Some(record(7)))
            };
            cache.fetch(ID, load).await.unwrap()
        })
    };
    read.notified().await;
    cache.invalidate_deleted(ID, 7);
    go.notify_one();
    assert!(slow.await.unwrap().record.is_none());
    assert!(matches!(cache.get(&ID), Some(CacheEntry::Absent)));
}

#[tokio::test]
async fn key_that_is_imported_again_after_its_deletion_is_cached() {
    let cache = cache();
    insert(&cache, record(7)).await;
    cache.invalidate_deleted(ID, 7);
    assert!(cache.get(&ID).is_none());
    insert(&cache, record(9)).await;
    assert_eq!(version(cache.get(&ID)), 9);
}

#[tokio::test]
async fn expired_record_is_read_again_and_kept_as_stale() {
    let cache = KeyCache::<&'static str>::with_stale(1 << 20, Duration::ZERO, Duration::from_secs(60));
    cache.fetch(ID, |_| async { loaded(Some(record(1))) }).await.unwrap();
    assert_eq!((version(cache.get(&ID)), cache.get_stale(&ID).map(|record| record.version())), (0, Some(1)));
    cache.fetch(ID, |_| async { loaded(Some(record(2))) }).await.unwrap();
    assert_eq!(cache.get_stale(&ID).map(|record| record.version()), Some(2));
    cache.invalidate(ID, 3);
    assert!(cache.get_stale(&ID).is_none());
    cache.fetch(ID, |_| async { loaded(Some(record(3))) }).await.unwrap();
    cache.fetch(ID, |_| async { loaded(None) }).await.unwrap();
    assert!(cache.get_stale(&ID).is_none());
}

#[tokio::test]
async fn hint_gives_the_record_until_any_key_changes() {
    let changes: [fn(&KeyCache<&'static str>); 4] = [
        |cache| cache.invalidate(ID, 2),
        |cache| cache.invalidate_deleted(ID, 1),
        KeyCache::clear,
        // Of another key: the epoch does not say which one changed.
        |cache| cache.invalidate((TenantId::NIL, KeyId::Imported([0; 32])), 9),
    ];
    for change in changes {
        let cache = cache();
        insert(&cache, record(1)).await;
        let now = Instant::now();
        let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
        assert!(cache.get_by_hint(&ID, &hint, now).is_some(), "no key has changed");
        // A request that still uses the record does not make the hint hold.
        let (_in_use, _) = cache.get_with_hint(&ID, now).unwrap();
        change(&cache);
        assert!(cache.get_by_hint(&ID, &hint, now).is_none());
    }
}

#[tokio::test]
async fn hint_does_not_give_the_record_of_another_key_or_version() {
    let cache = cache();
    insert(&cache, record(1)).await;
    let now = Instant::now();
    let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
    let other = (TenantId::NIL, KeyId::Imported([0; 32]));
    assert!(cache.get_by_hint(&other, &hint, now).is_none());
    let _in_use = cache.get(&ID);
    insert(&cache, record(2)).await;
    assert!(cache.get_by_hint(&ID, &hint, now).is_none(), "a newer record replaced it");
    let (_in_use, hint) = cache.get_with_hint(&ID, now).unwrap();
    cache.fetch(ID, |_| async { loaded(None) }).await.unwrap();
    assert!(cache.get_by_hint(&ID, &hint, now).is_none(), "the key is absent");
}

#[tokio::test]
async fn hint_does_not_keep_the_record_in_memory() {
    let cache = cache();
    insert(&cache, record(1)).await;
    let now = Instant::now();
    let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
    // As an eviction, which does not change the epoch. moka frees the memory a little later.
    cache.records.remove(&ID);
    let deadline = Instant::now() + Duration::from_secs(10);
    while cache.get_by_hint(&ID, &hint, now).is_some() {
        assert!(Instant::now() < deadline, "the record stays in memory");
        cache.len();
        insert(&cache, other()).await;
    }
}

#[tokio::test]
async fn hint_gives_the_record_until_it_expires() {
    let cache = cache();
    insert(&cache, record(1)).await;
    let now = Instant::now();
    let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
    let seconds = Duration::from_secs;
    assert!(cache.get_by_hint(&ID, &hint, now + seconds(59)).is_some());
    assert!(cache.get_by_hint(&ID, &hint, now + seconds(60)).is_none());
    assert!(cache.get_with_hint(&ID, now + seconds(60)).is_none());
}

#[tokio::test]
async fn expired_record_is_not_returned_and_is_evicted() {
    let cache = KeyCache::<&'static str>::new(1 << 20, Duration::from_millis(50));
    insert(&cache, record(1)).await;
    while cache.get(&ID).is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(cache.get_stale(&ID).is_none());
    cache.remove_expired();
    assert!(cache.is_empty(), "its memory is freed");
}

#[tokio::test]
async fn shorter_ttl_applies_to_cached_records_and_hints() {
    let cache = cache();
    insert(&cache, record(1)).await;
    let now = Instant::now();
    let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
    let is_found = |seconds| {
        let now = now + Duration::from_secs(seconds);
        let found = [cache.get_at(&ID, now).is_some(), cache.get_by_hint(&ID, &hint, now).is_some()];
        assert_eq!(found[0], found[1]);
        found[0]
    };
    assert!(is_found(59));
    cache.set_times(Duration::from_secs(10), Duration::ZERO);
    assert!(is_found(9) && !is_found(10));
    cache.set_times(Duration::from_secs(90), Duration::ZERO);
    assert!(is_found(89) && !is_found(90), "a longer one, too");
    cache.set_times(Duration::ZERO, Duration::ZERO);
    assert!(!is_found(0));
}

#[tokio::test]
async fn stale_record_is_kept_for_the_changed_time() {
    let cache = KeyCache::<&'static str>::with_stale(1 << 20, Duration::ZERO, Duration::from_secs(60));
    insert(&cache, record(1)).await;
    assert!(cache.get_stale(&ID).is_some());
    cache.set_times(Duration::ZERO, Duration::ZERO);
    assert!(cache.get_stale(&ID).is_none());
    cache.set_times(Duration::ZERO, Duration::from_secs(60));
    assert!(cache.get_stale(&ID).is_some(), "its memory was not freed");
}

#[tokio::test]
async fn records_are_removed_when_they_are_kept_no_longer() {
    let cache = cache();
    insert(&cache, record(1)).await;
    cache.remove_expired();
    assert_eq!(cache.len(), 1);
    cache.set_times(Duration::ZERO, Duration::from_secs(60));
    cache.remove_expired();
    assert_eq!(cache.len(), 1, "it is kept for a database that is unavailable");
    cache.set_times(Duration::ZERO, Duration::ZERO);
    cache.remove_expired();
    assert!(cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn expired_records_are_removed_in_the_background() {
    let cache = cache();
    insert(&cache, record(1)).await;
    let sweeping = tokio::spawn(Arc::clone(&cache).keep_removing_expired());
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(cache.len(), 1, "a record is removed after its time");
    cache.set_times(Duration::ZERO, Duration::ZERO);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !cache.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "it stays in memory");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    sweeping.abort();
}

#[tokio::test]
async fn absence_is_cached_no_longer_than_records() {
    let cache = cache();
    cache.fetch(ID, |_| async { loaded(None) }).await.unwrap();
    let now = Instant::now();
    let is_absent = |seconds| cache.is_absent(&ID, now + Duration::from_secs(seconds));
    assert!(is_absent(0) && is_absent(4));
    cache.set_times(Duration::from_secs(2), Duration::ZERO);
    assert!(is_absent(1) && !is_absent(2));
    cache.set_times(Duration::ZERO, Duration::ZERO);
    assert!(!is_absent(0));
}

#[tokio::test]
async fn too_large_record_is_not_cached_and_removes_the_older_one() {
    let cache = cache();
    insert(&cache, record(1)).await;
    let metadata = Metadata::from_iter([("text".to_owned(), "x".repeat(1 << 20).into())]);
    let large = Arc::new(CachedKey::from(&ApiKey { metadata, ..key(2) }));
    insert(&cache, Arc::clone(&large)).await;
    assert!(cache.get(&ID).is_none() && cache.is_empty());
    insert(&cache, record(3)).await;
    assert_eq!(version(cache.get(&ID)), 3);
}
