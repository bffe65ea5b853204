use std::sync::Mutex;

use async_trait::async_trait;
use prometheus::Registry;

use super::*;
use crate::cache::{CacheKey, Freshness, KeyCache, OnDatabaseDown, SharedEntry, SharedStorage};
use crate::cidr::CidrSet;
use crate::clock::{SystemClock, Timestamp};
use crate::id::{KeyId, TenantId};
use crate::key::{ApiKey, CachedKey, Metadata, Status};
use crate::policy::{Scopes, Visibility};
use crate::store::MemoryStore;

const ID: CacheKey = (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(1)));
const TTL: Duration = Duration::from_secs(60);

/// A feed of prepared answers; once they are used up, nothing changes any more.
#[derive(Default)]
struct Prepared {
    answers: Mutex<Vec<Option<Vec<Change>>>>,
    recent: Vec<Change>,
    /// What happens while recent changes are read.
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

/// A shared cache in which one record stands, whatever is written to it.
struct Outdated(Arc<ApiKey>);

#[async_trait]
impl SharedStorage for Outdated {
    async fn get(&self, _: CacheKey) -> Option<SharedEntry> {
        Some(SharedEntry::Key(Arc::clone(&self.0)))
    }

    async fn put(&self, _: CacheKey, _: &SharedEntry, _: Duration) {}
}

fn record(version: u64) -> Arc<ApiKey> {
    Arc::new(ApiKey {
        tenant: ID.0,
        id: ID.1,
        name: String::new(),
        actor_id: String::new(),
        scopes: Scopes::default(),
        metadata: Metadata::new(),
        status: Status::Active,
        visibility: Visibility::Secret,
        create_time: Timestamp::UNIX_EPOCH,
        update_time: Timestamp::UNIX_EPOCH,
        expire_time: None,
        last_used_time: None,
        rate_limit: None,
        networks: CidrSet::default(),
        version,
    })
}

fn change(kind: ChangeKind, version: u64) -> Change {
    Change { tenant: ID.0, id: ID.1, kind, version, time: Timestamp::UNIX_EPOCH }
}

fn caches() -> Caches<StoreError> {
    Caches {
        local: Some(Arc::new(KeyCache::new(1 << 20, TTL))),
        shared: Some(Arc::new(SharedCache::new(Arc::new(Outdated(record(1))), TTL, Instant::now()))),
        revoked_parents: Arc::new(RevokedParents::new(TTL, 10)),
        freshness: Arc::new(Freshness::new(TTL, OnDatabaseDown::Deny, Instant::now())),
    }
}

fn cache_sync(feed: Prepared, caches: &Caches<StoreError>) -> CacheSync {
    let metrics = Metrics::register(&Registry::new(), Arc::clone(&caches.freshness)).unwrap();
    let store = Arc::new(MemoryStore::default());
    CacheSync::new(Arc::new(feed), store, caches.clone(), Arc::new(SystemClock), metrics)
}

async fn keep(caches: &Caches<StoreError>, record: Arc<ApiKey>) {
    let local = caches.local.as_ref().unwrap();
    let record = Arc::new(CachedKey::from(&*record));
    local.fetch(ID, || async { Ok(Some(Arc::clone(&record))) }).await.unwrap();
}

async fn is_shared(caches: &Caches<StoreError>) -> bool {
    caches.shared.as_ref().unwrap().get(ID).await.is_some()
}

fn is_local(caches: &Caches<StoreError>) -> bool {
    caches.local.as_ref().unwrap().get(&ID).is_some()
}

#[tokio::test]
async fn a_change_counts_in_every_cache_and_ends_tokens_where_it_ends_the_key() {
    for (kind, ends) in [
        (ChangeKind::Update, false),
        (ChangeKind::Rotate, true),
        (ChangeKind::Revoke, true),
        (ChangeKind::Delete, true),
    ] {
        let caches = caches();
        let feed = Prepared { answers: Mutex::new(vec![Some(vec![change(kind, 2)])]), ..Prepared::default() };
        let cache_sync = cache_sync(feed, &caches);
        let mut position = cache_sync.begin().await.unwrap();
        keep(&caches, record(1)).await;
        assert!(is_local(&caches) && is_shared(&caches).await);
        cache_sync.catch_up(&mut position).await.unwrap();
        assert!(!is_local(&caches) && !is_shared(&caches).await, "{kind:?}");
        let revoked_parents =
            caches.revoked_parents.ask(&ID, Timestamp::UNIX_EPOCH) == crate::cache::ParentStatus::Revoked;
        assert_eq!(revoked_parents, ends, "{kind:?}");
    }
}

#[tokio::test]
async fn a_start_knows_what_changed_just_before() {
    let caches = caches();
    assert!(!is_shared(&caches).await, "nothing is taken before recent changes are known");
    let feed = Prepared { recent: vec![change(ChangeKind::Revoke, 2)], ..Prepared::default() };
    cache_sync(feed, &caches).begin().await.unwrap();
    assert!(!is_shared(&caches).await);
}

#[tokio::test]
async fn after_a_gap_nothing_from_before_is_taken_also_while_the_gap_is_closed() {
    let caches = caches();
    cache_sync(Prepared::default(), &caches).begin().await.unwrap();
    keep(&caches, record(1)).await;
    // A request that comes while missed changes are read, and would keep what it is given.
    let (asked, seen) = (caches.clone(), Arc::new(Mutex::new(None)));
    let told = Arc::clone(&seen);
    let meanwhile = move || {
        let found = futures_now(async { (is_local(&asked), is_shared(&asked).await) });
        *told.lock().unwrap() = Some(found);
    };
    let feed = Prepared {
        answers: Mutex::new(vec![None]),
        recent: vec![change(ChangeKind::Revoke, 2)],
        meanwhile: Mutex::new(Some(Box::new(meanwhile))),
    };
    let cache_sync = cache_sync(feed, &caches);
    cache_sync.catch_up(&mut Position::of("long ago")).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), Some((false, false)));
    assert!(!is_local(&caches) && !is_shared(&caches).await);
}

/// The result of what never has to wait.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("it has to wait"),
    }
}
