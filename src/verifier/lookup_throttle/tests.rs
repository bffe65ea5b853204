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
use crate::cidr::CidrSet;
use crate::clock::{ManualClock, SystemClock, Timestamp};
use crate::credential::{Keyring, Routing, TokenSettings, imported_key_id, mint};
use crate::id::{KeyId, TenantId};
use crate::key::{Metadata, Status};
use crate::policy::{Scopes, Visibility};
use crate::store::{KeyStore, MemoryStore};
use crate::verifier::{
    CacheOutcome, CachePolicy, Denial, KeyResolver, Metrics, Outage, Presented, ProofCacheSettings, Settings, Verifier,
};

/// Long enough for a machine that is busy with other things.
const GENEROUS: Duration = Duration::from_secs(60);
const CLIENT: &str = "192.0.2.1";
const SECRET: &str = "the current secret, long enough for all";

/// Counts what it is asked. Statements for many keys wait until they are let through.
struct Counting {
    keys: MemoryStore,
    finds: AtomicUsize,
    statements: AtomicUsize,
    largest: AtomicUsize,
    gate: Semaphore,
}

#[async_trait]
impl KeySource for Counting {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.finds.fetch_add(1, Ordering::SeqCst);
        // Whoever asks a database waits.
        tokio::task::yield_now().await;
        self.keys.find(tenant, id).await
    }

    async fn find_many(&self, keys: &[(TenantId, KeyId)]) -> Result<Vec<ApiKey>, StoreError> {
        self.statements.fetch_add(1, Ordering::SeqCst);
        self.largest.fetch_max(keys.len(), Ordering::SeqCst);
        let _open = self.gate.acquire().await.unwrap();
        self.keys.find_many(keys).await
    }
}

struct Fixture {
    verifier: Arc<Verifier>,
    store: Arc<Counting>,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

fn record(id: KeyId) -> ApiKey {
    ApiKey {
        tenant: TenantId::NIL,
        id,
        name: "n".into(),
        actor_id: "a".into(),
        scopes: Scopes::default(),
        metadata: Metadata::new(),
        status: Status::Active,
        visibility: Visibility::Secret,
        create_time: at(0),
        update_time: at(0),
        expire_time: None,
        last_used_time: None,
        rate_limit: None,
        networks: CidrSet::default(),
        version: 1,
    }
}

fn bench(guarded: LookupThrottleSettings) -> Fixture {
    let store = Arc::new(Counting {
        keys: MemoryStore::default(),
        finds: AtomicUsize::new(0),
        statements: AtomicUsize::new(0),
        largest: AtomicUsize::new(0),
        gate: Semaphore::new(0),
    });
    let (throttle, batcher) = lookup_throttle(
        guarded,
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
        self.store.keys.insert(&record(imported_key_id(TenantId::NIL, credential)), None).await.unwrap();
    }

    async fn issue(&self) -> String {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let (id, text) = mint("ak", &keyring(), at(0), &mut rng).unwrap();
        self.store.keys.insert(&record(id), None).await.unwrap();
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
            cache: CachePolicy { charge: client_ip, ..CachePolicy::default() },
            revoke_with_parent: true,
        };
        let verification = timeout(GENEROUS, self.verifier.verify(&presented)).await.expect("nobody waits for ever");
        (verification.outcome.map(drop), verification.cache)
    }

    /// Uses up what an address may cause.
    async fn exhaust(&self, address: &str, burst: u32) {
        for number in 0..burst {
            assert!(self.verify(&format!("exhausting {number}"), address).await.0.is_err());
        }
    }

    fn finds(&self) -> usize {
        self.store.finds.load(Ordering::SeqCst)
    }

    fn statements(&self) -> usize {
        self.store.statements.load(Ordering::SeqCst)
    }
}

/// None comes back within a test.
const SLOW: LookupThrottleSettings = LookupThrottleSettings { burst: 10, per_second: 1, waiting: 10_000 };

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_strings_costs_few_statements_and_a_good_key_gets_in_among_them() {
    const FLOOD: usize = 20_000;
    const AT_ONCE: usize = 2_000;
    let bench = Arc::new(bench(SLOW));
    bench.store.gate.add_permits(1);
    for number in 0..20 {
        bench.import(&format!("sk_live_{number}")).await;
    }
    let begun = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let flood: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (bench, next) = (Arc::clone(&bench), Arc::clone(&next));
            tokio::spawn(async move {
                let mut refused = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= FLOOD {
                        return refused;
                    }
                    let (outcome, _) = bench.verify(&format!("garbage {number}"), CLIENT).await;
                    refused += usize::from(matches!(outcome, Err(Denial::Unknown(_))));
                }
            })
        })
        .collect();
    for number in 0..20 {
        let (outcome, cache) = bench.verify(&format!("sk_live_{number}"), CLIENT).await;
        assert_eq!((outcome, cache), (Ok(()), CacheOutcome::Miss), "{number}");
    }
    let mut refused = 0;
    for caller in flood {
        refused += caller.await.unwrap();
    }
    assert_eq!(refused, FLOOD, "every string was judged, and none is said to be what it is not");
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(bench.finds() <= 10 + 20 + seconds, "{} lookups alone", bench.finds());
    // At most one every 50 ms, and as few as hold what waits.
    assert!(bench.statements() <= 20 * seconds, "{} statements in {seconds} s", bench.statements());
    assert!(bench.store.largest.load(Ordering::SeqCst) <= 500);
}

#[tokio::test]
async fn what_needs_no_lookup_in_vain_never_waits() {
    let bench = bench(SLOW);
    bench.import("sk_live_cached").await;
    let issued = bench.issue().await;
    assert_eq!(bench.verify("sk_live_cached", CLIENT).await, (Ok(()), CacheOutcome::Miss));
    bench.exhaust(CLIENT, 10).await;
    // Statements for many wait without end, so whoever is answered was not among them.
    let asked = bench.finds();
    assert_eq!(bench.verify("sk_live_cached", CLIENT).await, (Ok(()), CacheOutcome::Hit));
    assert_eq!(bench.verify("exhausting 1", CLIENT).await.1, CacheOutcome::Hit);
    assert_eq!(bench.verify(&issued, CLIENT).await, (Ok(()), CacheOutcome::Miss));
    assert_eq!(bench.finds(), asked + 1);
    bench.import("sk_live_elsewhere").await;
    assert_eq!(bench.verify("sk_live_elsewhere", "192.0.2.2").await.0, Ok(()));
    assert_eq!(bench.statements(), 0);
}

#[tokio::test]
async fn good_keys_use_up_nothing() {
    let bench = bench(SLOW);
    for number in 0..100 {
        bench.import(&format!("sk_live_{number}")).await;
        assert_eq!(bench.verify(&format!("sk_live_{number}"), CLIENT).await.0, Ok(()));
    }
    assert_eq!((bench.finds(), bench.statements()), (100, 0));
}

#[tokio::test]
async fn what_does_not_fit_among_those_that_wait_is_our_fault() {
    let bench = Arc::new(bench(LookupThrottleSettings { waiting: 5, ..SLOW }));
    bench.exhaust(CLIENT, 10).await;
    // One is under way and five wait: the next one is told to come back.
    let wait = |credential: String| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.verify(&credential, CLIENT).await.0 })
    };
    let first = wait("waiting".into());
    while bench.statements() == 0 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..6).map(|number| wait(format!("waiting {number}"))).collect();
    let busy = Err(Denial::Unavailable { cause: Outage::Busy });
    let finished = async {
        while !others.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
    };
    timeout(GENEROUS, finished).await.unwrap();
    bench.store.gate.add_permits(1);
    let mut outcomes = vec![first.await.unwrap()];
    for other in others {
        outcomes.push(other.await.unwrap());
    }
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == busy).count(), 1, "{outcomes:?}");
    bench.import("sk_live_late").await;
    assert_eq!(bench.verify("sk_live_late", CLIENT).await.0, Ok(()), "once there is room, all is as before");
}
