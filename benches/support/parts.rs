//! The decision engine over a store in memory, and credentials for it. What the library's constructors ask for is named
//! here alone.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use keygate::cache::{Caches, KeyCache, RevokedParents};
use keygate::clock::{Clock, ManualClock, SystemClock, Timestamp};
use keygate::config::GatewayConfig;
use keygate::credential::{Keyring, Routing, SigningKeys, TokenSettings};
use keygate::gateway::decide::{Decider, Decision, Head};
use keygate::gateway::limit::{Caller, Charged, Limits};
use keygate::gateway::route::{Route, RouteTable};
use keygate::id::TenantId;
use keygate::key::{ApiKey, CachedKey, KeyDraft};
use keygate::lifecycle::{self, DeriveToken, ImportKey, Lifecycle, TokenForm};
use keygate::policy::RateLimitPolicy;
use keygate::ratelimit::{self, Limiter, Local, Nodes};
use keygate::request_context::RequestContext;
use keygate::store::{KeySource, KeyStore, MemoryStore};
use keygate::verifier::{
    self, CachePolicy, ConnectionMemory, KeyResolver, Presented, ProofCacheSettings, Verdict, Verification, Verifier,
};
use prometheus::Registry;
use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::runtime::Runtime;

/// When keys are issued: always the same, because their texts tell, and what a text costs depends on its letters.
const ISSUED_AT: i64 = 1_767_225_600;
/// The longest that there is.
const LIFE: Duration = Duration::from_secs(315_360_000);
/// More than any run asks for, so that nobody is ever refused by a limit.
const QUOTA: u64 = 10_000_000;
/// So long that a request is not forgotten before the next one comes: as with most callers, there is a count to go on with.
const WINDOW: Duration = Duration::from_secs(86_400);
const ISSUER: &str = "https://keygate.example";
const PREFIX: &str = "ak";
const MACAROON_PREFIX: &str = "mc";
/// Where requests come from.
pub(crate) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// What credentials are recognised by takes a quarter of the default for the cache, as in the binary.
const RECOGNITION_BYTES: u64 = 25 << 20;
/// As many owners' limits are counted as in the binary.
const OWNERS_MAX: usize = 1_000_000;
/// A text that nobody issued or imported.
const GARBAGE: &str = "this-is-nobodys-key-but-as-long-as-one-4b7d2f";
/// Signs tokens; the key of no installation.
const SIGNING_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"bench","use":"sig",
    "x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#;

/// What is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential {
    /// An issued key.
    Key,
    /// A key of somebody else's making.
    Imported,
    /// A token derived from a key, signed.
    Jwt,
    /// A token derived from a key, chained.
    Macaroon,
    /// A text with the shape of an issued key and another's checksum.
    Forged,
    /// A text that nobody knows.
    Garbage,
}

/// Everything that decides.
pub(crate) struct Parts {
    /// For the set-up alone.
    runtime: Runtime,
    imported: Cell<usize>,
    lifecycle: Lifecycle,
    resolver: Arc<KeyResolver>,
    verifier: Arc<Verifier>,
    decider: Decider,
}

/// Limits alone, and a caller of a good key.
pub(super) struct Charging {
    limits: Limits,
    route: Route,
    verdict: Verdict,
}

impl Credential {
    /// Whether it is to be found good.
    pub(super) fn is_good(self) -> bool {
        !matches!(self, Self::Forged | Self::Garbage)
    }
}

impl Parts {
    /// The engine over one route that demands a scope, and no key yet.
    pub(super) fn new() -> Self {
        Self::over(&gateway(&[]), RECOGNITION_BYTES)
    }

    /// The engine over these routes, and no key yet. To recognise credentials takes so many bytes at the most.
    pub(crate) fn over(config: &GatewayConfig, proof_cache_bytes: u64) -> Self {
        let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keyring = Arc::new(Keyring::new(&"a secret for benchmarks, long enough".to_owned().into(), &[]));
        let signing_keys = SigningKeys::parse(SIGNING_KEY).expect("the text is a key");
        let signing_keys = Arc::new(ArcSwap::from_pointee(signing_keys));
        let revoked_parents = Arc::new(RevokedParents::new(LIFE, 1000));
        let caches = Caches::alone(Some(Arc::new(KeyCache::new(1 << 34, LIFE))), Arc::clone(&revoked_parents));
        let registry = Registry::new();
        let lifecycle = Lifecycle::new(
            lifecycle_settings(Arc::clone(&keyring), Arc::clone(&signing_keys)),
            Arc::clone(&store),
            caches.clone(),
            Arc::new(ManualClock::new(Timestamp::from_timestamp(ISSUED_AT, 0).expect("the time is one"))),
            // The same keys in every run.
            StdRng::seed_from_u64(6),
            lifecycle::Metrics::register(&registry).expect("the registry is new"),
        );
        let source: Arc<dyn KeySource> = store;
        let resolver = Arc::new(KeyResolver::new(source, caches));
        let metrics = verifier::Metrics::register(&registry).expect("the registry is new");
        let settings = verifier_settings(keyring, proof_cache_bytes);
        let verifier = Verifier::new(settings, Arc::clone(&resolver), signing_keys, revoked_parents, clock, metrics);
        let verifier = Arc::new(verifier);
        let routes = RouteTable::new(&config.routes);
        let decider = Decider::new(routes, Arc::clone(&verifier), Some(limits(config)), TenantId::NIL, true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime without I/O can be had");
        Self { runtime, imported: Cell::new(0), lifecycle, resolver, verifier, decider }
    }

    /// A credential, whose key's record is in the cache.
    pub(super) fn credential(&self, kind: Credential) -> String {
        match kind {
            Credential::Key => self.issue(draft()).0,
            Credential::Imported => self.import(),
            Credential::Jwt => self.derive(TokenForm::Jwt),
            Credential::Macaroon => self.derive(TokenForm::Macaroon),
            Credential::Forged => self.issue(draft()).0.replacen(PREFIX, "bk", 1),
            Credential::Garbage => GARBAGE.to_owned(),
        }
    }

    /// Verifies a credential as the gateway does.
    pub(super) fn verify(&self, credential: &str, connection: &mut ConnectionMemory) -> Verification {
        let presented = Presented {
            tenant: TenantId::NIL,
            credential,
            client_ip: Some(PEER),
            arrived: Instant::now(),
            audiences: &[],
            cache: CachePolicy { charge: Some(PEER), ..CachePolicy::default() },
            revoke_with_parent: true,
        };
        at_once(self.verifier.verify_on(&presented, connection))
    }

    /// The verdict about a new key.
    pub(super) fn verdict(&self) -> Verdict {
        let credential = self.credential(Credential::Key);
        self.verify(&credential, &mut ConnectionMemory::default()).outcome.expect("the key is good")
    }

    /// Decides about a request.
    pub(crate) fn decide(&self, head: Head<'_>, connection: &mut ConnectionMemory) -> Decision {
        at_once(self.decider.decide(head, connection))
    }

    /// A new key, whose record is in the cache: its text and itself.
    pub(crate) fn issue(&self, draft: KeyDraft) -> (String, ApiKey) {
        let issued = self.runtime.block_on(self.lifecycle.issue(&context(), draft)).expect("the draft is good");
        self.cache(&issued.key);
        (issued.secret.expect("the key is new").expose_secret().to_owned(), issued.key)
    }

    fn import(&self) -> String {
        let number = self.imported.replace(self.imported.get() + 1);
        let raw_key = format!("legacy-key-of-another-gateway-91f3a0{number:06}");
        let import = ImportKey { raw_key: raw_key.clone().into(), draft: draft() };
        let key = self.runtime.block_on(self.lifecycle.import(&context(), import));
        self.cache(&key.expect("the key can be imported"));
        raw_key
    }

    fn derive(&self, form: TokenForm) -> String {
        let command = DeriveToken { form, ..DeriveToken::default() };
        let parent = CachedKey::from(&self.issue(draft()).1);
        let derived = self.lifecycle.derive(&context(), &parent, command).expect("the parent is good");
        derived.token.expose_secret().to_owned()
    }

    /// Without the verifier, which might remember more than the record.
    fn cache(&self, key: &ApiKey) {
        let found = self.runtime.block_on(self.resolver.find((key.tenant, key.id), CachePolicy::default()));
        assert!(matches!(found.0, Ok(Some(_))), "the key is in the store");
    }
}

fn context() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

impl Charging {
    /// A key's own limit, and `names` of those that [`gateway`] configures.
    pub(super) fn new(names: &[&str]) -> Self {
        let config = gateway(names);
        let verdict = Parts::new().verdict();
        Self { limits: limits(&config), route: Route::from(&config.routes[0]), verdict }
    }

    /// Charges one request.
    pub(super) fn charge(&self) -> Charged {
        let caller = Caller {
            tenant: TenantId::NIL,
            verdict: Some(&self.verdict),
            own: self.verdict.rate_limit(),
            peer: Some(PEER),
        };
        let charged = at_once(self.limits.charge(&self.route, &caller));
        assert!(charged.denial.is_none(), "the quota is never used up");
        charged
    }
}

/// As many routes that demand a scope, each of its own host and path.
pub(crate) fn services(count: usize) -> GatewayConfig {
    let mut config = gateway(&[]);
    let route = config.routes.remove(0);
    config.routes = (0..count)
        .map(|number| {
            let mut route = route.clone();
            route.hosts = vec![service_host(number)];
            route.path_prefix = format!("/v1/resource-{number}");
            route
        })
        .collect();
    config
}

/// The host and the path that ask for one of [`services`].
pub(crate) fn service_target(number: usize) -> (String, String) {
    (service_host(number), format!("/v1/resource-{number}/orders/4711"))
}

fn service_host(number: usize) -> String {
    format!("service-{number}.example.com")
}

/// What tells credentials apart.
pub(super) fn routing() -> Routing {
    Routing::new(&[MACAROON_PREFIX])
}

/// One route for `/v1/orders` that demands a scope, and two limits, of which it names `names`.
fn gateway(names: &[&str]) -> GatewayConfig {
    let limit = |count_by| json!({ "quota": QUOTA, "window": "24h", "count_by": count_by });
    let route = json!({
        "name": "orders", "path_prefix": "/v1/orders", "upstream": "orders",
        "scopes": ["orders:read"], "limits": names,
    });
    let config = json!({ "routes": [route], "limits": { "burst": limit("key"), "everybody": limit("tenant") } });
    serde_json::from_value(config).expect("the configuration is one")
}

fn limits(config: &GatewayConfig) -> Limits {
    let metrics = ratelimit::Metrics::register(&Registry::new(), Arc::new(Nodes::alone()));
    let local = Local::new(OWNERS_MAX, Arc::new(SystemClock));
    Limits::new(config, Arc::new(Limiter::local(local, metrics.expect("the registry is new"))))
}

/// A key with two scopes and a limit.
pub(crate) fn draft() -> KeyDraft {
    let quota = NonZeroU64::new(QUOTA).expect("the quota is not 0");
    KeyDraft {
        name: "bench".into(),
        actor_id: "service-orders@example.com".into(),
        scopes: vec!["orders:read".into(), "orders:write".into()],
        rate_limit: Some(RateLimitPolicy { quota, window: WINDOW }),
        ..KeyDraft::default()
    }
}

fn lifecycle_settings(keyring: Arc<Keyring>, signing_keys: Arc<ArcSwap<SigningKeys>>) -> lifecycle::Settings {
    lifecycle::Settings {
        keyring,
        routing: routing(),
        prefix: PREFIX.into(),
        public_prefix: None,
        default_ttl: Some(LIFE),
        max_ttl: LIFE,
        quota: None,
        derived: lifecycle::DerivedSettings {
            issuer: ISSUER.into(),
            default_ttl: LIFE / 2,
            macaroon_prefix: MACAROON_PREFIX.into(),
            signing_key_id: String::new(),
            signing_keys,
        },
    }
}

fn verifier_settings(keyring: Arc<Keyring>, proof_cache_bytes: u64) -> verifier::Settings {
    verifier::Settings {
        tokens: TokenSettings {
            issuer: ISSUER.into(),
            issuers_retired: Vec::new(),
            clock_skew: TimeDelta::seconds(300),
            keyring,
        },
        routing: routing(),
        prefixes: vec![PREFIX.into()],
        max_age: Duration::ZERO,
        proof_cache: ProofCacheSettings { key: [6; 16], max_bytes: proof_cache_bytes },
    }
}

/// What a future gives that has nothing to wait for. A runtime would cost more than what is measured, and hide that there was
/// something to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a decision in memory has to wait"),
    }
}
