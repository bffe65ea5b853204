use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use prometheus::Registry;
use rand::SeedableRng;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::cache::{Caches, KeyCache, RevokedParents};
use crate::clock::{ManualClock, SystemClock, Timestamp};
use crate::credential::{Keyring, Routing, TokenSettings, imported_key_id, mint};
use crate::id::{KeyId, TenantId};
use crate::request_context::RequestContext;
use crate::store::{KeyStore, MemoryStore};
use crate::verifier::{
    CacheOutcome, CachePolicy, Denial, KeyResolver, Metrics, Outage, Presented, ProofCacheSettings, Settings, Verifier,
};

/// Long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);
const CLIENT: &str = "192.0.2.1";
const SECRET: &str = "the current secret, long enough for all";

/// A store that counts its calls. Batches wait for a permit of `gate`.
struct CountingStore {
    keys: MemoryStore,
    finds: AtomicUsize,
    batches: AtomicUsize,
    largest_batch: AtomicUsize,
    gate: Semaphore,
}

#[async_trait]
impl KeySource for CountingStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.finds.fetch_add(1, Ordering::SeqCst);
        // Other tasks run, as while a caller waits for a database.
        tokio::task::yield_now().await;
        self.keys.find(tenant, id).await
    }

    async fn find_many(&self, keys: &[(TenantId, KeyId)]) -> Result<Vec<ApiKey>, StoreError> {
        self.batches.fetch_add(1, Ordering::SeqCst);
        self.largest_batch.fetch_max(keys.len(), Ordering::SeqCst);
        let _permit = self.gate.acquire().await.unwrap();
        self.keys.find_many(keys).await
    }
}

struct Fixture {
    verifier: Arc<Verifier>,
    store: Arc<CountingStore>,
}

fn system() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

fn api_key(id: KeyId) -> ApiKey {
    ApiKey { name: "n".into(), actor_id: "a".into(), version: 1, ..ApiKey::new(TenantId::NIL, id, at(0)) }
}

fn fixture(throttling: LookupThrottleSettings) -> Fixture {
    let store = Arc::new(CountingStore {
        keys: MemoryStore::default(),
        finds: AtomicUsize::new(0),
        batches: AtomicUsize::new(0),
        largest_batch: AtomicUsize::new(0),
        gate: Semaphore::new(0),
    });
    let (throttle, batcher) = lookup_throttle(
        throttling,
        store.clone(),
        Arc::new(SystemClock),
        &LookupThrottleMetrics::register(&Registry::new()).unwrap(),
    );
    tokio::spawn(batcher.run());
    let revoked_parents = Arc::new(RevokedParents::new(Duration::from_secs(3600), 2));
    let cache = Arc::new(KeyCache::new(1 << 20, Duration::from_secs(300)));
    let resolver = KeyResolver::new(store.clone(), Caches::alone(Some(cache), Arc::clone(&revoked_parents)));
    let settings = Settings {
        tokens: TokenSettings {
            issuer: "https://keys.example.com".into(),
            issuers_retired: Vec::new(),
            clock_skew: chrono::TimeDelta::seconds(300),
            keyring: Arc::new(keyring()),
            ignore_unknown_caveats: false,
        },
        routing: Routing::new(&["mc"]),
        prefixes: vec!["ak".into()],
        max_age: Duration::from_secs(1000),
        proof_cache: ProofCacheSettings { key: [7; 16], max_bytes: 0 },
    };
    let clock = Arc::new(ManualClock::new(at(0)));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    let resolver = Arc::new(resolver.throttled(Arc::new(throttle)));
    let verifier = Verifier::new(settings, resolver, Arc::default(), revoked_parents, clock, metrics);
    Fixture { verifier: Arc::new(verifier), store }
}

fn keyring() -> Keyring {
    Keyring::new(&SECRET.to_owned().into(), &[])
}

impl Fixture {
    async fn import(&self, credential: &str) {
        self.store.keys.insert(&system(), &api_key(imported_key_id(TenantId::NIL, credential)), None).await.unwrap();
    }

    async fn issue(&self) -> String {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let (id, text) = mint("ak", &keyring(), at(0), &mut rng).unwrap();
        self.store.keys.insert(&system(), &api_key(id), None).await.unwrap();
        text.expose_secret().to_owned()
    }

    async fn verify(&self, credential: &str, address: &str) -> (Result<(), Denial>, CacheOutcome) {
        let client_ip = Some(address.parse().unwrap());
        let presented = Presented {
            tenant: TenantId::NIL,
            credential,
            client_ip,
            arrived: Instant::now(),
            audiences: &[],
            cache: CachePolicy::default(),
            lookup_charge: client_ip,
            revoke_with_parent: true,
        };
        let verification = timeout(TIMEOUT, self.verifier.verify(&presented)).await.expect("verification finishes");
        (verification.outcome.map(drop), verification.cache)
    }

    /// Uses up the guessing budget of an address.
    async fn exhaust(&self, address: &str, burst: u32) {
        for number in 0..burst {
            assert!(self.verify(&format!("exhausting {number}"), address).await.0.is_err());
        }
    }

    fn finds(&self) -> usize {
        self.store.finds.load(Ordering::SeqCst)
    }

    fn batches(&self) -> usize {
        self.store.batches.load(Ordering::SeqCst)
    }
}

/// A budget that is hardly refilled within a test.
const SLOW: LookupThrottleSettings = LookupThrottleSettings { burst: 10, per_second: 1, waiting: 10_000 };

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_unknown_credentials_is_batched_and_valid_keys_pass() {
    const FLOOD: usize = 20_000;
    const CONCURRENCY: usize = 2_000;
    let fixture = Arc::new(fixture(SLOW));
    fixture.store.gate.add_permits(1);
    for number in 0..20 {
        fixture.import(&format!("sk_live_{number}")).await;
    }
    let begun = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let flood: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (fixture, next) = (Arc::clone(&fixture), Arc::clone(&next));
            tokio::spawn(async move {
                let mut rejected = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= FLOOD {
                        return rejected;
                    }
                    let (outcome, _) = fixture.verify(&format!("unknown {number}"), CLIENT).await;
                    rejected += usize::from(matches!(outcome, Err(Denial::Unknown(_))));
                }
            })
        })
        .collect();
    for number in 0..20 {
        let (outcome, cache) = fixture.verify(&format!("sk_live_{number}"), CLIENT).await;
        assert_eq!((outcome, cache), (Ok(()), CacheOutcome::Miss), "{number}");
    }
    let mut rejected = 0;
    for caller in flood {
        rejected += caller.await.unwrap();
    }
    assert_eq!(rejected, FLOOD, "every unknown credential is rejected as unknown");
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(fixture.finds() <= 10 + 20 + seconds, "{} single lookups", fixture.finds());
    // At most one every 50 ms, of at most 500 lookups.
    assert!(fixture.batches() <= 20 * seconds, "{} batches in {seconds} s", fixture.batches());
    assert!(fixture.store.largest_batch.load(Ordering::SeqCst) <= 500);
}

#[tokio::test]
async fn cache_hits_and_checksummed_keys_are_not_throttled() {
    let fixture = fixture(SLOW);
    fixture.import("sk_live_cached").await;
    let issued = fixture.issue().await;
    assert_eq!(fixture.verify("sk_live_cached", CLIENT).await, (Ok(()), CacheOutcome::Miss));
    fixture.exhaust(CLIENT, 10).await;
    // Batches wait for ever, so a lookup that completes was not batched.
    let finds = fixture.finds();
    assert_eq!(fixture.verify("sk_live_cached", CLIENT).await, (Ok(()), CacheOutcome::Hit));
    assert_eq!(fixture.verify("exhausting 1", CLIENT).await.1, CacheOutcome::Hit);
    assert_eq!(fixture.verify(&issued, CLIENT).await, (Ok(()), CacheOutcome::Miss));
    assert_eq!(fixture.finds(), finds + 1);
    fixture.import("sk_live_elsewhere").await;
    assert_eq!(fixture.verify("sk_live_elsewhere", "192.0.2.2").await.0, Ok(()));
    assert_eq!(fixture.batches(), 0);
}

#[tokio::test]
async fn successful_lookups_do_not_use_up_the_budget() {
    let fixture = fixture(SLOW);
    for number in 0..100 {
        fixture.import(&format!("sk_live_{number}")).await;
        assert_eq!(fixture.verify(&format!("sk_live_{number}"), CLIENT).await.0, Ok(()));
    }
    assert_eq!((fixture.finds(), fixture.batches()), (100, 0));
}

#[tokio::test]
async fn lookup_above_the_pending_limit_is_unavailable() {
    let fixture = Arc::new(fixture(LookupThrottleSettings { waiting: 5, ..SLOW }));
    fixture.exhaust(CLIENT, 10).await;
    // One is in a batch and five are pending: the next one fails.
    let wait = |credential: String| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move { fixture.verify(&credential, CLIENT).await.0 })
    };
    let first = wait("waiting".into());
    while fixture.batches() == 0 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..6).map(|number| wait(format!("waiting {number}"))).collect();
    let busy = Err(Denial::Unavailable { cause: Outage::Busy });
    let finished = async {
        while !others.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, finished).await.unwrap();
    fixture.store.gate.add_permits(1);
    let mut outcomes = vec![first.await.unwrap()];
    for other in others {
        outcomes.push(other.await.unwrap());
    }
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == busy).count(), 1, "{outcomes:?}");
    fixture.import("sk_live_late").await;
    assert_eq!(
        fixture.verify("sk_live_late", CLIENT).await.0,
        Ok(()),
        "lookups succeed again when the queue has space"
    );
}
