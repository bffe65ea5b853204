//! What cached keys take of a process, and what it costs to find one. Each line is of a process of its own.

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::TimeDelta;
use keygate::cache::{CacheKey, Caches, KeyCache, RevokedParents};
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
/// Keys that are asked for again and again.
const IN_USE: usize = 1_000;
const HITS: usize = 10_000_000;
const MEBIBYTE: u64 = 1 << 20;

type Cache = KeyCache<()>;

/// What one process measures: how many owners the keys have, and what is to be said of the cache they fill.
const PARTS: [(&str, usize, u64); 4] = [
    ("an owner for 1000 keys", 1_000, 4096),
    ("an owner for 10 keys", 100_000, 4096),
    ("an owner for each key", KEYS, 4096),
    ("an owner for 1000 keys, in 100 MiB", 1_000, 100),
];

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if std::env::args().any(|argument| argument == "--recognised") {
        return measure_recognised();
    }
    if let Some(part) = std::env::args().find_map(|argument| argument.strip_prefix("--part=")?.parse::<usize>().ok()) {
        return measure(PARTS[part]);
    }
    println!("| 1,000,000 keys | held | bytes each | reckoned | hit, of {IN_USE} | hit, of all |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for part in 0..PARTS.len() {
        let itself = std::env::current_exe().unwrap();
        let status = Command::new(itself).args(["--bench".to_owned(), format!("--part={part}")]).status().unwrap();
        assert!(status.success());
    }
    let itself = std::env::current_exe().unwrap();
    assert!(Command::new(itself).args(["--bench", "--recognised"]).status().unwrap().success());
}

/// What keys take of a node that has judged each of them: the record, and what knows the credential again.
fn measure_recognised() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let before = {
        present(&runtime, &engine(), 0..IN_USE);
        resident()
    };
    let engine = engine();
    present(&runtime, &engine, 0..KEYS);
    println!("\nA key that was judged, with what knows its credential again: {} bytes", (resident() - before) / KEYS);
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
        },
        routing: Routing::new(&["mc"]),
        prefixes: Vec::new(),
        max_age: Duration::ZERO,
        proof_cache: ProofCacheSettings { key: rand::random(), max_bytes: 4096 * MEBIBYTE },
    };
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Verifier::new(settings, Arc::new(resolver), Arc::default(), revoked_parents, Arc::new(SystemClock), metrics)
}

/// A store in which every key is.
struct EveryKey;

#[async_trait]
impl KeySource for EveryKey {
    async fn find(&self, _: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(Some(ApiKey { id, ..key(0, 1_000) }))
    }
}

fn measure((what, owners, mebibytes): (&str, usize, u64)) {
    let runtime = Builder::new_current_thread().build().unwrap();
    let before = {
        // What the first use of everything takes.
        let cache = Cache::new(MEBIBYTE, TTL);
        fill(&runtime, &cache, 0..IN_USE, 1);
        resident()
    };
    let cache = Cache::new(mebibytes * MEBIBYTE, TTL);
    fill(&runtime, &cache, 0..KEYS, owners);
    let held = cache.len();
    let (each, reckoned) = ((resident() - before) / held, cache.weight() / held as u64);
    let held_ids: Vec<_> = (0..KEYS).map(id).filter(|id| cache.get(id).is_some()).collect();
    let (few, all) = (hits(&cache, &held_ids[..IN_USE]), hits(&cache, &held_ids));
    println!("| {what} | {held} | {each} | {reckoned} | {few:.0} ns | {all:.0} ns |");
}

fn fill(runtime: &Runtime, cache: &Cache, numbers: std::ops::Range<usize>, owners: usize) {
    runtime.block_on(async {
        for number in numbers {
            let found = cache.fetch(id(number), async || Ok(Some(Arc::new(CachedKey::from(&key(number, owners))))));
            assert!(found.await.unwrap().is_some());
        }
    });
}

/// The mean processor time of a hit, keys in no order that a processor could guess.
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

/// A key as they come.
fn key(number: usize, owners: usize) -> ApiKey {
    let now = SystemClock.now();
    let metadata = [("team", json!("payments")), ("ticket", json!(number))];
    ApiKey {
        tenant: TenantId::NIL,
        id: id(number).1,
        name: format!("key {number}"),
        actor_id: format!("actor-{}", number % owners),
        scopes: ["orders:read", "orders:write"].into_iter().collect(),
        metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        status: Status::Active,
        visibility: Visibility::Secret,
        create_time: now,
        update_time: now,
        expire_time: Some(now + TimeDelta::days(90)),
        last_used_time: None,
        rate_limit: None,
        networks: CidrSet::default(),
        version: ApiKey::first_version(now),
    }
}

/// Processor time that this process has had, in its own code: other programs lengthen the time on the clock.
fn busy() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // In hundredths of a second, after the two fields that stand before.
    Duration::from_millis(10 * fields[11].parse::<u64>().unwrap())
}

/// Memory that this process has, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
