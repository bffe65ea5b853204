//! The race between a slow read and a revocation: a read has found a key active and is delayed, the key is revoked on another node, the
//! read continues. The nodes are built from the library's parts over real servers, so that a read can be delayed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use keygate::cache::{
    Caches, Freshness, Invalidation, KeyCache, OnDatabaseDown, RedisStorage, RevokedParents, SharedCache,
};
use keygate::cache_sync::{self, CacheSync};
use keygate::clock::{Clock, SystemClock};
use keygate::config::RedisConfig;
use keygate::id::{KeyId, TenantId};
use keygate::key::{ApiKey, EffectiveStatus, Revocation, RevocationReason};
use keygate::redis::Redis as Connection;
use keygate::request_context::RequestContext;
use keygate::store::{KeySource, KeyStore, Migration, PostgresOptions, PostgresStore, Revoked, StoreError};
use keygate::verifier::{CacheOutcome, KeyResolver, Lookup};
use tokio::sync::Semaphore;

use keygate_test_servers::{Postgres, Redis};

const TENANT: TenantId = TenantId::NIL;
const TTL: Duration = Duration::from_secs(60);

/// A store whose reads can be delayed after they have a result.
struct DelayedStore {
    store: Arc<PostgresStore>,
    /// One permit for each read that may continue; closed when all may.
    gate: Semaphore,
    /// One permit for each read that has a result.
    found: Semaphore,
}

/// A node: its resolver over a store that can be delayed, its caches and their synchronisation.
struct Node {
    source: Arc<DelayedStore>,
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
impl KeySource for DelayedStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let found = self.store.find(tenant, id).await;
        self.found.add_permits(1);
        // An error means that the gate is closed.
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

    /// A node that knows all changes until now.
    async fn node(&self) -> Node {
        let settings = RedisConfig { addrs: vec![self.redis.address()], ..RedisConfig::default() };
        let redis = Arc::new(Connection::new(&settings).unwrap());
        let connection = Arc::clone(&redis);
        tokio::spawn(async move { connection.keep_connected().await });
        redis.connected(Duration::from_secs(10)).await;
        let storage = Arc::new(RedisStorage::new(redis));
        let freshness = Arc::new(Freshness::new(TTL, OnDatabaseDown::Deny, Instant::now()));
        let caches = Caches {
            local: Some(Arc::new(KeyCache::new(1 << 20, TTL))),
            shared: Some(Arc::new(SharedCache::new(storage, TTL, Instant::now()))),
            revoked_parents: Arc::new(RevokedParents::new(TTL, 100)),
            freshness: Arc::clone(&freshness),
            changes: Arc::default(),
        };
        let source = Arc::new(DelayedStore {
            store: Arc::clone(&self.store),
            gate: Semaphore::new(0),
            found: Semaphore::new(0),
        });
        let keys: Arc<dyn KeySource> = Arc::<DelayedStore>::clone(&source);
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
        let key = ApiKey { name: "delayed".into(), actor_id: "tester".into(), ..ApiKey::new(TENANT, id, now) };
        self.store.insert(&RequestContext::system(TENANT), &key, None).await.unwrap();
        id
    }

    /// Revokes a key as a node does: in the store, then in its own caches.
    async fn revoke(&self, id: KeyId, by: &Node) {
        let revocation = Revocation { reason: RevocationReason::KeyCompromise, description: None };
        let context = RequestContext::system(TENANT);
        let revoked = self.store.revoke(&context, id, &revocation, SystemClock.now()).await.unwrap();
        let Revoked::Done(key) = revoked else {
            panic!("{id} was active");
        };
        by.caches.apply(&Invalidation::writing_through(&key), SystemClock.now()).await;
    }
}

impl Node {
    /// Applies changes from now on.
    async fn follow(&self) {
        let position = self.cache_sync.begin().await.unwrap();
        let cache_sync = Arc::clone(&self.cache_sync);
        tokio::spawn(async move { cache_sync.follow(position).await });
    }

    fn delay_nothing(&self) {
        self.source.gate.close();
    }

    async fn is_active(&self, id: KeyId) -> bool {
        let (found, _) = self.resolver.find(Lookup::new((TENANT, id), Instant::now())).await;
        found.unwrap().unwrap().effective_status(SystemClock.now()) == EffectiveStatus::Active
    }

    /// Waits until the revocation of a key has reached this node, whatever the shared cache has.
    async fn wait_for_refusal(&self, id: KeyId) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.is_active(id).await {
            assert!(Instant::now() < deadline, "the change does not arrive");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What happens before the delayed read continues.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    /// Redis loses the revoked record.
    RedisIsFlushed,
}

async fn race(follow_first: bool, meanwhile: Meanwhile) {
    let servers = Servers::start().await;
    let (reader, revoker) = (servers.node().await, servers.node().await);
    revoker.delay_nothing();
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
        // The feed is read at once; its change must be applied before the delayed read continues.
        tokio::time::sleep(Duration::from_millis(500)).await;
        reader.delay_nothing();
        assert!(!reading.await.unwrap(), "a read that ends after the change was applied returns the change");
        assert_eq!(reader.caches.local.as_ref().unwrap().refusals().get(), 1, "the outdated result was refused");
    } else {
        reader.delay_nothing();
        let _ = reading.await.unwrap();
        drop(follow());
        reader.wait_for_refusal(id).await;
    }
    // Permanently and on every node, whatever the shared cache has, also on a node that starts now.
    let late = servers.node().await;
    late.delay_nothing();
    late.follow().await;
    for node in [&*reader, &revoker, &late] {
        for _ in 0..20 {
            assert!(!node.is_active(id).await);
        }
        node.caches.local.as_ref().unwrap().clear();
        assert!(!node.is_active(id).await, "the shared cache does not give the old record either");
    }
    drop(servers.postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_read_returns_a_revocation_that_was_applied_meanwhile() {
    race(true, Meanwhile::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_read_does_not_bring_a_key_back_when_the_shared_cache_lost_the_revocation() {
    race(true, Meanwhile::RedisIsFlushed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_cached_before_the_revocation_was_applied_is_removed() {
    race(false, Meanwhile::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outdated_record_in_the_shared_cache_is_not_used_once_the_revocation_was_applied() {
    race(false, Meanwhile::RedisIsFlushed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_that_one_node_has_read_is_a_shared_hit_on_another() {
    let servers = Servers::start().await;
    let (first, second) = (servers.node().await, servers.node().await);
    for node in [&first, &second] {
        node.delay_nothing();
        node.follow().await;
    }
    let id = servers.key(1).await;
    let mut outcomes = Vec::new();
    for node in [&first, &first, &second, &second] {
        outcomes.push(node.resolver.find(Lookup::new((TENANT, id), Instant::now())).await.1);
    }
    assert_eq!(outcomes, [CacheOutcome::Miss, CacheOutcome::Hit, CacheOutcome::SharedHit, CacheOutcome::Hit]);
    assert_eq!(second.source.found.available_permits(), 0, "the second node has not read the store");

    // An entry of an unknown format is a miss, not an error.
    servers.redis.command(&format!("HSET keygate:key:{TENANT}:{id} format 99 record nonsense"));
    first.caches.local.as_ref().unwrap().clear();
    assert_eq!(first.resolver.find(Lookup::new((TENANT, id), Instant::now())).await.1, CacheOutcome::Miss);
}
