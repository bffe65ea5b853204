use std::sync::Mutex;

use async_trait::async_trait;
use prometheus::Registry;

use super::*;
use crate::cache::{
    CacheKey, EntryTimes, FoundEntry, Freshness, KeyCache, Loaded, OnDatabaseDown, ParentStatus, SharedEntry,
    SharedStorage, Source,
};
use crate::clock::{SystemClock, Timestamp};
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, CachedKey};
use crate::store::MemoryStore;

const ID: CacheKey = (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(1)));
const TTL: Duration = Duration::from_secs(60);

/// A feed of prepared answers, and no changes after them.
#[derive(Default)]
struct Prepared {
    answers: Mutex<Vec<Option<Vec<Change>>>>,
    recent: Vec<Change>,
    /// Runs while recent changes are read.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[async_trait]
impl ChangeFeed for Prepared {
    async fn position(&self) -> Result<Position, StoreError> {
        Ok(Position::of("here"))
    }

    async fn changes_after(&self, position: &Position, _: u32) -> Result<Option<Changes>, StoreError> {
        let answer = self.answers.lock().unwrap().pop().unwrap_or_else(|| Some(Vec::new()));
        let (position, read_time) = (position.clone(), Timestamp::UNIX_EPOCH);
        Ok(answer.map(|changes| Changes { changes, position, more: false, read_time }))
    }

    async fn recent(&self, _: Duration, _: u32) -> Result<Vec<Change>, StoreError> {
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        Ok(self.recent.clone())
    }

    async fn prune(&self, _: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn listen(&self) -> Result<Box<dyn ChangeListener>, StoreError> {
        Err(StoreError::Timeout)
    }
}

/// A shared cache that always has the same record.
struct Outdated(Arc<ApiKey>);

#[async_trait]
impl SharedStorage for Outdated {
    async fn get(&self, _: CacheKey) -> Option<FoundEntry> {
        Some(FoundEntry { entry: SharedEntry::Key(Arc::clone(&self.0)), age: Duration::ZERO })
    }

    async fn put(&self, _: CacheKey, _: &SharedEntry, _: EntryTimes) {}
}

fn record(version: u64) -> Arc<ApiKey> {
    Arc::new(ApiKey { version, ..ApiKey::new(ID.0, ID.1, Timestamp::UNIX_EPOCH) })
}

fn change(kind: ChangeKind, version: u64) -> Change {
    Change { tenant: ID.0, id: ID.1, kind, version, time: Timestamp::UNIX_EPOCH, revoke_time: None }
}

fn caches() -> Caches<StoreError> {
    Caches {
        local: Some(Arc::new(KeyCache::new(1 << 20, TTL))),
        shared: Some(Arc::new(SharedCache::new(Arc::new(Outdated(record(1))), TTL, Instant::now()))),
        revoked_parents: Arc::new(RevokedParents::new(TTL, 10)),
        freshness: Arc::new(Freshness::new(TTL, OnDatabaseDown::Deny, Instant::now())),
        changes: Arc::default(),
    }
}

fn cache_sync(feed: Prepared, caches: &Caches<StoreError>) -> CacheSync {
    let metrics = Metrics::register(&Registry::new(), Arc::clone(&caches.freshness)).unwrap();
    let store = Arc::new(MemoryStore::default());
    CacheSync::new(Arc::new(feed), store, caches.clone(), Arc::new(SystemClock), metrics)
}

async fn insert(caches: &Caches<StoreError>, record: Arc<ApiKey>) {
    let local = caches.local.as_ref().unwrap();
    let record = Arc::new(CachedKey::from(&*record));
    local
        .fetch(ID, |_| async { Ok(Loaded { record: Some(Arc::clone(&record)), source: Source::Store }) })
        .await
        .unwrap();
}

async fn is_shared(caches: &Caches<StoreError>) -> bool {
    caches.shared.as_ref().unwrap().get(ID).await.is_some()
}

fn is_local(caches: &Caches<StoreError>) -> bool {
    caches.local.as_ref().unwrap().get(&ID).is_some()
}

#[tokio::test]
async fn change_is_applied_to_every_cache_and_revocations_revoke_tokens() {
    for (kind, revokes_tokens) in [
        (ChangeKind::Update, false),
        (ChangeKind::Rotate, true),
        (ChangeKind::Revoke, true),
        (ChangeKind::Delete, true),
    ] {
        let caches = caches();
        let feed = Prepared { answers: Mutex::new(vec![Some(vec![change(kind, 2)])]), ..Prepared::default() };
        let cache_sync = cache_sync(feed, &caches);
        let mut position = cache_sync.begin().await.unwrap();
        insert(&caches, record(1)).await;
        assert!(is_local(&caches) && is_shared(&caches).await);
        cache_sync.catch_up(&mut position).await.unwrap();
        assert!(!is_local(&caches) && !is_shared(&caches).await, "{kind:?}");
        let status = caches.revoked_parents.status(&ID, Timestamp::UNIX_EPOCH);
        assert_eq!(status == ParentStatus::Revoked, revokes_tokens, "{kind:?}");
    }
}

#[tokio::test]
async fn start_applies_recent_changes_to_the_shared_cache() {
    let caches = caches();
    assert!(!is_shared(&caches).await, "no entry is used before recent changes are known");
    let feed = Prepared { recent: vec![change(ChangeKind::Revoke, 2)], ..Prepared::default() };
    cache_sync(feed, &caches).begin().await.unwrap();
    assert!(!is_shared(&caches).await);
}

#[tokio::test]
async fn after_missed_changes_no_older_record_is_used_also_while_they_are_read() {
    let caches = caches();
    cache_sync(Prepared::default(), &caches).begin().await.unwrap();
    insert(&caches, record(1)).await;
    // A request while missed changes are read, which would cache the record that it finds.
    let (node, found) = (caches.clone(), Arc::new(Mutex::new(None)));
    let result = Arc::clone(&found);
    let meanwhile = move || {
        let is_cached = poll_now(async { (is_local(&node), is_shared(&node).await) });
        *result.lock().unwrap() = Some(is_cached);
    };
    let feed = Prepared {
        answers: Mutex::new(vec![None]),
        recent: vec![change(ChangeKind::Revoke, 2)],
        meanwhile: Mutex::new(Some(Box::new(meanwhile))),
    };
    let cache_sync = cache_sync(feed, &caches);
    cache_sync.catch_up(&mut Position::of("long ago")).await.unwrap();
    assert_eq!(*found.lock().unwrap(), Some((false, false)));
    assert!(!is_local(&caches) && !is_shared(&caches).await);
}

/// The result of a future that does not suspend.
fn poll_now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("it suspends"),
    }
}
