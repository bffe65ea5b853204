//! Performance with a million keys: start-up time, memory, verification through each cache level, and list pages.
//!
//! Requires PostgreSQL and Redis on this machine, as the tests do. See `benches/README.md`.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[expect(dead_code, reason = "only some of the test helpers are used")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use keygate::clock::{Clock, SystemClock};
use keygate::credential::{Keyring, mint};
use keygate::id::TenantId;
use keygate::key::{ApiKey, Revocation, RevocationReason, Status};
use keygate::request_context::RequestContext;
use keygate::store::{KeyStore, Migration, PostgresOptions, PostgresStore};
use rand::rngs::StdRng;
use reqwest::{Client, RequestBuilder};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use keygate_test_servers::{Postgres, Redis};
use support::keygate::{HMAC_SECRET, Keygate};

/// The default number of keys. The environment variable `KEYS` overrides it.
const KEYS: usize = 1_000_000;
/// The number of keys per insert statement.
const BATCH: usize = 5_000;
/// The number of actors. All have the same number of keys.
const ACTORS: usize = 1_000;
/// One key in `REVOKED` is revoked.
const REVOKED: usize = 10;
/// The number of keys that are verified through each cache level.
const VERIFIED: usize = 20_000;
/// The number of keys that are cached to measure their memory.
const CACHED: usize = 100_000;
/// The number of concurrent calls.
const CONCURRENCY: usize = 16;
/// A timeout that is never reached.
const NO_TIMEOUT: Duration = Duration::from_secs(3600);
/// The prefix of the keys.
const PREFIX: &str = "scale";
/// The path prefix of the admin API.
const ADMIN: &str = "/v2alpha1/admin";

/// Throughput and latencies of a series of successful calls.
struct CallStats {
    per_second: f64,
    median: Duration,
    p99: Duration,
}

impl CallStats {
    /// The statistics of calls with these latencies that took `total` together.
    fn new(mut latencies: Vec<Duration>, total: Duration) -> Self {
        latencies.sort();
        #[expect(clippy::cast_precision_loss, reason = "the count is small enough to be exact")]
        let per_second = latencies.len() as f64 / total.as_secs_f64();
        Self { per_second, median: latencies[latencies.len() / 2], p99: latencies[latencies.len() * 99 / 100] }
    }

    fn print(&self, title: &str) {
        println!("| {title} | {:.0} | {} | {} |", self.per_second, millis(self.median), millis(self.p99));
    }
}

#[tokio::main]
async fn main() {
    // Only `cargo bench` passes this argument. Other commands that run all targets, such as `cargo test --all-targets`, skip the benchmark.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let count = std::env::var("KEYS").map_or(KEYS, |count| count.parse().unwrap());
    assert!(count >= CACHED * 2, "KEYS must be at least 2 × {CACHED}");
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let mut node = Keygate::serve(
        &json!({
            "routes": [{"name": "none", "path_prefix": "/", "upstream": "none"}],
            "upstreams": {"none": {"endpoints": ["http://127.0.0.1:9"]}},
        }),
        &json!({
            "credentials": {"api_keys": {"prefix": {"current": PREFIX}}},
            "db": {"dsn": postgres.url("postgres"), "auto_migrate": true},
            "cache": {
                "type": "redis", "ttl": "1h", "memory": {"max_size": 1 << 30}, "redis": {"addrs": [redis.address()]},
            },
        }),
    );
    let without_keys = measure_start(&mut node).await;
    let begun = Instant::now();
    let keys = store_keys(&postgres, count).await;
    println!("{count} keys, stored in {:.1} s", begun.elapsed().as_secs_f64());

    println!("\n| start to first answer | ms |\n| --- | ---: |");
    println!("| no keys | {} |", millis(without_keys));
    println!("| {count} keys, all changed within the last hour | {} |", millis(measure_start(&mut node).await));
    // Represents a database whose keys were created long ago: their rows in the change feed have been pruned.
    postgres.query("TRUNCATE changes").unwrap();
    postgres.query("VACUUM ANALYZE").unwrap();
    println!("| {count} keys | {} |", millis(measure_start(&mut node).await));

    println!("\n| {CONCURRENCY} calls at once | calls/s | median ms | p99 ms |\n| --- | ---: | ---: | ---: |");
    measure_verify(&mut node, &keys[..VERIFIED]).await;
    measure_memory(&mut node, &keys[..CACHED]).await;
    measure_lists(&node, count).await;
}

/// Restarts a node several times. Returns the median time from the start to the first response.
async fn measure_start(node: &mut Keygate) -> Duration {
    let mut times = Vec::new();
    for _ in 0..5 {
        node.process.kill();
        let begun = Instant::now();
        node.start_again();
        node.http = Client::new();
        assert!(node.http.get(format!("{}/health/ready", node.metrics)).send().await.unwrap().status().is_success());
        times.push(begun.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

/// Stores `count` keys with the library's store, in batches. Returns the texts of the first [`CACHED`] active keys.
async fn store_keys(postgres: &Postgres, count: usize) -> Vec<String> {
    let options = PostgresOptions {
        url: postgres.url("postgres").into(),
        max_connections: 1,
        min_connections: 0,
        max_lifetime: None,
        idle_timeout: None,
        connect_timeout: NO_TIMEOUT,
        acquire_timeout: NO_TIMEOUT,
        statement_timeout: NO_TIMEOUT,
    };
    let store = PostgresStore::open(&options, Migration::Manual).await.unwrap();
    let keyring = Keyring::new(&HMAC_SECRET.to_owned().into(), &[]);
    let mut rng: StdRng = rand::make_rng();
    let mut texts = Vec::new();
    for first in (0..count).step_by(BATCH) {
        let batch = (first..count.min(first + BATCH)).map(|number| key(number, &keyring, &mut rng));
        let (keys, secrets): (Vec<ApiKey>, Vec<String>) = batch.unzip();
        assert!(
            store
                .insert_many(&RequestContext::system(TenantId::NIL), &keys)
                .await
                .unwrap()
                .iter()
                .all(|stored| *stored)
        );
        let active = keys.iter().zip(secrets).filter(|(key, _)| key.status == Status::Active);
        texts.extend(active.map(|(_, text)| text).take(CACHED.saturating_sub(texts.len())));
    }
    store.close().await;
    texts
}

/// A typical key and its text. `number` determines the actor and whether the key is revoked.
fn key(number: usize, keyring: &Keyring, rng: &mut StdRng) -> (ApiKey, String) {
    let now = SystemClock.now();
    let (id, text) = mint(PREFIX, keyring, now, rng).unwrap();
    let revocation = Revocation { reason: RevocationReason::Unspecified, description: None };
    let metadata = [("team", json!("payments")), ("ticket", json!(number))];
    let key = ApiKey {
        name: format!("key {number}"),
        actor_id: format!("actor-{}", number % ACTORS),
        scopes: ["orders:read", "orders:write"].map(String::from).into_iter().collect(),
        metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        status: if (number / ACTORS).is_multiple_of(REVOKED) { Status::Revoked(revocation) } else { Status::Active },
        expire_time: Some(now + TimeDelta::days(90)),
        ..ApiKey::new(TenantId::NIL, id, now)
    };
    (key, text.expose_secret().to_owned())
}

async fn measure_verify(node: &mut Keygate, keys: &[String]) {
    let http = node.http.clone();
    let health_checks: Vec<RequestBuilder> =
        keys.iter().map(|_| http.get(format!("{}/health/alive", node.admin))).collect();
    run_calls(health_checks, |_| true).await.print("`/health/alive`, for comparison");
    for (source, level) in [("the database", "database"), ("Redis", "shared"), ("memory", "memory")] {
        if level != "memory" {
            // A restart empties the cache in memory.
            measure_start(node).await;
        }
        verify(node, keys).await.print(&format!("`:verify`, answered from {source}"));
        assert!(lookups(node, level).await >= keys.len(), "{source} did not answer all lookups");
    }
}

async fn measure_memory(node: &mut Keygate, keys: &[String]) {
    measure_start(node).await;
    // The first calls are the warm-up: they allocate connections, threads and buffers.
    let (first, others) = keys.split_at(1000);
    verify(node, first).await;
    let before = resident_memory(node);
    verify(node, others).await;
    let per_key = (resident_memory(node) - before) / others.len();
    println!("\nmemory: {per_key} bytes per key, with {} cached keys", others.len());
}

async fn measure_lists(node: &Keygate, count: usize) {
    let url = |query: &str, token: &str| format!("{}{ADMIN}/issuedApiKeys?{query}&page_token={token}", node.admin);
    let page = async |query: &str, token: &str| {
        let response: Value = node.http.get(url(query, token)).send().await.unwrap().json().await.unwrap();
        response["next_page_token"].as_str().unwrap().to_owned()
    };
    let mut tokens = vec![String::new()];
    let begun = Instant::now();
    while let Some(token) =
        Some(page("page_size=1000", &tokens[tokens.len() - 1]).await).filter(|token| !token.is_empty())
    {
        tokens.push(token);
    }
    println!("\nall {count} keys listed, 1000 per page, in {:.1} s", begun.elapsed().as_secs_f64());
    println!("\n| page of 100 keys | median ms | p99 ms |\n| --- | ---: | ---: |");
    let actor = "filter=actor_id%3Dactor-7";
    let [active, revoked] = ["ACTIVE", "REVOKED"].map(|status| format!("{actor}+AND+status%3DKEY_STATUS_{status}"));
    let (middle, last) = (&tokens[tokens.len() / 2], &tokens[tokens.len() - 1]);
    for (title, filter, token) in [
        ("first", "", ""),
        ("middle", "", middle),
        ("near the end", "", last),
        ("of one actor, first", actor, ""),
        ("of one actor, middle", actor, middle),
        ("of one actor, active, first", &active, ""),
        ("of one actor, active, middle", &active, middle),
        ("of one actor, revoked, first", &revoked, ""),
    ] {
        let mut latencies = Vec::new();
        let begun = Instant::now();
        for _ in 0..200 {
            let begun = Instant::now();
            page(&format!("page_size=100&{filter}"), token).await;
            latencies.push(begun.elapsed());
        }
        let summary = CallStats::new(latencies, begun.elapsed());
        println!("| {title} | {} | {} |", millis(summary.median), millis(summary.p99));
    }
}

async fn verify(node: &Keygate, keys: &[String]) -> CallStats {
    let url = format!("{}{ADMIN}/apiKeys:verify", node.admin);
    let call = |key: &String| node.http.post(&url).body(json!({"credential": key}).to_string());
    run_calls(keys.iter().map(call).collect(), |response| response["is_valid"] == true).await
}

/// Sends calls with a concurrency of [`CONCURRENCY`] and asserts that `is_expected` holds for every response.
async fn run_calls(mut calls: Vec<RequestBuilder>, is_expected: fn(&Value) -> bool) -> CallStats {
    let share = calls.len().div_ceil(CONCURRENCY);
    let mut workers = JoinSet::new();
    let begun = Instant::now();
    while !calls.is_empty() {
        let calls = calls.split_off(calls.len().saturating_sub(share));
        workers.spawn(async move {
            let mut latencies = Vec::new();
            for call in calls {
                let begun = Instant::now();
                let response = call.send().await.unwrap().bytes().await.unwrap();
                latencies.push(begun.elapsed());
                assert!(is_expected(&serde_json::from_slice(&response).unwrap_or_default()), "{response:?}");
            }
            latencies
        });
    }
    let latencies = workers.join_all().await.concat();
    CallStats::new(latencies, begun.elapsed())
}

/// The number of lookups that a cache level of a node has answered since the node started.
async fn lookups(node: &Keygate, level: &str) -> usize {
    let line = format!("keygate_lookups_total{{level=\"{level}\"}} ");
    let text = node.http.get(format!("{}/metrics", node.metrics)).send().await.unwrap().text().await.unwrap();
    text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or_default()
}

/// The resident memory of a node in bytes.
fn resident_memory(node: &Keygate) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}
