//! Memory of cached keys, and CPU time of a cache hit. Each row of the table is measured in its own process.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::TimeDelta;
use keygate::cache::{CacheKey, Caches, KeyCache, Loaded, RevokedParents, Source};
use keygate::clock::{Clock, SystemClock};
use keygate::credential::{Keyring, Routing, TokenSettings};
use keygate::id::{KeyId, TenantId};
use keygate::key::{ApiKey, CachedKey};
use keygate::store::{KeySource, StoreError};
use keygate::verifier::{CachePolicy, KeyResolver, Metrics, Presented, ProofCacheSettings, Settings, Verifier};
use prometheus::Registry;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of keys that are put into the cache.
const KEYS: usize = 1_000_000;
const TTL: Duration = Duration::from_secs(3600);
/// The number of keys in use when not all cached keys are in use.
const IN_USE: usize = 1_000;
/// The number of cache hits in one measurement.
const HITS: usize = 10_000_000;
const MEBIBYTE: u64 = 1 << 20;

type Cache = KeyCache<()>;

/// The rows of the table: title, number of actors that own the keys, and size of the cache in MiB.
const ROWS: [(&str, usize, u64); 4] = [
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
    if let Some(row) = std::env::args().find_map(|argument| argument.strip_prefix("--row=")?.parse::<usize>().ok()) {
        return measure(ROWS[row]);
    }
    println!("| 1,000,000 keys | cached | bytes each | weight | hit, {IN_USE} in use | hit, all in use |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let program = std::env::current_exe().unwrap();
    for row in 0..ROWS.len() {
        let status = Command::new(&program).args(["--bench".to_owned(), format!("--row={row}")]).status().unwrap();
        assert!(status.success());
    }
    assert!(Command::new(program).args(["--bench", "--with-proofs"]).status().unwrap().success());
}

/// Measures the memory of keys that were verified once: record and cached proof.
fn measure_with_proofs() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let before = {
        // Warm-up: memory that is allocated only once is not part of the result.
        verify_keys(&runtime, &verifier(), 0..IN_USE);
        resident_memory()
    };
    let verifier = verifier();
    verify_keys(&runtime, &verifier, 0..KEYS);
    println!("\nA key with its cached proof: {} bytes", (resident_memory() - before) / KEYS);
}

/// Verifies one credential of each key.
fn verify_keys(runtime: &Runtime, verifier: &Verifier, numbers: std::ops::Range<usize>) {
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
        assert!(runtime.block_on(verifier.verify(&presented)).outcome.is_ok());
    }
}

/// A verifier over a store in which every key exists.
fn verifier() -> Verifier {
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

/// A store in which every key exists.
struct EveryKey;

#[async_trait]
impl KeySource for EveryKey {
    async fn find(&self, _: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(Some(ApiKey { id, ..key(0, 1_000) }))
    }
}

/// Measures one row of the table and prints it.
fn measure((title, actors, mebibytes): (&str, usize, u64)) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let before = {
        // Warm-up: memory that is allocated only once is not part of the result.
        let cache = Cache::new(MEBIBYTE, TTL);
        fill(&runtime, &cache, 0..IN_USE, 1);
        resident_memory()
    };
    let cache = Cache::new(mebibytes * MEBIBYTE, TTL);
    fill(&runtime, &cache, 0..KEYS, actors);
    let cached = cache.len();
    let (bytes_per_key, weight) = ((resident_memory() - before) / cached, cache.weight() / cached as u64);
    let cached_ids: Vec<_> = (0..KEYS).map(id).filter(|id| cache.get(id).is_some()).collect();
    let (hit_few, hit_all) = (time_hits(&cache, &cached_ids[..IN_USE]), time_hits(&cache, &cached_ids));
    println!("| {title} | {cached} | {bytes_per_key} | {weight} | {hit_few:.0} ns | {hit_all:.0} ns |");
}

/// Puts keys into the cache.
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

/// Returns the mean CPU time of a hit in nanoseconds. The keys are read in pseudo-random order.
fn time_hits(cache: &Cache, ids: &[CacheKey]) -> f64 {
    let mut random = 1_u64;
    let before = user_time();
    for _ in 0..HITS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let index = usize::try_from(random >> 33).unwrap() % ids.len();
        assert!(black_box(cache.get(&ids[index])).is_some());
    }
    #[expect(clippy::cast_precision_loss, reason = "the times are small enough to be exact")]
    let mean = user_time().saturating_sub(before).as_nanos() as f64 / HITS as f64;
    mean
}

fn id(number: usize) -> CacheKey {
    // Distributes the ids over the whole range, like random ids.
    let spread = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(spread)))
}

/// A typical key.
fn key(number: usize, actors: usize) -> ApiKey {
    let now = SystemClock.now();
    let metadata = [("team", json!("payments")), ("ticket", json!(number))];
    ApiKey {
        name: format!("key {number}"),
        actor_id: format!("actor-{}", number % actors),
        scopes: ["orders:read", "orders:write"].into_iter().collect(),
        metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        expire_time: Some(now + TimeDelta::days(90)),
        ..ApiKey::new(TenantId::NIL, id(number).1, now)
    }
}

/// The user CPU time of this process. Unlike elapsed time, it does not include the time during which other processes run.
fn user_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Field 14 of the file, `utime`, in units of 10 ms. The first two fields have been split off.
    Duration::from_millis(10 * fields[11].parse::<u64>().unwrap())
}

/// The resident memory of this process in bytes.
fn resident_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
