//! What a decision costs: classifying a credential, refusing a forged one, accepting a cached one.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use criterion::{Criterion, criterion_group, criterion_main};
use keygate::cache::{Caches, EndedKeys, KeyCache};
use keygate::clock::SystemClock;
use keygate::credential::{Keyring, Routing, TokenSettings};
use keygate::id::TenantId;
use keygate::key::KeyDraft;
use keygate::lifecycle::{self, Lifecycle};
use keygate::store::{KeySource, KeyStore, MemoryStore};
use keygate::verifier::{self, CachePolicy, Directory, Presented, Verifier};
use prometheus::Registry;
use secrecy::ExposeSecret;

const TTL: Duration = Duration::from_secs(3600);

/// A verifier with one key in its cache, and that key.
fn bench_parts(runtime: &tokio::runtime::Runtime) -> (Verifier, String) {
    let keyring = Arc::new(Keyring::new(&"a secret for benchmarks, long enough".to_owned().into(), &[]));
    let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::default());
    let cache = Arc::new(KeyCache::new(1 << 20, TTL));
    let registry = Registry::new();
    let clock = Arc::new(SystemClock);
    let ended = Arc::new(EndedKeys::new(TTL, 100));
    let caches = Caches::alone(Some(cache), Arc::clone(&ended));
    let lifecycle = Lifecycle::new(
        lifecycle::Settings {
            keyring: Arc::clone(&keyring),
            routing: Routing::new(&["mc"]),
            prefix: "ak".into(),
            public_prefix: None,
            default_ttl: Some(TTL),
            max_ttl: TTL,
            quota: None,
            derived: lifecycle::DerivedSettings::default(),
        },
        Arc::clone(&store),
        caches.clone(),
        clock.clone(),
        rand::make_rng(),
        lifecycle::Metrics::register(&registry).expect("the registry is new"),
    );
    let draft = KeyDraft { name: "bench".into(), actor_id: "bench".into(), ..KeyDraft::default() };
    let issued = runtime.block_on(lifecycle.issue(TenantId::NIL, draft)).expect("the store is in memory");
    let settings = verifier::Settings {
        tokens: TokenSettings {
            issuer: "bench".into(),
            issuers_retired: Vec::new(),
            clock_skew: TimeDelta::seconds(300),
            keyring,
        },
        routing: Routing::new(&["mc"]),
        prefixes: vec!["ak".into()],
        max_age: TTL,
        recognition: verifier::RecognitionSettings { key: rand::random(), max_bytes: 1 << 20 },
    };
    let metrics = verifier::Metrics::register(&registry).expect("the registry is new");
    let source: Arc<dyn KeySource> = store;
    let verifier =
        Verifier::new(settings, Arc::new(Directory::new(source, caches)), Arc::default(), ended, clock, metrics);
    (verifier, issued.secret.expect("the key is new").expose_secret().to_owned())
}

fn verify(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O can be had");
    let (verifier, key) = bench_parts(&runtime);
    let forged = key.replace("ak_v1_", "bk_v1_");
    let routing = Routing::new(&["mc"]);
    c.bench_function("classify an issued key", |b| b.iter(|| routing.classify(black_box(&key)).kind()));
    for (name, credential, good) in [("refuse a forged key", &forged, false), ("accept a cached key", &key, true)] {
        let presented = Presented {
            tenant: TenantId::NIL,
            credential,
            client_ip: None,
            audiences: &[],
            cache: CachePolicy::default(),
            revoke_with_parent: true,
        };
        assert_eq!(runtime.block_on(verifier.verify(&presented)).outcome.is_ok(), good);
        c.bench_function(name, |b| b.iter(|| runtime.block_on(verifier.verify(black_box(&presented)))));
    }
}

criterion_group!(benches, verify);
criterion_main!(benches);
