//! From 100 ms after a revocation call has returned, no node accepts the key any more, also under load.
//!
//! Prints the measured latencies. For those of a release build:
//! `cargo test --release --test it revocation -- --nocapture`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use keygate_test_servers::WAIT_TIMEOUT;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Client;
use serde_json::json;
use tokio::task::JoinSet;

use crate::nodes::Nodes;
use crate::support::keygate::Keygate;
use crate::support::wait::is_machine_quiet;

const NODES: usize = 3;
const KEYS: usize = 400;
const REVOCATIONS: usize = 200;
/// Concurrent revokers; each revokes one key after another.
const REVOKERS: usize = 2;
const CALLERS: u64 = 6;
/// No call that begins this long after a revocation has returned is accepted.
const BOUND: Duration = Duration::from_millis(100);
/// The same while other programs use the processors, so that each step waits for one.
const BOUND_ON_BUSY_MACHINE: Duration = Duration::from_secs(10);

struct Key {
    id: String,
    secret: String,
    /// When the call that revoked it returned.
    revoked: OnceLock<Instant>,
}

/// What all callers share, and what they have measured.
struct Callers {
    http: Client,
    gateways: Vec<String>,
    keys: Vec<Key>,
    calls: AtomicU64,
    done: AtomicBool,
    /// How long after their revocation keys were accepted, if that is at least the bound.
    late: Mutex<Vec<Duration>>,
}

impl Callers {
    /// Sends a request with a key to a node; whether the key was accepted.
    async fn send_request(&self, node: usize, key: &Key) -> bool {
        let start = Instant::now();
        let response = self.http.get(&self.gateways[node]).bearer_auth(&key.secret).send().await.unwrap();
        self.calls.fetch_add(1, Ordering::Relaxed);
        match response.status().as_u16() {
            401 => false,
            200 => {
                let after = key.revoked.get().map(|revoked| start.saturating_duration_since(*revoked));
                self.late.lock().unwrap().extend(after.filter(|after| *after >= BOUND));
                true
            }
            other => panic!("node {node} answered {other}"),
        }
    }

    /// Sends requests with random keys, also revoked ones, to random nodes until the test is done.
    async fn load(self: Arc<Self>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        while !self.done.load(Ordering::Relaxed) {
            let key = &self.keys[rng.random_range(..KEYS)];
            self.send_request(rng.random_range(..NODES), key).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The time from the revocation to the first rejection by a node. Continues until the bound has passed.
    async fn first_rejection(&self, node: usize, key: &Key) -> Duration {
        let revoked = key.revoked.get().unwrap();
        let mut first = None;
        while first.is_none() || revoked.elapsed() < BOUND {
            let accepted = self.send_request(node, key).await;
            let after = revoked.elapsed();
            assert!(after < WAIT_TIMEOUT, "node {node} does not reject a revoked key");
            if !accepted {
                first.get_or_insert(after);
                tokio::time::sleep(BOUND / 10).await;
            }
        }
        assert!(!self.send_request(node, key).await, "node {node} accepts a key after it has rejected it");
        first.unwrap()
    }

    /// Revokes every [`REVOKERS`]th key through a random node; returns the time that each node took to reject it.
    async fn revoke(self: Arc<Self>, first: usize, nodes: Vec<Admin>) -> Vec<Duration> {
        let mut rng = StdRng::seed_from_u64(first as u64);
        let mut after = Vec::new();
        for key in self.keys.iter().skip(first).step_by(REVOKERS).take(REVOCATIONS / REVOKERS) {
            for node in 0..NODES {
                assert!(self.send_request(node, key).await, "the key is valid and in every cache");
            }
            nodes[rng.random_range(..NODES)].revoke(&key.id).await;
            key.revoked.set(Instant::now()).unwrap();
            let [one, two, three] = [0, 1, 2].map(|node| self.first_rejection(node, key));
            after.extend(<[Duration; NODES]>::from(tokio::join!(one, two, three)));
        }
        after
    }
}

/// The admin API of a node.
#[derive(Clone)]
struct Admin(Client, String);

impl Admin {
    async fn revoke(&self, id: &str) {
        let url = format!("{}/v2alpha1/admin/issuedApiKeys/{id}:revoke", self.1);
        assert_eq!(self.0.post(url).send().await.unwrap().status(), 204);
    }
}

/// The propagation histogram, summed over the nodes: upper bounds in seconds, the last one infinite, and counts.
async fn propagation(nodes: &[Keygate]) -> Vec<(f64, u64)> {
    let mut sums: Vec<(f64, u64)> = Vec::new();
    for node in nodes {
        let text = node.http.get(format!("{}/metrics", node.metrics)).send().await.unwrap().text().await.unwrap();
        let buckets = text.lines().filter_map(|line| {
            let (limit, count) =
                line.strip_prefix("keygate_feed_propagation_seconds_bucket{le=\"")?.split_once("\"} ")?;
            Some((limit.parse().unwrap_or(f64::INFINITY), count.parse().unwrap()))
        });
        for (index, (limit, count)) in buckets.enumerate() {
            match sums.get_mut(index) {
                Some(sum) => sum.1 += count,
                None => sums.push((limit, count)),
            }
        }
    }
    sums
}

/// The index of a quantile among `count` sorted values.
fn quantile_index(count: usize, per_mille: usize) -> usize {
    (count * per_mille).div_ceil(1000).max(1) - 1
}

fn print_figures(mut rejections: Vec<Duration>, before: &[(f64, u64)], after: &[(f64, u64)], rate: f64) {
    rejections.sort();
    let of = |per_mille| rejections[quantile_index(rejections.len(), per_mille)];
    println!("{REVOCATIONS} revocations on {NODES} nodes that serve {rate:.0} calls a second:");
    println!("revocation returned to first rejection: p50 {:?}, p99 {:?}, maximum {:?}", of(500), of(990), of(1000));
    let counts: Vec<(f64, u64)> =
        before.iter().zip(after).map(|(before, after)| (after.0, after.1 - before.1)).collect();
    let total = usize::try_from(counts.last().map_or(0, |last| last.1)).unwrap();
    let within = |per_mille| {
        let place = quantile_index(total, per_mille) as u64;
        counts.iter().find(|(_, count)| *count > place).map_or(0.0, |(limit, _)| limit * 1000.0)
    };
    let [p50, p99, maximum] = [500, 990, 1000].map(within);
    println!("commit to applied, {total} times: p50 within {p50} ms, p99 within {p99} ms, maximum within {maximum} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_key_is_rejected_on_every_node_under_load() {
    let servers = Nodes::start(NODES);
    let nodes = &servers.all;
    let mut keys = Vec::new();
    for number in 0..KEYS {
        let (id, secret) = nodes[number % NODES].issue(json!({})).await;
        keys.push(Key { id, secret, revoked: OnceLock::new() });
    }
    let callers = Arc::new(Callers {
        http: Client::new(),
        gateways: nodes.iter().map(|node| node.gateway.clone()).collect(),
        keys,
        calls: AtomicU64::new(0),
        done: AtomicBool::new(false),
        late: Mutex::default(),
    });
    let before = propagation(nodes).await;
    let quiet_before = is_machine_quiet().await;
    let start = Instant::now();
    let load: JoinSet<()> = (0..CALLERS).map(|seed| Arc::clone(&callers).load(seed)).collect();
    let admins: Vec<Admin> = nodes.iter().map(|node| Admin(node.http.clone(), node.admin.clone())).collect();
    let revokers: JoinSet<Vec<Duration>> =
        (0..REVOKERS).map(|first| Arc::clone(&callers).revoke(first, admins.clone())).collect();
    let rejections = revokers.join_all().await.concat();
    callers.done.store(true, Ordering::Relaxed);
    load.join_all().await;
    #[expect(clippy::cast_precision_loss, reason = "far from the edge")]
    let rate = callers.calls.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    print_figures(rejections, &before, &propagation(nodes).await, rate);
    let is_quiet = is_machine_quiet().await && quiet_before;
    let bound = if is_quiet { BOUND } else { BOUND_ON_BUSY_MACHINE };
    let late = callers.late.lock().unwrap();
    println!("accepted {BOUND:?} and more after the revocation: {}", late.len());
    assert!(late.iter().all(|after| *after < bound), "accepted {bound:?} and more after the revocation: {late:?}");
}
