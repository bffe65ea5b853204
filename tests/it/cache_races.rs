//! The race that caches lose elsewhere: a read has found a key active, is held up, the key is revoked on another node, the
//! read goes on. Nodes are made of the library's parts here, so that a read can be held, over real servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use keygate::cache::{Caches, Freshness, KeyCache, OnDatabaseDown, RedisStorage, RevokedParents, SharedCache};
use keygate::cache_sync::{self, CacheSync};
use keygate::clock::{Clock, SystemClock};
use keygate::config::RedisConfig;
use keygate::id::{KeyId, TenantId};
use keygate::key::{ApiKey, EffectiveStatus, Revocation, RevocationReason, Status};
use keygate::redis::Redis as Connection;
use keygate::store::{KeySource, KeyStore, Migration, PostgresOptions, PostgresStore, Revoked, StoreError};
use keygate::verifier::{CacheOutcome, CachePolicy, KeyResolver};
use tokio::sync::Semaphore;

use keygate_test_servers::{Postgres, Redis};

const TENANT: TenantId = TenantId::NIL;
const TTL: Duration = Duration::from_secs(60);

/// A store whose reads can be held after they have found something.
struct Held {
    store: Arc<PostgresStore>,
    /// One permit for each read that may go on; it is closed when all may.
    gate: Semaphore,
    /// One permit for each read that has found something.
    found: Semaphore,
}

/// A node: its resolver over a store that can be held, its caches, and what keeps them true.
struct Node {
    source: Arc<Held>,
    resolver: KeyResolver,
    caches: Caches<StoreError>,
    cache_sync: Arc<CacheSync>,
}

struct Servers {
    postgres: Postgres,
    redis: Redis,
    store: Arc<PostgresStore>,
}

#[async_trait]
impl KeySource for Held {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let found = self.store.find(tenant, id).await;
        self.found.add_permits(1);
        // Closed means that nobody is held any more.
        let _ = self.gate.acquire().await.map(tokio::sync::SemaphorePermit::forget);
        found
    }
}

impl Servers {
    async fn start() -> Self {
        let (postgres, redis) = (Postgres::start(), Redis::start());
        let options = PostgresOptions {
            url: postgres.url("postgres").into(),
            max_connections: 4,
            min_connections: 0,
            max_lifetime: None,
            idle_timeout: None,
            connect_timeout: Duration::from_secs(10),
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
        };
        let store = Arc::new(PostgresStore::open(&options, Migration::Automatic).await.unwrap());
        Self { postgres, redis, store }
    }

    /// A node that has heard of everything until now.
    async fn node(&self) -> Node {
        let settings = RedisConfig { addrs: vec![self.redis.address()], ..RedisConfig::default() };
        let redis = Arc::new(Connection::new(&settings).unwrap());
        let kept = Arc::clone(&redis);
        tokio::spawn(async move { kept.keep_connected().await });
        redis.connected(Duration::from_secs(10)).await;
        let storage = Arc::new(RedisStorage::new(redis));
        let freshness = Arc::new(Freshness::new(TTL, OnDatabaseDown::Deny, Instant::now()));
        let caches = Caches {
            local: Some(Arc::new(KeyCache::new(1 << 20, TTL))),
            shared: Some(Arc::new(SharedCache::new(storage, TTL, Instant::now()))),
            revoked_parents: Arc::new(RevokedParents::new(TTL, 100)),
            freshness: Arc::clone(&freshness),
        };
        let source =
            Arc::new(Held { store: Arc::clone(&self.store), gate: Semaphore::new(0), found: Semaphore::new(0) });
        let keys: Arc<dyn KeySource> = Arc::<Held>::clone(&source);
        let store: Arc<dyn KeyStore> = Arc::<PostgresStore>::clone(&self.store);
        let feed = Arc::clone(&store).feed().unwrap();
        let metrics = cache_sync::Metrics::register(&prometheus::Registry::new(), freshness).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let cache_sync = Arc::new(CacheSync::new(feed, store, caches.clone(), clock, metrics));
        Node { source, resolver: KeyResolver::new(keys, caches.clone()), caches, cache_sync }
    }

    /// Stores an active key.
    async fn key(&self, number: u128) -> KeyId {
        let id = KeyId::Issued(uuid::Uuid::from_u128(number));
        let now = SystemClock.now();
        let key = ApiKey {
            tenant: TENANT,
            id,
            name: "held".into(),
            actor_id: "tester".into(),
            scopes: keygate::policy::Scopes::default(),
            metadata: keygate::key::Metadata::new(),
            status: Status::Active,
            visibility: keygate::policy::Visibility::Secret,
            create_time: now,
            update_time: now,
            expire_time: None,
            last_used_time: None,
            rate_limit: None,
            networks: keygate::cidr::CidrSet::default(),
            version: ApiKey::first_version(now),
        };
        self.store.insert(&key, None).await.unwrap();
        id
    }

    /// Revokes a key as a node does: in the store, then in its caches.
    async fn revoke(&self, id: KeyId, by: &Node) {
        let revocation = Revocation { reason: RevocationReason::KeyCompromise, description: None };
        let Revoked::Done(key) = self.store.revoke(TENANT, id, &revocation, SystemClock.now()).await.unwrap() else {
            panic!("{id} was active");
        };
        let (local, shared) = (by.caches.local.as_ref().unwrap(), by.caches.shared.as_ref().unwrap());
        shared.invalidate((TENANT, id), key.version);
        local.invalidate((TENANT, id), key.version);
        shared.put(&Arc::new(*key), Instant::now()).await;
    }
}

impl Node {
    /// Follows changes from now on.
    async fn follow(&self) {
        let position = self.cache_sync.begin().await.unwrap();
        let cache_sync = Arc::clone(&self.cache_sync);
        tokio::spawn(async move { cache_sync.follow(position).await });
    }

    fn hold_nothing(&self) {
        self.source.gate.close();
    }

    async fn is_active(&self, id: KeyId) -> bool {
        let (found, _) = self.resolver.find((TENANT, id), CachePolicy::default()).await;
        found.unwrap().unwrap().effective_status(SystemClock.now()) == EffectiveStatus::Active
    }

    /// Waits until the change of a key has reached this node: what it would find in the shared cache counts no more.
    async fn wait_for_refusal(&self, id: KeyId) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.is_active(id).await {
            assert!(Instant::now() < deadline, "the change never arrives");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What happens between the held read and its end.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    /// Redis loses what the revocation told it.
    RedisIsFlushed,
}

async fn race(follow_first: bool, meanwhile: Meanwhile) {
    let servers = Servers::start().await;
    let (reader, revoker) = (servers.node().await, servers.node().await);
    revoker.hold_nothing();
    revoker.follow().await;
    let id = servers.key(1).await;
    let position = reader.cache_sync.begin().await.unwrap();
    let cache_sync = Arc::clone(&reader.cache_sync);
    let follow = || tokio::spawn(async move { cache_sync.follow(position).await });

    let reader = Arc::new(reader);
    let reading = tokio::spawn({
        let reader = Arc::clone(&reader);
        async move { reader.is_active(id).await }
    });
    reader.source.found.acquire().await.unwrap().forget();
    servers.revoke(id, &revoker).await;
    if meanwhile == Meanwhile::RedisIsFlushed {
        servers.redis.flush();
    }
    if follow_first {
        drop(follow());
        // The feed is read at once; the held read has to be told before it goes on.
        tokio::time::sleep(Duration::from_millis(500)).await;
        reader.hold_nothing();
        assert!(!reading.await.unwrap(), "a read that ends after the change is heard of finds the change");
        assert_eq!(reader.caches.local.as_ref().unwrap().refusals().get(), 1, "what it had found was refused");
    } else {
        reader.hold_nothing();
        let _ = reading.await.unwrap();
        drop(follow());
        reader.wait_for_refusal(id).await;
    }
    // For good, on every node, whatever the shared cache holds: also on one that starts now.
    let late = servers.node().await;
    late.hold_nothing();
    late.follow().await;
    for node in [&*reader, &revoker, &late] {
        for _ in 0..20 {
            assert!(!node.is_active(id).await);
        }
        node.caches.local.as_ref().unwrap().clear();
        assert!(!node.is_active(id).await, "not from the shared cache either");
    }
    drop(servers.postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_read_finds_a_revocation_that_was_heard_of_meanwhile() {
    race(true, Meanwhile::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_read_brings_nothing_back_when_the_shared_cache_has_lost_the_revocation() {
    race(true, Meanwhile::RedisIsFlushed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_read_kept_before_the_revocation_was_heard_of_is_dropped() {
    race(false, Meanwhile::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_read_told_the_shared_cache_counts_nowhere_once_the_revocation_is_heard_of() {
    race(false, Meanwhile::RedisIsFlushed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_has_found_another_takes_from_the_shared_cache() {
    let servers = Servers::start().await;
    let (first, second) = (servers.node().await, servers.node().await);
    for node in [&first, &second] {
        node.hold_nothing();
        node.follow().await;
    }
    let id = servers.key(1).await;
    let mut outcomes = Vec::new();
    for node in [&first, &first, &second, &second] {
        outcomes.push(node.resolver.find((TENANT, id), CachePolicy::default()).await.1);
    }
    assert_eq!(outcomes, [CacheOutcome::Miss, CacheOutcome::Hit, CacheOutcome::SharedHit, CacheOutcome::Hit]);
    assert_eq!(second.source.found.available_permits(), 0, "the second node has not asked the store");

    // An entry of a form that is not known is no entry, and no error.
    servers.redis.command(&format!("HSET keygate:key:{TENANT}:{id} format 99 record nonsense"));
    first.caches.local.as_ref().unwrap().clear();
    assert_eq!(first.resolver.find((TENANT, id), CachePolicy::default()).await.1, CacheOutcome::Miss);
}
