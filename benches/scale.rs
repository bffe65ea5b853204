//! What a million keys cost: the start of a node, memory, verification through each cache, pages of lists.
//!
//! Needs PostgreSQL and Redis on this machine, as the tests do. See the README of this folder.

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

#[expect(dead_code, reason = "the tests' helpers, of which not all are needed here")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use keygate::clock::{Clock, SystemClock};
use keygate::credential::{Keyring, mint};
use keygate::id::TenantId;
use keygate::key::{ApiKey, Revocation, RevocationReason, Status};
use keygate::policy::Visibility;
use keygate::request_context::RequestContext;
use keygate::store::{KeyStore, Migration, PostgresOptions, PostgresStore};
use rand::rngs::StdRng;
use reqwest::{Client, RequestBuilder};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use keygate_test_servers::{Postgres, Redis};
use support::keygate::{HMAC_SECRET, Keygate};

const KEYS: usize = 1_000_000;
/// Keys in one statement.
const BATCH: usize = 5_000;
/// Owners; their keys are spread evenly over all.
const ACTORS: usize = 1_000;
/// One of so many keys is revoked.
const REVOKED: usize = 10;
/// Keys that are verified through each cache.
const VERIFIED: usize = 20_000;
/// Keys that are cached to see what they weigh.
const CACHED: usize = 100_000;
/// Calls under way at once.
const CALLS: usize = 16;
const LONG: Duration = Duration::from_secs(3600);
/// Of the keys.
const PREFIX: &str = "scale";
const ADMIN: &str = "/v2alpha1/admin";

/// Calls, all of them good.
struct Calls {
    per_second: f64,
    median: Duration,
    p99: Duration,
}

impl Calls {
    fn new(mut took: Vec<Duration>, whole: Duration) -> Self {
        took.sort();
        #[expect(clippy::cast_precision_loss, reason = "far from the edge")]
        let per_second = took.len() as f64 / whole.as_secs_f64();
        Self { per_second, median: took[took.len() / 2], p99: took[took.len() * 99 / 100] }
    }

    fn print(&self, what: &str) {
        println!("| {what} | {:.0} | {} | {} |", self.per_second, millis(self.median), millis(self.p99));
    }
}

#[tokio::main]
async fn main() {
    // `cargo bench` says so; whoever else runs all targets does not want to wait for this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let count = std::env::var("KEYS").map_or(KEYS, |count| count.parse().unwrap());
    assert!(count >= CACHED * 2, "KEYS is {CACHED} times 2 at least");
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
    let empty = start(&mut node).await;
    let begun = Instant::now();
    let keys = fill(&postgres, count).await;
    println!("{count} keys, stored in {:.1} s", begun.elapsed().as_secs_f64());

    println!("\n| start to first answer | ms |\n| --- | ---: |");
    println!("| no keys | {} |", millis(empty));
    println!("| {count} keys, all changed within the last hour | {} |", millis(start(&mut node).await));
    // As in a database of some age: the feed is pruned.
    postgres.query("TRUNCATE changes").unwrap();
    postgres.query("VACUUM ANALYZE").unwrap();
    println!("| {count} keys | {} |", millis(start(&mut node).await));

    println!("\n| {CALLS} calls at once | calls/s | median ms | p99 ms |\n| --- | ---: | ---: | ---: |");
    measure_verify(&mut node, &keys[..VERIFIED]).await;
    measure_memory(&mut node, &keys[..CACHED]).await;
    measure_lists(&node, count).await;
}

/// How long a node takes from its start to its first answer; the median of some starts.
async fn start(node: &mut Keygate) -> Duration {
    let mut took = Vec::new();
    for _ in 0..5 {
        node.process.kill();
        let begun = Instant::now();
        node.start_again();
        node.http = Client::new();
        assert!(node.http.get(format!("{}/health/ready", node.metrics)).send().await.unwrap().status().is_success());
        took.push(begun.elapsed());
    }
    took.sort();
    took[took.len() / 2]
}

/// Stores keys as a node does, many at a time; the texts of active ones.
async fn fill(postgres: &Postgres, count: usize) -> Vec<String> {
    let options = PostgresOptions {
        url: postgres.url("postgres").into(),
        max_connections: 1,
        min_connections: 0,
        max_lifetime: None,
        idle_timeout: None,
        connect_timeout: LONG,
        acquire_timeout: LONG,
        statement_timeout: LONG,
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

/// A key as they come, and its text.
fn key(number: usize, keyring: &Keyring, rng: &mut StdRng) -> (ApiKey, String) {
    let now = SystemClock.now();
    let (id, text) = mint(PREFIX, keyring, now, rng).unwrap();
    let revocation = Revocation { reason: RevocationReason::Unspecified, description: None };
    let metadata = [("team", json!("payments")), ("ticket", json!(number))];
    let key = ApiKey {
        tenant: TenantId::NIL,
        id,
        name: format!("key {number}"),
        actor_id: format!("actor-{}", number % ACTORS),
        scopes: ["orders:read", "orders:write"].map(String::from).into_iter().collect(),
        metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        status: if (number / ACTORS).is_multiple_of(REVOKED) { Status::Revoked(revocation) } else { Status::Active },
        visibility: Visibility::Secret,
        create_time: now,
        update_time: now,
        expire_time: Some(now + TimeDelta::days(90)),
        revoke_time: None,
        replaced_by: None,
        last_used_time: None,
        rate_limit: None,
        networks: keygate::cidr::CidrSet::default(),
        version: ApiKey::first_version(now),
    };
    (key, text.expose_secret().to_owned())
}

async fn measure_verify(node: &mut Keygate, keys: &[String]) {
    let http = node.http.clone();
    let alive: Vec<RequestBuilder> = keys.iter().map(|_| http.get(format!("{}/health/alive", node.admin))).collect();
    drive(alive, |_| true).await.print("`/health/alive`, for comparison");
    for (what, level) in [("the database", "database"), ("Redis", "shared"), ("memory", "memory")] {
        if level != "memory" {
            // Empties the cache in memory.
            start(node).await;
        }
        verify(node, keys).await.print(&format!("`:verify`, answered from {what}"));
        assert!(counted(node, level).await >= keys.len(), "what {what} was asked for");
    }
}

async fn measure_memory(node: &mut Keygate, keys: &[String]) {
    start(node).await;
    // Connections, threads, buffers.
    let (first, others) = keys.split_at(1000);
    verify(node, first).await;
    let before = resident(node);
    verify(node, others).await;
    let each = (resident(node) - before) / others.len();
    println!("\nmemory: {each} bytes for each of {} cached keys", others.len());
}

async fn measure_lists(node: &Keygate, count: usize) {
    let url = |query: &str, token: &str| format!("{}{ADMIN}/issuedApiKeys?{query}&page_token={token}", node.admin);
    let page = async |query: &str, token: &str| {
        let answer: Value = node.http.get(url(query, token)).send().await.unwrap().json().await.unwrap();
        answer["next_page_token"].as_str().unwrap().to_owned()
    };
    let mut tokens = vec![String::new()];
    let begun = Instant::now();
    while let Some(token) =
        Some(page("page_size=1000", &tokens[tokens.len() - 1]).await).filter(|token| !token.is_empty())
    {
        tokens.push(token);
    }
    println!("\nall {count} keys listed, 1000 a page, in {:.1} s", begun.elapsed().as_secs_f64());
    println!("\n| page of 100 keys | median ms | p99 ms |\n| --- | ---: | ---: |");
    let owner = "filter=actor_id%3Dactor-7";
    let [active, revoked] = ["ACTIVE", "REVOKED"].map(|status| format!("{owner}+AND+status%3DKEY_STATUS_{status}"));
    let (middle, last) = (&tokens[tokens.len() / 2], &tokens[tokens.len() - 1]);
    for (what, filter, token) in [
        ("first", "", ""),
        ("middle", "", middle),
        ("near the end", "", last),
        ("of one owner, first", owner, ""),
        ("of one owner, middle", owner, middle),
        ("of one owner, active, first", &active, ""),
        ("of one owner, active, middle", &active, middle),
        ("of one owner, revoked, first", &revoked, ""),
    ] {
        let mut took = Vec::new();
        for _ in 0..200 {
            let begun = Instant::now();
            page(&format!("page_size=100&{filter}"), token).await;
            took.push(begun.elapsed());
        }
        let calls = Calls::new(took, LONG);
        println!("| {what} | {} | {} |", millis(calls.median), millis(calls.p99));
    }
}

async fn verify(node: &Keygate, keys: &[String]) -> Calls {
    let url = format!("{}{ADMIN}/apiKeys:verify", node.admin);
    let call = |key: &String| node.http.post(&url).body(json!({"credential": key}).to_string());
    drive(keys.iter().map(call).collect(), |answer| answer["is_valid"] == true).await
}

/// Makes calls, so many at a time, and sees that each is answered well.
async fn drive(mut calls: Vec<RequestBuilder>, is_good: fn(&Value) -> bool) -> Calls {
    let share = calls.len().div_ceil(CALLS);
    let mut workers = JoinSet::new();
    let begun = Instant::now();
    while !calls.is_empty() {
        let calls = calls.split_off(calls.len().saturating_sub(share));
        workers.spawn(async move {
            let mut took = Vec::new();
            for call in calls {
                let begun = Instant::now();
                let answer = call.send().await.unwrap().bytes().await.unwrap();
                took.push(begun.elapsed());
                assert!(is_good(&serde_json::from_slice(&answer).unwrap_or_default()), "{answer:?}");
            }
            took
        });
    }
    let took = workers.join_all().await.concat();
    Calls::new(took, begun.elapsed())
}

/// How many lookups of a node that level has answered.
async fn counted(node: &Keygate, level: &str) -> usize {
    let line = format!("keygate_lookups_total{{level=\"{level}\"}} ");
    let text = node.http.get(format!("{}/metrics", node.metrics)).send().await.unwrap().text().await.unwrap();
    text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or_default()
}

/// Memory that a node has, in bytes.
fn resident(node: &Keygate) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}
