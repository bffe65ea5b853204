//! Memory of cached keys, and processor time of a hit. Each line is measured in its own process.

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::TimeDelta;
use keygate::cache::{CacheKey, Caches, KeyCache, Loaded, RevokedParents, Source};
use keygate::cidr::CidrSet;
use keygate::clock::{Clock, SystemClock};
use keygate::credential::{Keyring, Routing, TokenSettings};
use keygate::id::{KeyId, TenantId};
use keygate::key::{ApiKey, CachedKey, Status};
use keygate::policy::Visibility;
use keygate::store::{KeySource, StoreError};
use keygate::verifier::{CachePolicy, KeyResolver, Metrics, Presented, ProofCacheSettings, Settings, Verifier};
use prometheus::Registry;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: usize = 1_000_000;
const TTL: Duration = Duration::from_secs(3600);
/// Keys in use where few are.
const IN_USE: usize = 1_000;
const HITS: usize = 10_000_000;
const MEBIBYTE: u64 = 1 << 20;

type Cache = KeyCache<()>;

/// What one process measures: a title, the number of actors that the keys have, and the size of the cache in MiB.
const PARTS: [(&str, usize, u64); 4] = [
    ("1000 keys per actor", 1_000, 4096),
    ("10 keys per actor", 100_000, 4096),
    ("1 key per actor", KEYS, 4096),
    ("1000 keys per actor, in 100 MiB", 1_000, 100),
];

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if std::env::args().any(|argument| argument == "--with-proofs") {
        return measure_with_proofs();
    }
    if let Some(part) = std::env::args().find_map(|argument| argument.strip_prefix("--part=")?.parse::<usize>().ok()) {
        return measure(PARTS[part]);
    }
    println!("| 1,000,000 keys | cached | bytes each | weight | hit, {IN_USE} in use | hit, all in use |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for part in 0..PARTS.len() {
        let itself = std::env::current_exe().unwrap();
        let status = Command::new(itself).args(["--bench".to_owned(), format!("--part={part}")]).status().unwrap();
        assert!(status.success());
    }
    let itself = std::env::current_exe().unwrap();
    assert!(Command::new(itself).args(["--bench", "--with-proofs"]).status().unwrap().success());
}

/// The memory of keys that were verified once: records and cached proofs.
fn measure_with_proofs() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let before = {
        present(&runtime, &engine(), 0..IN_USE);
        resident()
    };
    let engine = engine();
    present(&runtime, &engine, 0..KEYS);
    println!("\nA key with its cached proof: {} bytes", (resident() - before) / KEYS);
}

fn present(runtime: &Runtime, engine: &Verifier, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let presented = Presented {
            tenant: TenantId::NIL,
            credential: &format!("sk_live_{number}"),
            client_ip: None,
            arrived: Instant::now(),
            audiences: &[],
            cache: CachePolicy::default(),
            lookup_charge: None,
            revoke_with_parent: true,
        };
        assert!(runtime.block_on(engine.verify(&presented)).outcome.is_ok());
    }
}

fn engine() -> Verifier {
    let revoked_parents = Arc::new(RevokedParents::new(TTL, 1));
    let cache = Arc::new(KeyCache::new(4096 * MEBIBYTE, TTL));
    let resolver = KeyResolver::new(Arc::new(EveryKey), Caches::alone(Some(cache), Arc::clone(&revoked_parents)));
    let settings = Settings {
        tokens: TokenSettings {
            issuer: "https://keys.example.com".into(),
            issuers_retired: Vec::new(),
            clock_skew: TimeDelta::zero(),
            keyring: Arc::new(Keyring::new(&"a secret for benchmarks, long enough".to_owned().into(), &[])),
            ignore_unknown_caveats: false,
        },
        routing: Routing::new(&["mc"]),
        prefixes: Vec::new(),
        max_age: Duration::ZERO,
        proof_cache: ProofCacheSettings { key: rand::random(), max_bytes: 4096 * MEBIBYTE },
    };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Verifier::new(settings, Arc::new(resolver), Arc::default(), revoked_parents, Arc::new(SystemClock), metrics)
}

/// A store that has every key.
struct EveryKey;

#[async_trait]
impl KeySource for EveryKey {
    async fn find(&self, _: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(Some(ApiKey { id, ..key(0, 1_000) }))
    }
}

fn measure((title, actors, mebibytes): (&str, usize, u64)) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let before = {
        // Memory that is allocated once.
        let cache = Cache::new(MEBIBYTE, TTL);
        fill(&runtime, &cache, 0..IN_USE, 1);
        resident()
    };
    let cache = Cache::new(mebibytes * MEBIBYTE, TTL);
    fill(&runtime, &cache, 0..KEYS, actors);
    let cached = cache.len();
    let (each, weight) = ((resident() - before) / cached, cache.weight() / cached as u64);
    let cached_ids: Vec<_> = (0..KEYS).map(id).filter(|id| cache.get(id).is_some()).collect();
    let (few, all) = (hits(&cache, &cached_ids[..IN_USE]), hits(&cache, &cached_ids));
    println!("| {title} | {cached} | {each} | {weight} | {few:.0} ns | {all:.0} ns |");
}

fn fill(runtime: &Runtime, cache: &Cache, numbers: std::ops::Range<usize>, actors: usize) {
    runtime.block_on(async {
        for number in numbers {
            let found = cache.fetch(id(number), async |_| Ok(loaded(&key(number, actors))));
            assert!(found.await.unwrap().record.is_some());
        }
    });
}

fn loaded(key: &ApiKey) -> Loaded {
    Loaded { record: Some(Arc::new(CachedKey::from(key))), source: Source::Store }
}

/// The mean processor time of a hit in nanoseconds, with keys in random order.
fn hits(cache: &Cache, ids: &[CacheKey]) -> f64 {
    let mut random = 1_u64;
    let before = busy();
    for _ in 0..HITS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let index = usize::try_from(random >> 33).unwrap() % ids.len();
        assert!(black_box(cache.get(&ids[index])).is_some());
    }
    #[expect(clippy::cast_precision_loss, reason = "far from the edge")]
    let each = busy().saturating_sub(before).as_nanos() as f64 / HITS as f64;
    each
}

fn id(number: usize) -> CacheKey {
    // Spread like random ids.
    let spread = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(spread)))
}

/// A typical key.
fn key(number: usize, actors: usize) -> ApiKey {
    let now = SystemClock.now();
    let metadata = [("team", json!("payments")), ("ticket", json!(number))];
    ApiKey {
        tenant: TenantId::NIL,
        id: id(number).1,
        name: format!("key {number}"),
        actor_id: format!("actor-{}", number % actors),
        scopes: ["orders:read", "orders:write"].into_iter().collect(),
        metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        status: Status::Active,
        visibility: Visibility::Secret,
        create_time: now,
        update_time: now,
        expire_time: Some(now + TimeDelta::days(90)),
        revoke_time: None,
        replaced_by: None,
        last_used_time: None,
        rate_limit: None,
        networks: CidrSet::default(),
        version: ApiKey::first_version(now),
    }
}

/// User time of this process, which other programs do not lengthen.
fn busy() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // In hundredths of a second; the first two fields are split off.
    Duration::from_millis(10 * fields[11].parse::<u64>().unwrap())
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
