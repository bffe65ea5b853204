//! Accuracy of limits across ten nodes: bursts of requests with one key while Redis is healthy, slow, or killed halfway.
//!
//! Requires Redis on this machine, as the tests do. See `benches/README.md`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[expect(dead_code, reason = "only some of the test helpers are used")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keygate::clock::{Clock, SystemClock};
use keygate::config::{OnBackendDown, RateLimitMode, RedisConfig};
use keygate::duration::ConfigDuration;
use keygate::id::{KeyId, TenantId};
use keygate::ratelimit::{
    Backend, BucketOwner, Charge, Exact, Leased, Limit, Limiter, Local, Metrics, NamedLimit, Nodes, RedisBucketStore,
};
use keygate::redis::Redis as Connection;
use prometheus::Registry;
use tokio::task::JoinSet;

use keygate_test_servers::Redis;
use support::proxy::{Mode, Proxy};

const NODES: usize = 10;
/// The number of concurrent callers at each node.
const CALLERS: usize = 4;
/// The number of requests in a burst. Each caller sends bursts with a pause of [`PAUSE`] between them.
const BURST: usize = 25;
const PAUSE: Duration = Duration::from_millis(20);
const QUOTA: u64 = 1000;
const WINDOW: Duration = Duration::from_secs(10);
/// The length of one measurement.
const MEASUREMENT_TIME: Duration = Duration::from_secs(6);
/// The number of keys in the memory measurement.
const KEYS: u128 = 10_000;

/// The state of Redis during a measurement.
#[derive(Clone, Copy)]
enum RedisState {
    Healthy,
    Slow,
    KilledHalfway,
}

fn owner(number: u128) -> BucketOwner {
    BucketOwner::Key(TenantId::NIL, KeyId::Issued(uuid::Uuid::from_u128(number)))
}

fn limits() -> [NamedLimit; 1] {
    [NamedLimit { name: "default".into(), limit: Limit::new(NonZeroU64::new(QUOTA).unwrap(), WINDOW) }]
}

/// Creates the limiter of a node that uses the Redis server at `port`.
async fn node(port: u16, mode: RateLimitMode, number: usize) -> Limiter {
    let addrs = vec![format!("127.0.0.1:{port}")];
    let settings = RedisConfig { addrs, timeout: ConfigDuration(Duration::from_millis(100)), ..RedisConfig::default() };
    let redis = Arc::new(Connection::new(&settings).unwrap());
    let connection = Arc::clone(&redis);
    tokio::spawn(async move { connection.keep_connected().await });
    redis.connected(Duration::from_secs(10)).await;
    let nodes = Arc::new(Nodes::alone());
    let (live_nodes, connection) = (Arc::clone(&nodes), Arc::clone(&redis));
    tokio::spawn(async move { live_nodes.run_heartbeat(&connection, &number.to_string()).await });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::new(RedisBucketStore::new(redis));
    let backend: Arc<dyn Backend> = match mode {
        RateLimitMode::Exact => Arc::new(Exact::new(store)),
        RateLimitMode::Leased => {
            let (leased, worker) = Leased::new(store, Arc::clone(&clock), Arc::clone(&nodes), 1000);
            tokio::spawn(worker.run());
            leased
        }
    };
    let metrics = Metrics::register(&Registry::new(), Arc::clone(&nodes)).unwrap();
    Limiter::shared(backend, OnBackendDown::Local, Local::new(1000, clock), nodes, metrics)
}

/// Returns the number of admitted requests and the number that the limit allows in the measured time.
async fn measure(mode: RateLimitMode, redis_state: RedisState) -> (u64, f64) {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port());
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(Arc::new(node(proxy.port(), mode, number).await));
    }
    // Wait until the heartbeats of all nodes have updated the node count.
    tokio::time::sleep(Duration::from_secs(3)).await;
    if let RedisState::Slow = redis_state {
        proxy.set(Mode::Delay(Duration::from_millis(5)));
    }
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for limiter in nodes.iter().flat_map(|node| std::iter::repeat_n(node, CALLERS)) {
        let limiter = Arc::clone(limiter);
        callers.spawn(async move { call_in_bursts(&limiter, begun).await });
    }
    if let RedisState::KilledHalfway = redis_state {
        tokio::time::sleep(MEASUREMENT_TIME / 2).await;
        drop(redis.stop());
    }
    let admitted = callers.join_all().await.iter().sum();
    let quota = f64::from(u32::try_from(QUOTA).unwrap());
    (admitted, quota + quota * begun.elapsed().as_secs_f64() / WINDOW.as_secs_f64())
}

async fn call_in_bursts(limiter: &Limiter, begun: Instant) -> u64 {
    let limits = limits();
    let charge = Charge { owner: owner(1), limits: &limits, cost: 1 };
    let mut admitted = 0;
    while begun.elapsed() < MEASUREMENT_TIME {
        for _ in 0..BURST {
            admitted += u64::from(limiter.charge(&charge).await.admits());
        }
        tokio::time::sleep(PAUSE).await;
    }
    admitted
}

/// The resident memory of this process in bytes.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The growth of resident memory in bytes when [`KEYS`] limited keys are charged.
fn memory_of_keys() -> u64 {
    let local = Local::new(1_000_000, Arc::new(SystemClock));
    let limits = limits();
    let before = resident_memory();
    for number in 0..KEYS {
        local.charge(&Charge { owner: owner(number), limits: &limits, cost: 1 });
    }
    assert_eq!(local.len() as u128, KEYS);
    resident_memory().saturating_sub(before)
}

#[tokio::main]
async fn main() {
    println!("{KEYS} limited keys in memory: {} bytes per key\n", u128::from(memory_of_keys()) / KEYS);
    println!("| admitted / allowed | Redis healthy | 10 ms away | killed halfway |\n| --- | ---: | ---: | ---: |");
    for (name, mode) in [("exact", RateLimitMode::Exact), ("leased", RateLimitMode::Leased)] {
        print!("| {name} |");
        for redis_state in [RedisState::Healthy, RedisState::Slow, RedisState::KilledHalfway] {
            let (admitted, allowed) = measure(mode, redis_state).await;
            let admitted = f64::from(u32::try_from(admitted).unwrap());
            print!(" {:.3} ({admitted} of {allowed:.0}) |", admitted / allowed);
        }
        println!();
    }
}
