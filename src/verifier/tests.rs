mod proof_cache;

use async_trait::async_trait;
use rand::SeedableRng;
use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::cache::{Caches, KeyCache};
use crate::cidr::CidrSet;
use crate::clock::ManualClock;
use crate::credential::{Keyring, NewToken, Retired, mint};
use crate::key::{ApiKey, Metadata, Revocation, Status};
use crate::policy::{Scopes, Visibility};
use crate::request_context::RequestContext;
use crate::store::{KeySource, KeyStore, MemoryStore, StoreError};

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
        },
        routing: Routing::new(&["mc"]),
        prefixes: vec!["ak".into(), "old".into()],
        max_age: Duration::from_secs(1000),
        proof_cache: ProofCacheSettings { key: [7; 16], max_bytes: 1 << 20 },
    }
}

fn bench(retired: &[Retired<SecretString>]) -> Fixture {
    bench_of(settings(retired))
}

fn bench_of(settings: Settings) -> Fixture {
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
        expire_time: Some(at(100)),
        last_used_time: None,
        rate_limit: None,
        networks: CidrSet::default(),
        version: 1,
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
            revoke_with_parent: true,
        };
        self.verifier.verify(&presented).await.outcome
    }
}

#[tokio::test]
async fn a_good_key_is_who_it_is() {
    let bench = bench(&[]);
    let key = bench.key("ak", CURRENT, at(0), |_| {}).await;
    let verdict = bench.verify(&key).await.unwrap();
    assert_eq!((verdict.actor_id(), verdict.kind()), ("a", CredentialKind::Issued));
}

#[tokio::test]
async fn checks_come_in_order_cached_or_not() {
    let unknown = |reason| Some(Denial::Unknown(reason));
    let bench = bench(&[Retired { value: RETIRED.to_owned().into(), expires_at: Some(at(50)) }]);
    let foreign = bench.key("ak", "nobody's secret, but long enough too", at(0), |_| {}).await;
    let prefix = bench.key("foreign", CURRENT, at(0), |_| {}).await;
    let ahead = bench.key("ak", CURRENT, at(301), |_| {}).await;
    let skewed = bench.key("ak", CURRENT, at(300), |_| {}).await;
    let aged = bench.key("ak", CURRENT, at(-1001), |_| {}).await;
    let old = bench.key("old", CURRENT, at(-1000), |_| {}).await;
    let retired = bench.key("ak", RETIRED, at(1), |_| {}).await;
    let revoked = |key: &mut ApiKey| {
        key.status =
            Status::Revoked(Revocation { reason: crate::key::RevocationReason::Unspecified, description: None });
        key.expire_time = Some(at(-1));
    };
    let revoked = bench.key("ak", CURRENT, at(2), revoked).await;
    let expired = bench.key("ak", CURRENT, at(3), |key| key.expire_time = Some(at(-1))).await;
    let bound = bench.key("ak", CURRENT, at(4), |key| key.networks = CidrSet::parse(&["192.0.2.0/24"]).unwrap()).await;
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
            assert_eq!(bench.verify(key).await.err(), expected, "{key}");
        }
    }
    let elsewhere = bench.verify_from(&bound, Some("192.0.3.1"), &[]).await.err();
    assert_eq!(elsewhere, Some(Denial::AddressNotAllowed { known: true }));
    assert_eq!(bench.verify_from(&bound, None, &[]).await.err(), Some(Denial::AddressNotAllowed { known: false }));
    let audience = bench.verify_from(&bound, Some("192.0.2.1"), &["api".into()]).await.err();
    assert_eq!(audience, Some(Denial::AudienceMismatch));
    // What is cached is the record: time goes on for it.
    bench.clock.set(at(50));
    assert_eq!(bench.verify(&retired).await.err(), unknown(UnknownReason::Checksum));
    bench.clock.set(at(101));
    assert_eq!(bench.verify(&bound).await.err(), Some(Denial::Expired));
}

#[tokio::test]
async fn an_imported_key_is_found_by_its_digest() {
    let bench = bench(&[]);
    bench.store.insert(&system(), &record(imported_key_id(TenantId::NIL, "sk_live_1")), None).await.unwrap();
    assert_eq!(bench.verify("sk_live_1").await.unwrap().kind(), CredentialKind::Imported);
    assert!(bench.verify("sk_live_2").await.is_err());
}

/// A store that must not be asked, or that cannot answer.
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
        revoke_with_parent: true,
    }
}

#[tokio::test]
async fn a_forged_key_causes_no_lookup() {
    let keyring = Keyring::new(&RETIRED.to_owned().into(), &[]);
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let (_, forged) = mint("ak", &keyring, at(0), &mut rng).unwrap();
    let verification = over(Broken(None)).verify(&presented(forged.expose_secret())).await;
    assert_eq!(verification.outcome.err(), Some(Denial::Unknown(UnknownReason::Checksum)));
    assert_eq!(verification.cache, CacheOutcome::Skip);
}

#[tokio::test]
async fn a_store_that_cannot_answer_is_our_fault_and_nobody_elses() {
    for error in [StoreError::Timeout, StoreError::Unavailable("x".into()), StoreError::Corrupt("x".into())] {
        let verification = over(Broken(Some(error))).verify(&presented("anything")).await;
        assert!(matches!(verification.outcome, Err(Denial::Unavailable { .. })));
    }
}

/// A macaroon of a key that nobody has looked up.
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
async fn a_token_is_judged_by_itself_and_by_its_own_rules() {
    let bench = bench(&[]);
    let ranges = CidrSet::parse(&["192.0.2.0/24"]).unwrap();
    let token = macaroon(1, &ranges, &["api".to_owned()]);
    let expected = ["api".to_owned()];
    let verdict = bench.verify_from(&token, Some("192.0.2.9"), &expected).await.unwrap();
    assert_eq!((verdict.kind(), verdict.expire_time()), (CredentialKind::DerivedMacaroon, Some(at(60))));
    assert_eq!((verdict.audiences(), verdict.visibility()), (&expected[..], Visibility::Public));
    assert!(verdict.is_address_bound() && verdict.rate_limit().is_none() && verdict.record().is_none());
    let refused = bench.verify_from(&token, Some("192.0.3.9"), &expected).await.err();
    assert_eq!(refused, Some(Denial::AddressNotAllowed { known: true }));
    let refused = bench.verify_from(&token, None, &expected).await.err();
    assert_eq!(refused, Some(Denial::AddressNotAllowed { known: false }));
    let refused = bench.verify_from(&token, Some("192.0.2.9"), &[]).await.err();
    assert_eq!(refused, Some(Denial::AudienceMismatch));
    assert_eq!(bench.verify("mc_v1_AgEX").await.err(), Some(Denial::SignatureInvalid));
}

#[tokio::test]
async fn tokens_end_with_their_parents_where_that_is_asked_for() {
    let bench = bench(&[]);
    let token = |parent| macaroon(parent, &CidrSet::default(), &[]);
    assert!(bench.verify(&token(1)).await.is_ok());
    let parent = |number| (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(number)));
    bench.revoked_parents.add(parent(1), at(0), at(0));
    assert_eq!(bench.verify(&token(1)).await.err(), Some(Denial::Revoked));
    let text = token(1);
    let by_contract = Presented { revoke_with_parent: false, ..presented(&text) };
    assert!(bench.verifier.verify(&by_contract).await.outcome.is_ok());

    // More than are remembered: then the record tells.
    bench.revoked_parents.add(parent(2), at(0), at(0));
    bench.revoked_parents.add(parent(3), at(0), at(0));
    bench.store.insert(&system(), &record(parent(4).1), None).await.unwrap();
    assert!(bench.verify(&token(4)).await.is_ok());
    assert_eq!(bench.verify(&token(3)).await.err(), Some(Denial::Revoked), "deleted");
}
