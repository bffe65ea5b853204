//! Crashes at random moments: no change that was acknowledged is lost, and the feed tells neither more nor less than what
//! became of the keys.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keygate_test_servers::{Postgres, Redis};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::nodes::Nodes;
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

const WORKERS: u64 = 4;
/// Keys that a worker has in hand, about.
const IN_HAND: usize = 8;

/// What a key is, as far as changes are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    name: String,
    /// `ACTIVE`, `REVOKED` or `GONE`.
    status: &'static str,
}

/// A key, and what its only changer knows of it.
#[derive(Debug)]
struct Key {
    /// `issued` or `imported`.
    kind: &'static str,
    id: String,
    secret: String,
    state: State,
    /// How many changes of it were acknowledged.
    changes: u64,
    /// What a change would have made of it that was not acknowledged; it is left alone from then on.
    perhaps: Option<State>,
}

/// Changes keys of its own through any node, one change at a time.
struct Worker {
    number: u64,
    rng: StdRng,
    http: Client,
    admins: Vec<String>,
    keys: Vec<Key>,
    run: Arc<Run>,
}

/// What workers and crashes share.
#[derive(Default)]
struct Run {
    acknowledged: AtomicUsize,
    over: AtomicBool,
}

/// All that can crash.
struct Servers {
    nodes: Vec<Keygate>,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
}

#[derive(Debug, Clone, Copy)]
enum Victim {
    Node(usize),
    Postgres,
    Redis,
}

impl State {
    fn active(name: &str) -> Self {
        Self { name: name.into(), status: "ACTIVE" }
    }

    fn with_status(&self, status: &'static str) -> Self {
        Self { name: self.name.clone(), status }
    }
}

impl Worker {
    async fn work(mut self) -> Vec<Key> {
        let mut in_hand: Vec<Key> = Vec::new();
        while !self.run.over.load(Ordering::Relaxed) {
            if in_hand.len() < IN_HAND {
                in_hand.extend(self.make().await);
            } else {
                let key = in_hand.swap_remove(self.rng.random_range(..in_hand.len()));
                in_hand.extend(self.change(key).await);
            }
        }
        self.keys.extend(in_hand);
        self.keys
    }

    /// Issues or imports a key.
    async fn make(&mut self) -> Option<Key> {
        let name = format!("first {}", self.rng.next_u32());
        let raw = format!("raw-{}-{}", self.number, self.rng.next_u64());
        let wanted = json!({"name": name, "actor_id": "crash", "raw_key": raw});
        let kind = if self.rng.random() { "issued" } else { "imported" };
        let body = self.send(&format!("POST {kind}ApiKeys"), &wanted).await?;
        let (record, secret) = match kind {
            "issued" => (&body["issued_api_key"], text(&body["secret"])),
            _ => (&body, raw),
        };
        let state = State::active(&name);
        Some(Key { kind, id: text(&record["key_id"]), secret, state, changes: 1, perhaps: None })
    }

    /// Changes an active key in some way; what is active afterwards.
    async fn change(&mut self, mut key: Key) -> Option<Key> {
        let path = format!("{}ApiKeys/{}", key.kind, key.id);
        let name = format!("next {}", self.rng.next_u32());
        let (call, then) = match (self.rng.random_range(0..4), key.kind) {
            (0, _) => (format!("POST {path}:revoke"), key.state.with_status("REVOKED")),
            (1, "issued") => (format!("POST {path}:rotate"), key.state.with_status("REVOKED")),
            (1, _) => (format!("DELETE {path}"), key.state.with_status("GONE")),
            _ => (format!("PATCH {path}?update_mask=name"), State::active(&name)),
        };
        let Some(body) = self.send(&call, &json!({"name": name})).await else {
            key.perhaps = Some(then);
            self.keys.push(key);
            return None;
        };
        key.state = then;
        key.changes += 1;
        if key.state.status == "ACTIVE" {
            return Some(key);
        }
        self.keys.push(key);
        let new = body.get("issued_api_key")?;
        let state = State::active(&text(&new["name"]));
        Some(Key {
            kind: "issued",
            id: text(&new["key_id"]),
            secret: text(&body["secret"]),
            state,
            changes: 1,
            perhaps: None,
        })
    }

    /// Makes a call through any node; `None` when it was not acknowledged, because of a crash.
    async fn send(&mut self, call: &str, body: &Value) -> Option<Value> {
        let (method, path) = call.split_once(' ').unwrap();
        let admin = &self.admins[self.rng.random_range(..self.admins.len())];
        let request = self.http.request(method.parse().unwrap(), format!("{admin}/v2alpha1/admin/{path}"));
        let answer = async {
            let answer = request.body(body.to_string()).send().await.ok()?;
            Some((answer.status().as_u16(), answer.bytes().await.ok()?))
        };
        match answer.await {
            Some((200 | 201 | 204, body)) => {
                self.run.acknowledged.fetch_add(1, Ordering::Relaxed);
                Some(serde_json::from_slice(&body).unwrap_or_default())
            }
            None | Some((503 | 504, _)) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                None
            }
            Some((status, body)) => panic!("{call}: {status} {}", String::from_utf8_lossy(&body)),
        }
    }
}

impl Servers {
    fn victims(&self) -> Vec<Victim> {
        let nodes = (0..self.nodes.len()).map(Victim::Node);
        let postgres = self.postgres.iter().map(|_| Victim::Postgres);
        nodes.chain(postgres).chain(self.redis.iter().map(|_| Victim::Redis)).collect()
    }

    /// Ends a process at once, and starts it again after a while.
    fn crash(&mut self, victim: Victim, away: Duration) {
        match victim {
            Victim::Node(number) => {
                self.nodes[number].process.kill();
                std::thread::sleep(away);
                self.nodes[number].start_again();
            }
            Victim::Postgres => {
                let stopped = self.postgres.take().unwrap().stop();
                std::thread::sleep(away);
                self.postgres = Some(stopped.start_again());
            }
            Victim::Redis => {
                let stopped = self.redis.take().unwrap().stop();
                std::thread::sleep(away);
                self.redis = Some(stopped.start_again());
            }
        }
    }

    /// Lets workers change keys until so many changes are acknowledged and everything has crashed so many times; what they
    /// know then.
    ///
    /// Blocks its thread: what it starts again would end with a thread of the runtime.
    async fn endure(&mut self, mutations: usize, rounds: usize) -> Vec<Key> {
        // The moments of crashes are not the same again; what is chosen is.
        let seed = std::env::var("CRASH_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
        println!("CRASH_SEED={seed}");
        let run = Arc::new(Run::default());
        let admins: Vec<String> = self.nodes.iter().map(|node| node.admin.clone()).collect();
        let worker = |number| Worker {
            number,
            rng: StdRng::seed_from_u64(seed ^ (number + 1)),
            http: Client::new(),
            admins: admins.clone(),
            keys: Vec::new(),
            run: Arc::clone(&run),
        };
        let workers: JoinSet<Vec<Key>> = (0..WORKERS).map(|number| worker(number).work()).collect();
        let mut rng = StdRng::seed_from_u64(seed);
        let deadline = Instant::now() + Duration::from_secs(900);
        let mut round = 0;
        while round < rounds || run.acknowledged.load(Ordering::Relaxed) < mutations {
            let mut victims = self.victims();
            victims.shuffle(&mut rng);
            for victim in victims {
                std::thread::sleep(Duration::from_millis(rng.random_range(20..400)));
                self.crash(victim, Duration::from_millis(rng.random_range(0..300)));
            }
            round += 1;
            assert!(Instant::now() < deadline, "too few changes: {:?}", run.acknowledged);
        }
        run.over.store(true, Ordering::Relaxed);
        let keys: Vec<Key> = workers.join_all().await.into_iter().flatten().collect();
        let unknown = keys.iter().filter(|key| key.perhaps.is_some()).count();
        println!("{:?} changes acknowledged of {} keys, {unknown} more perhaps made", run.acknowledged, keys.len());
        keys
    }

    /// Every key is what its last acknowledged change has made of it, or else the one after; and counts so on every node.
    async fn check_keys(&self, keys: &mut [Key]) {
        for key in keys {
            let answer = self.nodes[0].send(&format!("GET /v2alpha1/admin/{}ApiKeys/{}", key.kind, key.id), "").await;
            let found = match answer.status {
                200 => {
                    let status = text(&answer.body["status"]);
                    let known = ["ACTIVE", "REVOKED"].into_iter().find(|known| status.ends_with(known)).unwrap();
                    State { name: text(&answer.body["name"]), status: known }
                }
                404 => key.state.with_status("GONE"),
                other => panic!("{other}: {answer:?}"),
            };
            if key.perhaps.as_ref() == Some(&found) {
                key.state = found;
                key.changes += 1;
            } else {
                assert_eq!(found, key.state, "an acknowledged change is lost: {key:?}");
            }
            for node in &self.nodes {
                counts(node, key).await;
            }
        }
    }

    /// What is in the feed is what became of the keys, change by change.
    fn check_feed(&self, keys: &[Key]) {
        let postgres = self.postgres.as_ref().unwrap();
        let count = |statement: &str| postgres.query(statement).unwrap();
        let untold = "SELECT count(*) FROM keys WHERE NOT EXISTS (SELECT FROM changes WHERE (changes.tenant, changes.kind, \
                      changes.key_id, changes.version) = (keys.tenant, keys.kind, keys.key_id, keys.version))";
        assert_eq!(count(untold), "0", "keys whose last change is not in the feed");
        let unmade = "SELECT count(*) FROM changes LEFT JOIN keys USING (tenant, kind, key_id) \
                      LEFT JOIN deleted_keys USING (tenant, kind, key_id) \
                      WHERE CASE WHEN keys.version IS NULL THEN delete_time IS NULL ELSE changes.version > keys.version END";
        assert_eq!(count(unmade), "0", "changes in the feed that no key has gone through");
        // A deletion makes no version of its own.
        let gaps = "SELECT count(*) FROM (SELECT max(version) - min(version) + 1 + count(*) FILTER (WHERE change = 'delete') \
                    - count(*) AS gaps FROM changes GROUP BY tenant, kind, key_id) AS keys WHERE gaps != 0";
        assert_eq!(count(gaps), "0", "keys with versions that the feed does not tell of, or twice");
        let told = postgres.query("SELECT key_id, count(*) FROM changes GROUP BY key_id").unwrap();
        let told: HashMap<&str, u64> = told
            .lines()
            .map(|line| line.split_once('|').unwrap())
            .map(|(id, count)| (id, count.parse().unwrap()))
            .collect();
        for key in keys {
            assert_eq!(told.get(key.id.as_str()), Some(&key.changes), "changes in the feed: {key:?}");
        }
    }
}

/// Waits until a node takes a key for what it is.
async fn counts(node: &Keygate, key: &Key) {
    let verify = json!({"credential": key.secret});
    wait_for(async || {
        let response = node.send_json("POST /v2alpha1/admin/apiKeys:verify", &verify).await;
        let is_right = response.status == 200 && response.body["is_valid"] == (key.state.status == "ACTIVE");
        if is_right { Ok(()) } else { Err(format!("{key:?}: {response:?}")) }
    })
    .await;
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_change_is_lost_when_anything_crashes() {
    let Nodes { all, postgres, redis } = Nodes::start(2);
    let mut servers = Servers { nodes: all, postgres: Some(postgres), redis: Some(redis) };
    let mut keys = servers.endure(1000, 4).await;
    servers.check_keys(&mut keys).await;
    servers.check_feed(&keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_change_in_a_file_is_lost_when_keygate_crashes() {
    let mut servers = Servers { nodes: vec![Keygate::serve_admin(&json!({}))], postgres: None, redis: None };
    let mut keys = servers.endure(200, 5).await;
    servers.check_keys(&mut keys).await;
}
