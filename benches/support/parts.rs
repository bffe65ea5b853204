//! The verifier and the pipeline with an in-memory store, and credentials for them. Most constructors of the library are called only here.

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

/// The creation time of keys in Unix seconds. It is fixed, because the text of a key depends on it and the cost depends on the text.
const ISSUED_AT: i64 = 1_767_225_600;
/// The maximum TTL of keys, and the TTL of cached records: ten years.
const MAX_TTL: Duration = Duration::from_secs(315_360_000);
/// More than the number of requests of any run, so that no limit rejects.
const QUOTA: u64 = 10_000_000;
/// Long enough that no bucket is full again before the next request, as is the case for most callers.
const WINDOW: Duration = Duration::from_secs(86_400);
const ISSUER: &str = "https://keygate.example";
const PREFIX: &str = "ak";
const MACAROON_PREFIX: &str = "mc";
/// The client's address.
pub(crate) const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// The size of the proof cache in bytes. As in the binary, it is a quarter of the default `cache.memory.max_size`.
const PROOF_CACHE_BYTES: u64 = 25 << 20;
/// The maximum number of bucket owners, as in the binary.
const OWNERS_MAX: usize = 1_000_000;
/// The maximum number of usage counters, as in the binary.
const COUNTERS_MAX: usize = 100_000;
/// A credential that does not belong to any key.
const UNKNOWN: &str = "this-is-nobodys-key-but-as-long-as-one-4b7d2f";
/// The key that signs tokens. It is used only here.
const SIGNING_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"bench","use":"sig",
    "x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg","d":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#;

/// The kind of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential {
    /// An issued key.
    Key,
    /// An imported key, created by another system.
    Imported,
    /// A JWT derived from an issued key.
    Jwt,
    /// A macaroon derived from an issued key.
    Macaroon,
    /// A text in the format of an issued key with an invalid checksum.
    Forged,
    /// A text that does not belong to any key.
    Unknown,
}

/// The verifier and the pipeline.
pub(crate) struct Parts {
    /// Used only during set-up.
    runtime: Runtime,
    /// The number of imported keys.
    imported: Cell<usize>,
    lifecycle: Lifecycle,
    resolver: Arc<KeyResolver>,
    verifier: Arc<Verifier>,
    snapshot: Arc<Snapshot>,
}

/// A route with limits, and the verdict for the key that is charged.
pub(super) struct ChargeFixture {
    route: Arc<Route>,
    verdict: Verdict,
}

/// The route, the target and the verdict of an authorized request, or the reason for its rejection.
pub(crate) type Authorized = Result<(Arc<Route>, Target, Option<Verdict>), Rejection>;

impl Credential {
    /// Whether the verifier accepts it.
    pub(super) fn is_valid(self) -> bool {
        !matches!(self, Self::Forged | Self::Unknown)
    }
}

impl Parts {
    /// Components with one route that requires a scope, and no keys.
    pub(super) fn new() -> Self {
        Self::with_config(&gateway(&[]), PROOF_CACHE_BYTES)
    }

    /// Components with the routes of a configuration, and no keys. `proof_cache_bytes` is the size limit of the proof cache.
    pub(crate) fn with_config(config: &GatewayConfig, proof_cache_bytes: u64) -> Self {
        let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::without_audit());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keyring = Arc::new(Keyring::new(&"a secret for benchmarks, long enough".to_owned().into(), &[]));
        let signing_keys = SigningKeys::parse(SIGNING_KEY).expect("the JWK is valid");
        let signing_keys = Arc::new(ArcSwap::from_pointee(signing_keys));
        let revoked_parents = Arc::new(RevokedParents::new(MAX_TTL, 1000));
        let caches = Caches::alone(Some(Arc::new(KeyCache::new(1 << 34, MAX_TTL))), Arc::clone(&revoked_parents));
        let registry = Registry::new();
        let lifecycle = Lifecycle::new(
            lifecycle_settings(Arc::clone(&keyring), Arc::clone(&signing_keys)),
            Arc::clone(&store),
            caches.clone(),
            Arc::new(ManualClock::new(Timestamp::from_timestamp(ISSUED_AT, 0).expect("the timestamp is valid"))),
            // A fixed seed, so that every run has the same keys.
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
        let runtime = runtime.expect("the runtime can be built");
        Self { runtime, imported: Cell::new(0), lifecycle, resolver, verifier, snapshot }
    }

    /// Creates a credential. Its key, if it has one, is cached.
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

    /// Issues a key and returns the verdict for it.
    pub(super) fn verdict(&self) -> Verdict {
        let credential = self.credential(Credential::Key);
        self.verify(&credential, &mut ConnectionMemory::default()).outcome.expect("the key is valid")
    }

    /// The snapshot of the configuration.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Routes and authorizes a request and renders its limit fields.
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

    /// Issues a key and caches its record. Returns the text and the key.
    pub(crate) fn issue(&self, draft: KeyDraft) -> (String, ApiKey) {
        let issued = self.runtime.block_on(self.lifecycle.issue(&context(), draft)).expect("the draft is valid");
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
        let derived = derived.expect("the parent is valid");
        derived.token.expose_secret().to_owned()
    }

    /// Caches the record of a key. Bypasses the verifier, which would also cache a proof.
    fn cache(&self, key: &ApiKey) {
        let found = self.runtime.block_on(self.resolver.find(Lookup::new((key.tenant, key.id), Instant::now())));
        assert!(matches!(found.0, Ok(Some(_))), "the key is in the store");
    }
}

fn context() -> RequestContext {
    RequestContext::system(TenantId::NIL)
}

impl ChargeFixture {
    /// A fixture with the limit of the key itself and the limits `names` of [`gateway`].
    pub(super) fn new(names: &[&str]) -> Self {
        let parts = Parts::with_config(&gateway(names), PROOF_CACHE_BYTES);
        let request = Request::new(None);
        let (route, _) = parts.snapshot.find_route(&request.head()).expect("the path matches the route");
        Self { route, verdict: parts.verdict() }
    }

    /// Charges one request and renders the header fields that describe the limits.
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

/// A configuration with `count` routes that require a scope. Each has its own host and path.
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

/// The host and a path of the route `number` of [`services`].
pub(crate) fn service_target(number: usize) -> (String, String) {
    (service_host(number), format!("/v1/resource-{number}/orders/4711"))
}

fn service_host(number: usize) -> String {
    format!("service-{number}.example.com")
}

/// The classifier of credentials.
pub(super) fn routing() -> Routing {
    Routing::new(&[MACAROON_PREFIX])
}

/// A configuration with one route for `/v1/orders` that requires a scope, and with two limits. The route uses the limits `names`.
fn gateway(names: &[&str]) -> GatewayConfig {
    let limit = |count_by| json!({ "quota": QUOTA, "window": "24h", "count_by": count_by });
    let route = json!({
        "name": "orders", "path_prefix": "/v1/orders", "upstream": "orders",
        "scopes": ["orders:read"], "limits": names,
    });
    let config = json!({ "routes": [route], "limits": { "burst": limit("key"), "everybody": limit("tenant") } });
    serde_json::from_value(config).expect("the configuration is valid")
}

/// The snapshot of a configuration. Limits are counted in this process.
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

/// A usage counter, as in the binary. It never writes to the store, because its writer is dropped.
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
        default_ttl: Some(MAX_TTL),
        max_ttl: MAX_TTL,
        quota: None,
        derived: lifecycle::DerivedSettings {
            issuer: ISSUER.into(),
            default_ttl: MAX_TTL / 2,
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

/// Polls a future once and returns its output. Panics if the future is pending. A runtime would cost more than the measured operation, and
/// would hide that the future is pending.
pub(super) fn poll_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is pending, although the key is cached"),
    }
}
