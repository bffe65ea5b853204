mod proof_cache;

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use rand::SeedableRng;
use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::cache::{Caches, KeyCache};
use crate::cidr::CidrSet;
use crate::clock::ManualClock;
use crate::credential::{Keyring, NewToken, Retired, mint};
use crate::key::{ApiKey, Metadata, Revocation, Status};
use crate::policy::Visibility;
use crate::request_context::RequestContext;
use crate::store::{KeySource, KeyStore, MemoryStore, StoreError};
use crate::verifier::CachePolicy;

const ISSUER: &str = "https://keys.example.com";
const CURRENT: &str = "the current secret, long enough for all";
const RETIRED: &str = "the retired secret, long enough for all";

struct Fixture {
    verifier: Verifier,
    cache: Arc<KeyCache<StoreError>>,
    signing_keys: Arc<ArcSwap<SigningKeys>>,
    revoked_parents: Arc<RevokedParents>,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
}

fn system() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

fn settings(retired: &[Retired<SecretString>]) -> Settings {
    Settings {
        tokens: TokenSettings {
            issuer: ISSUER.into(),
            issuers_retired: Vec::new(),
            clock_skew: chrono::TimeDelta::seconds(300),
            keyring: Arc::new(Keyring::new(&CURRENT.to_owned().into(), retired)),
            ignore_unknown_caveats: false,
        },
        routing: Routing::new(&["mc"]),
        prefixes: vec!["ak".into(), "old".into()],
        max_age: Duration::from_secs(1000),
        proof_cache: ProofCacheSettings { key: [7; 16], max_bytes: 1 << 20 },
    }
}

fn fixture(retired: &[Retired<SecretString>]) -> Fixture {
    fixture_of(settings(retired))
}

fn fixture_of(settings: Settings) -> Fixture {
    let store = Arc::new(MemoryStore::default());
    let clock = Arc::new(ManualClock::new(at(0)));
    let keys: Arc<dyn KeySource> = store.clone();
    let cache = Arc::new(KeyCache::new(1 << 20, Duration::from_secs(300)));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let revoked_parents = Arc::new(RevokedParents::new(Duration::from_secs(3600), 2));
    let resolver = Arc::new(KeyResolver::new(keys, Caches::alone(Some(cache.clone()), Arc::clone(&revoked_parents))));
    let signing_keys = Arc::default();
    let verifier = Verifier::new(
        settings,
        resolver,
        Arc::clone(&signing_keys),
        Arc::clone(&revoked_parents),
        clock.clone(),
        metrics,
    );
    Fixture { verifier, cache, signing_keys, revoked_parents, store, clock }
}

fn record(id: KeyId) -> ApiKey {
    ApiKey {
        name: "n".into(),
        actor_id: "a".into(),
        expire_time: Some(at(100)),
        version: 1,
        ..ApiKey::new(TenantId::NIL, id, at(0))
    }
}

impl Fixture {
    async fn key(&self, prefix: &str, secret: &str, issued_at: Timestamp, change: impl FnOnce(&mut ApiKey)) -> String {
        let keyring = Keyring::new(&secret.to_owned().into(), &[]);
        let mut rng = rand::rngs::StdRng::seed_from_u64(issued_at.timestamp().unsigned_abs());
        let (id, text) = mint(prefix, &keyring, issued_at, &mut rng).unwrap();
        let mut key = record(id);
        change(&mut key);
        self.store.insert(&system(), &key, None).await.unwrap();
        text.expose_secret().to_owned()
    }

    async fn verify(&self, credential: &str) -> Result<Verdict, Denial> {
        self.verify_from(credential, Some("192.0.2.1"), &[]).await
    }

    async fn verify_from(
        &self,
        credential: &str,
        client: Option<&str>,
        audiences: &[String],
    ) -> Result<Verdict, Denial> {
        let presented = Presented {
            tenant: TenantId::NIL,
            credential,
            client_ip: client.map(|address| address.parse().unwrap()),
            arrived: Instant::now(),
            audiences,
            cache: CachePolicy::default(),
            lookup_charge: None,
            revoke_with_parent: true,
        };
        self.verifier.verify(&presented).await.outcome
    }
}

#[tokio::test]
async fn valid_key_yields_its_actor_and_kind() {
    let fixture = fixture(&[]);
    let key = fixture.key("ak", CURRENT, at(0), |_| {}).await;
    let verdict = fixture.verify(&key).await.unwrap();
    assert_eq!((verdict.actor_id(), verdict.kind()), ("a", CredentialKind::Issued));
}

#[tokio::test]
async fn checks_run_in_the_contracts_order_whether_cached_or_not() {
    let unknown = |reason| Some(Denial::Unknown(reason));
    let fixture = fixture(&[Retired { value: RETIRED.to_owned().into(), expires_at: Some(at(50)) }]);
    let foreign = fixture.key("ak", "another secret, long enough for all too", at(0), |_| {}).await;
    let prefix = fixture.key("foreign", CURRENT, at(0), |_| {}).await;
    let ahead = fixture.key("ak", CURRENT, at(301), |_| {}).await;
    let skewed = fixture.key("ak", CURRENT, at(300), |_| {}).await;
    let aged = fixture.key("ak", CURRENT, at(-1001), |_| {}).await;
    let old = fixture.key("old", CURRENT, at(-1000), |_| {}).await;
    let retired = fixture.key("ak", RETIRED, at(1), |_| {}).await;
    let revoked = |key: &mut ApiKey| {
        key.status =
            Status::Revoked(Revocation { reason: crate::key::RevocationReason::Unspecified, description: None });
        key.expire_time = Some(at(-1));
    };
    let revoked = fixture.key("ak", CURRENT, at(2), revoked).await;
    let expired = fixture.key("ak", CURRENT, at(3), |key| key.expire_time = Some(at(-1))).await;
    let bound =
        fixture.key("ak", CURRENT, at(4), |key| key.networks = CidrSet::parse(&["192.0.2.0/24"]).unwrap()).await;
    for _ in 0..2 {
        for (key, expected) in [
            (&foreign, unknown(UnknownReason::Checksum)),
            (&prefix, unknown(UnknownReason::Prefix)),
            (&ahead, unknown(UnknownReason::Timestamp)),
            (&skewed, None),
            (&aged, unknown(UnknownReason::Timestamp)),
            (&old, None),
            (&retired, None),
            (&revoked, Some(Denial::Revoked)),
            (&expired, Some(Denial::Expired)),
            (&bound, None),
            (&"eyJa.b.c".to_owned(), Some(Denial::SignatureInvalid)),
            (&"anything else".to_owned(), unknown(UnknownReason::Absent)),
        ] {
            assert_eq!(fixture.verify(key).await.err(), expected, "{key}");
        }
    }
    let elsewhere = fixture.verify_from(&bound, Some("192.0.3.1"), &[]).await.err();
    assert_eq!(elsewhere, Some(Denial::AddressNotAllowed { known: true }));
    assert_eq!(fixture.verify_from(&bound, None, &[]).await.err(), Some(Denial::AddressNotAllowed { known: false }));
    let audience = fixture.verify_from(&bound, Some("192.0.2.1"), &["api".into()]).await.err();
    assert_eq!(audience, Some(Denial::AudienceMismatch));
    // The record is cached, not the verdict: it still expires.
    fixture.clock.set(at(50));
    assert_eq!(fixture.verify(&retired).await.err(), unknown(UnknownReason::Checksum));
    fixture.clock.set(at(101));
    assert_eq!(fixture.verify(&bound).await.err(), Some(Denial::Expired));
}

#[tokio::test]
async fn imported_key_is_found_by_its_digest() {
    let fixture = fixture(&[]);
    fixture.store.insert(&system(), &record(imported_key_id(TenantId::NIL, "sk_live_1")), None).await.unwrap();
    assert_eq!(fixture.verify("sk_live_1").await.unwrap().kind(), CredentialKind::Imported);
    assert!(fixture.verify("sk_live_2").await.is_err());
}

/// A store that must not be read, or that cannot be read.
struct Broken(Option<StoreError>);

#[async_trait]
impl KeySource for Broken {
    async fn find(&self, _: TenantId, _: KeyId) -> Result<Option<ApiKey>, StoreError> {
        Err(self.0.clone().expect("no lookup may be made"))
    }
}

fn over(store: Broken) -> Verifier {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let revoked_parents = Arc::new(RevokedParents::new(Duration::from_secs(3600), 2));
    let resolver = Arc::new(KeyResolver::new(Arc::new(store), Caches::alone(None, Arc::clone(&revoked_parents))));
    Verifier::new(settings(&[]), resolver, Arc::default(), revoked_parents, Arc::new(ManualClock::new(at(0))), metrics)
}

fn presented(credential: &str) -> Presented<'_> {
    Presented {
        tenant: TenantId::NIL,
        credential,
        client_ip: None,
        arrived: Instant::now(),
        audiences: &[],
        cache: CachePolicy::default(),
        lookup_charge: None,
        revoke_with_parent: true,
    }
}

#[tokio::test]
async fn forged_key_causes_no_lookup() {
    let keyring = Keyring::new(&RETIRED.to_owned().into(), &[]);
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let (_, forged) = mint("ak", &keyring, at(0), &mut rng).unwrap();
    let verification = over(Broken(None)).verify(&presented(forged.expose_secret())).await;
    assert_eq!(verification.outcome.err(), Some(Denial::Unknown(UnknownReason::Checksum)));
    assert_eq!(verification.cache, CacheOutcome::Skip);
}

#[tokio::test]
async fn store_failure_is_unavailable_and_not_a_denied_credential() {
    for error in [StoreError::Timeout, StoreError::Unavailable("x".into()), StoreError::Corrupt("x".into())] {
        let verification = over(Broken(Some(error))).verify(&presented("anything")).await;
        assert!(matches!(verification.outcome, Err(Denial::Unavailable { .. })));
    }
}

/// A macaroon of a key that was never looked up.
fn macaroon(parent: u128, networks: &CidrSet, audiences: &[String]) -> String {
    let keyring = Keyring::new(&CURRENT.to_owned().into(), &[]);
    new_token(parent, networks, audiences, |token| token.to_macaroon(ISSUER, "mc", &keyring))
}

fn new_token(
    parent: u128,
    networks: &CidrSet,
    audiences: &[String],
    write: impl FnOnce(NewToken<'_>) -> String,
) -> String {
    write(NewToken {
        jti: "j".into(),
        key_id: KeyId::Issued(uuid::Uuid::from_u128(parent)),
        tenant: TenantId::NIL,
        actor_id: "a",
        scopes: &["s"].into_iter().collect(),
        metadata: &Metadata::new(),
        networks,
        visibility: Visibility::Public,
        now: at(0),
        expire_time: at(60),
        audiences,
        custom: &Metadata::new(),
    })
}

#[tokio::test]
async fn token_is_judged_by_its_own_claims() {
    let fixture = fixture(&[]);
    let ranges = CidrSet::parse(&["192.0.2.0/24"]).unwrap();
    let token = macaroon(1, &ranges, &["api".to_owned()]);
    let expected = ["api".to_owned()];
    let verdict = fixture.verify_from(&token, Some("192.0.2.9"), &expected).await.unwrap();
    assert_eq!((verdict.kind(), verdict.expire_time()), (CredentialKind::DerivedMacaroon, Some(at(60))));
    assert_eq!((verdict.audiences(), verdict.visibility()), (&expected[..], Visibility::Public));
    assert!(verdict.is_address_bound() && verdict.rate_limit().is_none() && verdict.record().is_none());
    let refused = fixture.verify_from(&token, Some("192.0.3.9"), &expected).await.err();
    assert_eq!(refused, Some(Denial::AddressNotAllowed { known: true }));
    let refused = fixture.verify_from(&token, None, &expected).await.err();
    assert_eq!(refused, Some(Denial::AddressNotAllowed { known: false }));
    let refused = fixture.verify_from(&token, Some("192.0.2.9"), &[]).await.err();
    assert_eq!(refused, Some(Denial::AudienceMismatch));
    assert_eq!(fixture.verify("mc_v1_AgEX").await.err(), Some(Denial::SignatureInvalid));
}

#[tokio::test]
async fn token_of_a_revoked_parent_is_denied_if_required() {
    let fixture = fixture(&[]);
    let token = |parent| macaroon(parent, &CidrSet::default(), &[]);
    assert!(fixture.verify(&token(1)).await.is_ok());
    let parent = |number| (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(number)));
    fixture.revoked_parents.add(parent(1), at(0), at(0));
    assert_eq!(fixture.verify(&token(1)).await.err(), Some(Denial::Revoked));
    let text = token(1);
    let by_contract = Presented { revoke_with_parent: false, ..presented(&text) };
    assert!(fixture.verifier.verify(&by_contract).await.outcome.is_ok());

    // More revoked parents than the set holds: the record decides.
    fixture.revoked_parents.add(parent(2), at(0), at(0));
    fixture.revoked_parents.add(parent(3), at(0), at(0));
    fixture.store.insert(&system(), &record(parent(4).1), None).await.unwrap();
    assert!(fixture.verify(&token(4)).await.is_ok());
    assert_eq!(fixture.verify(&token(3)).await.err(), Some(Denial::Revoked), "deleted");
}

/// A store that can be switched off.
#[derive(Default)]
struct SwitchedStore {
    store: MemoryStore,
    is_down: AtomicBool,
}

#[async_trait]
impl KeySource for SwitchedStore {
    async fn find(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        if self.is_down.load(Ordering::SeqCst) { Err(StoreError::Timeout) } else { self.store.find(tenant, id).await }
    }
}

/// A verifier whose cached records are stale at once, and its parts.
fn stale_at_once() -> (Verifier, Arc<KeyCache<StoreError>>, Arc<SwitchedStore>) {
    let store = Arc::new(SwitchedStore::default());
    let cache = Arc::new(KeyCache::with_stale(1 << 20, Duration::ZERO, Duration::from_secs(60)));
    let revoked_parents = Arc::new(RevokedParents::new(Duration::from_secs(3600), 2));
    let caches = Caches::alone(Some(Arc::clone(&cache)), Arc::clone(&revoked_parents));
    let resolver = Arc::new(KeyResolver::new(store.clone(), caches));
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let clock = Arc::new(ManualClock::new(at(0)));
    let verifier = Verifier::new(settings(&[]), resolver, Arc::default(), revoked_parents, clock, metrics);
    (verifier, cache, store)
}

impl Verifier {
    /// The limit of a macaroon of this parent.
    async fn limit_of_token(&self, parent: u128) -> Result<Option<RateLimitPolicy>, StoreError> {
        let verdict = self.verify(&presented(&macaroon(parent, &CidrSet::default(), &[]))).await.outcome.unwrap();
        self.rate_limit(&verdict, Instant::now(), &mut ConnectionMemory::default()).await
    }
}

#[tokio::test]
async fn token_has_the_rate_limit_of_its_parent() {
    let (verifier, _, store) = stale_at_once();
    let limit = RateLimitPolicy { quota: 7.try_into().unwrap(), window: Duration::from_secs(60) };
    let parent = ApiKey { rate_limit: Some(limit), ..record(KeyId::Issued(uuid::Uuid::from_u128(1))) };
    store.store.insert(&system(), &parent, None).await.unwrap();
    assert_eq!(verifier.limit_of_token(1).await.unwrap(), Some(limit));
    assert_eq!(verifier.limit_of_token(2).await.unwrap(), None, "there is no such parent");
}

#[tokio::test]
async fn token_has_the_cached_rate_limit_of_its_parent_while_the_store_is_unavailable() {
    let (verifier, _, store) = stale_at_once();
    let limit = RateLimitPolicy { quota: 7.try_into().unwrap(), window: Duration::from_secs(60) };
    let parent = ApiKey { rate_limit: Some(limit), ..record(KeyId::Issued(uuid::Uuid::from_u128(1))) };
    store.store.insert(&system(), &parent, None).await.unwrap();
    verifier.limit_of_token(1).await.unwrap();
    store.is_down.store(true, Ordering::SeqCst);
    assert_eq!(verifier.limit_of_token(1).await.unwrap(), Some(limit));
}

#[tokio::test]
async fn rate_limit_of_a_token_is_an_error_if_its_parent_is_neither_cached_nor_readable() {
    let (verifier, cache, store) = stale_at_once();
    store
        .store
        .insert(
            &crate::request_context::RequestContext::system(TenantId::NIL),
            &record(KeyId::Issued(uuid::Uuid::from_u128(1))),
            None,
        )
        .await
        .unwrap();
    verifier.limit_of_token(1).await.unwrap();
    store.is_down.store(true, Ordering::SeqCst);
    cache.clear();
    assert!(matches!(verifier.limit_of_token(1).await, Err(StoreError::Timeout)));
}

#[tokio::test]
async fn lookup_that_another_request_has_completed_meanwhile_is_not_repeated() {
    let fixture = fixture(&[]);
    let key = fixture.key("ak", CURRENT, at(0), |_| {}).await;
    let presented = Presented::new(TenantId::NIL, &key, Instant::now());
    let mut connection = ConnectionMemory::default();
    let Err(pending) = fixture.verifier.verify_now(&presented, &mut connection) else {
        panic!("the key is not cached");
    };
    fixture.verify(&key).await.unwrap();
    let verification = fixture.verifier.verify_later(&presented, &mut connection, pending).await;
    assert!(verification.outcome.is_ok());
    assert_eq!(verification.cache, CacheOutcome::Hit, "the store was read again");
}
