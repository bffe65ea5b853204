//! The verifier and the pipeline over a store in memory, and credentials for it. The only place that calls the library's
//! constructors.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use http::HeaderMap;
use keygate::cache::{Caches, KeyCache, RevokedParents};
use keygate::clock::{Clock, ManualClock, SystemClock, Timestamp};
use keygate::config::{GatewayConfig, OnBackendDown};
use keygate::credential::{Keyring, Routing, SigningKeys, TokenSettings};
use keygate::id::TenantId;
use keygate::key::{ApiKey, CachedKey, KeyDraft};
use keygate::lifecycle::{self, DeriveToken, ImportKey, Lifecycle, TokenForm};
use keygate::pipeline::authorize::AuthorizeRequest;
use keygate::pipeline::rate_limit::{Caller, LimitFields};
use keygate::pipeline::{Metrics, Rejection, RequestHead, Route, Snapshot, SnapshotParts, Target};
use keygate::policy::RateLimitPolicy;
use keygate::ratelimit::{self, Limiter, Local, Nodes};
use keygate::request_context::RequestContext;
use keygate::store::{KeySource, KeyStore, MemoryStore};
use keygate::usage::{self, UsageCounter};
use keygate::verifier::{
    self, CachePolicy, ConnectionMemory, KeyResolver, Lookup, Presented, ProofCacheSettings, Verdict, Verification,
    Verifier,
};
use prometheus::Registry;
use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::runtime::Runtime;

use super::request::{HOST_NAME, Request};

/// When keys are issued: fixed, because the cost of a text depends on its letters, which depend on the time.
const ISSUED_AT: i64 = 1_767_225_600;
/// The longest life.
const LIFE: Duration = Duration::from_secs(315_360_000);
/// More than any run requests, so that no limit rejects.
const QUOTA: u64 = 10_000_000;
/// So long that no bucket is full again before the next request, as with most callers.
const WINDOW: Duration = Duration::from_secs(86_400);
const ISSUER: &str = "https://keygate.example";
const PREFIX: &str = "ak";
const MACAROON_PREFIX: &str = "mc";
/// The client's address.
pub(crate) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// A quarter of the default size of the cache, as in the binary.
const PROOF_CACHE_BYTES: u64 = 25 << 20;
/// As in the binary.
const OWNERS_MAX: usize = 1_000_000;
/// As in the binary.
const COUNTERS_MAX: usize = 100_000;
/// A text that is no key.
const UNKNOWN: &str = "this-is-nobodys-key-but-as-long-as-one-4b7d2f";
/// Signs tokens; used by no installation.
const SIGNING_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"bench","use":"sig",
    "x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#;

/// What is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential {
    /// An issued key.
    Key,
    /// A key that another system made.
    Imported,
    /// A token derived from a key, signed.
    Jwt,
    /// A token derived from a key, chained.
    Macaroon,
    /// A text with the shape of an issued key and another's checksum.
    Forged,
    /// A text that is no key.
    Unknown,
}

/// The verifier and the pipeline.
pub(crate) struct Parts {
    /// Used for the set-up only.
    runtime: Runtime,
    imported: Cell<usize>,
    lifecycle: Lifecycle,
    resolver: Arc<KeyResolver>,
    verifier: Arc<Verifier>,
    snapshot: Arc<Snapshot>,
}

/// A route with limits, and the verdict about a key.
pub(super) struct Charging {
    route: Arc<Route>,
    verdict: Verdict,
}

/// The route, the target and the verdict; or why the request is rejected.
pub(crate) type Authorized = Result<(Arc<Route>, Target, Option<Verdict>), Rejection>;

impl Credential {
    /// Whether it is accepted.
    pub(super) fn is_good(self) -> bool {
        !matches!(self, Self::Forged | Self::Unknown)
    }
}

impl Parts {
    /// One route that requires a scope, and no keys.
    pub(super) fn new() -> Self {
        Self::over(&gateway(&[]), PROOF_CACHE_BYTES)
    }

    /// These routes, and no keys. The proof cache takes at most `proof_cache_bytes`.
    pub(crate) fn over(config: &GatewayConfig, proof_cache_bytes: u64) -> Self {
        let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::without_audit());
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
        let snapshot = snapshot(config, &verifier);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime without I/O can be had");
        Self { runtime, imported: Cell::new(0), lifecycle, resolver, verifier, snapshot }
    }

    /// A credential whose key is cached.
    pub(super) fn credential(&self, kind: Credential) -> String {
        match kind {
            Credential::Key => self.issue(draft()).0,
            Credential::Imported => self.import(),
            Credential::Jwt => self.derive(TokenForm::Jwt),
            Credential::Macaroon => self.derive(TokenForm::Macaroon),
            Credential::Forged => self.issue(draft()).0.replacen(PREFIX, "bk", 1),
            Credential::Unknown => UNKNOWN.to_owned(),
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
            cache: CachePolicy::default(),
            lookup_charge: Some(PEER),
            revoke_with_parent: true,
        };
        poll_once(self.verifier.verify_on(&presented, connection))
    }

    /// The verdict about a new key.
    pub(super) fn verdict(&self) -> Verdict {
        let credential = self.credential(Credential::Key);
        self.verify(&credential, &mut ConnectionMemory::default()).outcome.expect("the key is good")
    }

    /// The snapshot over these keys.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Routes and authorizes a request, and renders its limit fields.
    pub(crate) fn authorize(&self, head: &RequestHead<'_, HeaderMap>, memory: &mut ConnectionMemory) -> Authorized {
        let (route, target) = self.snapshot.find_route(head)?;
        let request = AuthorizeRequest {
            method: head.method,
            host: Some(HOST_NAME),
            query: head.query,
            is_trusted_origin: false,
            fields: head.fields,
            client_ip: Some(PEER),
            arrived: Instant::now(),
            is_timed: false,
        };
        let authorization = poll_once(self.snapshot.authorizer().authorize(&route, &request, memory));
        black_box(authorization.limits.fields());
        authorization.outcome.map(|verdict| (route, target, verdict)).map_err(|refusal| refusal.rejection)
    }

    /// A new key that is cached: its text and its record.
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
        let derived = self.runtime.block_on(self.lifecycle.derive(&context(), &parent, command));
        let derived = derived.expect("the parent is good");
        derived.token.expose_secret().to_owned()
    }

    /// Without the verifier, which would cache a proof as well.
    fn cache(&self, key: &ApiKey) {
        let found = self.runtime.block_on(self.resolver.find(Lookup::new((key.tenant, key.id), Instant::now())));
        assert!(matches!(found.0, Ok(Some(_))), "the key is in the store");
    }
}

fn context() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

impl Charging {
    /// The limit of a key itself, and the limits `names` of those that [`gateway`] configures.
    pub(super) fn new(names: &[&str]) -> Self {
        let parts = Parts::over(&gateway(names), PROOF_CACHE_BYTES);
        let request = Request::new(None);
        let (route, _) = parts.snapshot.find_route(&request.head()).expect("the path matches the route");
        Self { route, verdict: parts.verdict() }
    }

    /// Charges one request, and renders the fields that describe the limits.
    pub(super) fn charge(&self) -> LimitFields {
        let caller = Caller {
            tenant: TenantId::NIL,
            verdict: Some(&self.verdict),
            key_limit: self.verdict.rate_limit(),
            client_ip: Some(PEER),
        };
        let limits = self.route.limits.as_ref().expect("limits are enforced");
        let outcome = poll_once(limits.charge(&caller));
        assert!(outcome.rejection.is_none(), "the quota is never exhausted");
        outcome.fields()
    }
}

/// `count` routes that require a scope, each with its own host and path.
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

/// The host and the path of one of [`services`].
pub(crate) fn service_target(number: usize) -> (String, String) {
    (service_host(number), format!("/v1/resource-{number}/orders/4711"))
}

fn service_host(number: usize) -> String {
    format!("service-{number}.example.com")
}

/// Classifies credentials.
pub(super) fn routing() -> Routing {
    Routing::new(&[MACAROON_PREFIX])
}

/// One route for `/v1/orders` that requires a scope, and two limits, of which it names `names`.
fn gateway(names: &[&str]) -> GatewayConfig {
    let limit = |count_by| json!({ "quota": QUOTA, "window": "24h", "count_by": count_by });
    let route = json!({
        "name": "orders", "path_prefix": "/v1/orders", "upstream": "orders",
        "scopes": ["orders:read"], "limits": names,
    });
    let config = json!({ "routes": [route], "limits": { "burst": limit("key"), "everybody": limit("tenant") } });
    serde_json::from_value(config).expect("the configuration is one")
}

/// The snapshot of a configuration, with limits that are counted in this process.
fn snapshot(config: &GatewayConfig, verifier: &Arc<Verifier>) -> Arc<Snapshot> {
    let limiter_metrics = ratelimit::Metrics::register(&Registry::new(), Arc::new(Nodes::alone()));
    let local = Local::new(OWNERS_MAX, Arc::new(SystemClock));
    let parts = SnapshotParts {
        config,
        verifier: Arc::clone(verifier),
        limiter: Some(Arc::new(Limiter::local(local, limiter_metrics.expect("the registry is new")))),
        auth_failures: None,
        on_backend_down: OnBackendDown::default(),
        tenant: TenantId::NIL,
        revoke_with_parent: true,
        live_streams: None,
        metrics: Metrics::register(&Registry::new()).expect("the registry is new"),
        usage: Some(usage()),
        tracer: None,
        access_log: None,
    };
    Arc::new(Snapshot::new(parts, |_| ()))
}

/// A counter of usage, as in the binary, that writes nothing.
fn usage() -> Arc<UsageCounter> {
    let store = Arc::new(MemoryStore::default()).usage().expect("the store keeps usage");
    let settings = usage::Settings { max_counters: COUNTERS_MAX, flush_interval: WINDOW };
    let metrics = usage::Metrics::register(&Registry::new()).expect("the registry is new");
    let context = RequestContext::system(TenantId::NIL);
    usage::usage_counter(context, settings, store, &SystemClock, &metrics).0
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
            ignore_unknown_caveats: false,
        },
        routing: routing(),
        prefixes: vec![PREFIX.into()],
        max_age: Duration::ZERO,
        proof_cache: ProofCacheSettings { key: [6; 16], max_bytes: proof_cache_bytes },
    }
}

/// The output of a future that must not suspend. A runtime would cost more than what is measured, and hide a suspension.
pub(super) fn poll_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("authorization of a cached key suspends"),
    }
}
