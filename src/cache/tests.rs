use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::key::{ApiKey, Metadata, Status};

type Loaded = Result<Option<Arc<CachedKey>>, &'static str>;

const ID: CacheKey = (TenantId::NIL, KeyId::Issued(Uuid::from_u128(1)));

fn cache() -> Arc<KeyCache<&'static str>> {
    Arc::new(KeyCache::new(1 << 20, Duration::from_secs(60)))
}

fn record(version: u64) -> Arc<CachedKey> {
    Arc::new(CachedKey::from(&key(version)))
}

fn key(version: u64) -> ApiKey {
    ApiKey {
        tenant: ID.0,
        id: ID.1,
        name: String::new(),
        actor_id: String::new(),
        scopes: crate::policy::Scopes::default(),
        metadata: Metadata::new(),
        status: Status::Active,
        visibility: crate::policy::Visibility::Secret,
        create_time: Timestamp::UNIX_EPOCH,
        update_time: Timestamp::UNIX_EPOCH,
        expire_time: None,
        last_used_time: None,
        rate_limit: None,
        networks: CidrSet::default(),
        version,
    }
}

async fn keep(cache: &KeyCache<&'static str>, record: Arc<CachedKey>) {
    let key = (record.tenant(), record.id());
    cache.fetch(key, || async { Loaded::Ok(Some(Arc::clone(&record))) }).await.unwrap();
}

fn version(known: Option<CacheEntry>) -> u64 {
    known.and_then(CacheEntry::record).map_or(0, |record| record.version())
}

#[tokio::test]
async fn concurrent_misses_make_one_lookup() {
    let (cache, loads) = (cache(), Arc::new(AtomicUsize::new(0)));
    let callers = (0..1000).map(|_| {
        let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
        tokio::spawn(async move {
            let load = || async {
                loads.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Loaded::Ok(Some(record(1)))
            };
            cache.fetch(ID, load).await.unwrap().unwrap().version()
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), 1);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(version(cache.get(&ID)), 1);
}

#[tokio::test]
async fn a_read_that_began_before_a_change_cannot_bring_the_old_record_back() {
    let (cache, held, release) = (cache(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let loads = Arc::new(AtomicUsize::new(0));
    let reader = tokio::spawn({
        let (cache, held, release) = (Arc::clone(&cache), Arc::clone(&held), Arc::clone(&release));
        async move {
            let load = || async {
                if loads.fetch_add(1, Ordering::SeqCst) == 0 {
                    held.notify_one();
                    release.notified().await;
                    return Loaded::Ok(Some(record(1)));
                }
                Ok(Some(record(2)))
            };
            cache.fetch(ID, load).await.unwrap().unwrap().version()
        }
    });
    held.notified().await;
    cache.invalidate(ID, 2);
    release.notify_one();
    assert_eq!(reader.await.unwrap(), 2);
    assert_eq!(version(cache.get(&ID)), 2);
}

#[tokio::test]
async fn an_absence_read_before_an_insert_is_not_remembered() {
    let (cache, loads) = (cache(), AtomicUsize::new(0));
    let load = || {
        let first = loads.fetch_add(1, Ordering::SeqCst) == 0;
        if first {
            cache.invalidate(ID, 1);
        }
        async move { Loaded::Ok((!first).then(|| record(1))) }
    };
    assert!(cache.fetch(ID, load).await.unwrap().is_some());
    assert_eq!(version(cache.get(&ID)), 1);
}

#[tokio::test]
async fn absence_is_remembered_until_the_key_appears_and_failure_is_not() {
    let cache = cache();
    assert_eq!(cache.fetch(ID, || async { Loaded::Err("down") }).await.err(), Some("down"));
    assert!(cache.get(&ID).is_none());
    assert!(cache.fetch(ID, || async { Loaded::Ok(None) }).await.unwrap().is_none());
    assert!(matches!(cache.get(&ID), Some(CacheEntry::Absent)));
    cache.invalidate(ID, 1);
    assert!(cache.get(&ID).is_none());
}

#[tokio::test]
async fn an_older_record_never_replaces_a_newer_one() {
    let cache = cache();
    keep(&cache, record(3)).await;
    keep(&cache, record(2)).await;
    assert_eq!(version(cache.get(&ID)), 3);
    cache.invalidate(ID, 3);
    assert_eq!(version(cache.get(&ID)), 3);
    cache.invalidate(ID, 4);
    assert!(cache.get(&ID).is_none());
}

#[tokio::test]
async fn an_abandoned_read_is_taken_over_and_leaves_nothing_behind() {
    let cache = cache();
    let stuck = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.fetch(ID, std::future::pending::<Loaded>).await }
    });
    tokio::task::yield_now().await;
    let waiting = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.fetch(ID, || async { Loaded::Ok(Some(record(1))) }).await }
    });
    tokio::task::yield_now().await;
    stuck.abort();
    assert!(waiting.await.unwrap().unwrap().is_some());
    assert_eq!(cache.singleflight.under_way(), 0);
}

#[tokio::test]
async fn memory_is_bounded() {
    let cache = cache();
    for number in 0..10_000 {
        let id = KeyId::Issued(Uuid::from_u128(number));
        keep(&cache, Arc::new(CachedKey::from(&ApiKey { id, ..key(1) }))).await;
    }
    assert!(cache.weight() <= 1 << 20);
    assert!(cache.len() > 1000);
}

#[tokio::test]
async fn a_deleted_key_stays_gone_whatever_reads_were_under_way() {
    let cache = cache();
    let (read, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let reads = Arc::new(AtomicUsize::new(0));
    let slow = {
        let (cache, read, go, reads) = (Arc::clone(&cache), Arc::clone(&read), Arc::clone(&go), Arc::clone(&reads));
        tokio::spawn(async move {
            let load = || async {
                if reads.fetch_add(1, Ordering::SeqCst) > 0 {
                    return Loaded::Ok(None);
                }
                read.notify_one();
                go.notified().await;
                Loaded::Ok(Some(record(7)))
            };
            cache.fetch(ID, load).await.unwrap()
        })
    };
    read.notified().await;
    cache.invalidate_deleted(ID, 7);
    go.notify_one();
    assert!(slow.await.unwrap().is_none());
    assert!(matches!(cache.get(&ID), Some(CacheEntry::Absent)));
}

#[tokio::test]
async fn a_key_that_comes_back_after_its_deletion_is_taken() {
    let cache = cache();
    keep(&cache, record(7)).await;
    cache.invalidate_deleted(ID, 7);
    assert!(cache.get(&ID).is_none());
    keep(&cache, record(9)).await;
    assert_eq!(version(cache.get(&ID)), 9);
}

#[tokio::test]
async fn a_record_whose_time_is_over_is_asked_for_again_and_held_for_worse_days() {
    let cache = KeyCache::<&'static str>::with_stale(1 << 20, Duration::ZERO, Duration::from_secs(60));
    cache.fetch(ID, || async { Loaded::Ok(Some(record(1))) }).await.unwrap();
    assert_eq!((version(cache.get(&ID)), cache.get_stale(&ID).map(|held| held.version())), (0, Some(1)));
    cache.fetch(ID, || async { Loaded::Ok(Some(record(2))) }).await.unwrap();
    assert_eq!(cache.get_stale(&ID).map(|held| held.version()), Some(2));
    cache.invalidate(ID, 3);
    assert!(cache.get_stale(&ID).is_none());
    cache.fetch(ID, || async { Loaded::Ok(Some(record(3))) }).await.unwrap();
    cache.fetch(ID, || async { Loaded::Ok(None) }).await.unwrap();
    assert!(cache.get_stale(&ID).is_none());
}

#[tokio::test]
async fn what_was_seen_is_seen_again_until_something_changes() {
    let changes: [fn(&KeyCache<&'static str>); 4] = [
        |cache| cache.invalidate(ID, 2),
        |cache| cache.invalidate_deleted(ID, 1),
        KeyCache::clear,
        // Of another key: which one is not told.
        |cache| cache.invalidate((TenantId::NIL, KeyId::Imported([0; 32])), 9),
    ];
    for change in changes {
        let cache = cache();
        keep(&cache, record(1)).await;
        let now = Instant::now();
        let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
        assert!(cache.get_by_hint(&ID, &hint, now).is_some(), "nothing has changed");
        // Whoever is still at work with it does not make it good again.
        let (_at_work, _) = cache.get_with_hint(&ID, now).unwrap();
        change(&cache);
        assert!(cache.get_by_hint(&ID, &hint, now).is_none());
    }
}

#[tokio::test]
async fn what_was_seen_is_not_seen_again_in_the_place_of_another() {
    let cache = cache();
    keep(&cache, record(1)).await;
    let now = Instant::now();
    let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
    let other = (TenantId::NIL, KeyId::Imported([0; 32]));
    assert!(cache.get_by_hint(&other, &hint, now).is_none());
    let _at_work = cache.get(&ID);
    keep(&cache, record(2)).await;
    assert!(cache.get_by_hint(&ID, &hint, now).is_none(), "a younger record took its place");
    let (_at_work, hint) = cache.get_with_hint(&ID, now).unwrap();
    cache.fetch(ID, || async { Loaded::Ok(None) }).await.unwrap();
    assert!(cache.get_by_hint(&ID, &hint, now).is_none(), "it is gone");
}

#[tokio::test]
async fn what_was_seen_is_not_held() {
    let cache = cache();
    keep(&cache, record(1)).await;
    let now = Instant::now();
    let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
    // As when it makes room, of which no epoch tells.
    cache.records.remove(&ID);
    assert!(cache.get_by_hint(&ID, &hint, now).is_none());
}

#[tokio::test]
async fn what_was_seen_is_seen_again_until_its_time_is_over() {
    let cache = cache();
    keep(&cache, record(1)).await;
    let now = Instant::now();
    let (_, hint) = cache.get_with_hint(&ID, now).unwrap();
    let seconds = Duration::from_secs;
    assert!(cache.get_by_hint(&ID, &hint, now + seconds(59)).is_some());
    assert!(cache.get_by_hint(&ID, &hint, now + seconds(60)).is_none());
    assert!(cache.get_with_hint(&ID, now + seconds(60)).is_none());
}

#[tokio::test]
async fn a_record_is_current_until_its_time_is_over() {
    let cache = KeyCache::<&'static str>::new(1 << 20, Duration::from_millis(50));
    keep(&cache, record(1)).await;
    while cache.get(&ID).is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(cache.get_stale(&ID).is_none());
    assert_eq!(cache.len(), 1, "it stays until it makes room");
}

#[tokio::test]
async fn a_record_too_large_for_its_part_is_not_kept_and_drops_what_was_held() {
    let cache = cache();
    keep(&cache, record(1)).await;
    let metadata = Metadata::from_iter([("text".to_owned(), "x".repeat(1 << 20).into())]);
    let large = Arc::new(CachedKey::from(&ApiKey { metadata, ..key(2) }));
    keep(&cache, Arc::clone(&large)).await;
    assert!(cache.get(&ID).is_none() && cache.is_empty());
    keep(&cache, record(3)).await;
    assert_eq!(version(cache.get(&ID)), 3);
}
