//! Crashes at random times: no acknowledged change is lost, and the change feed has exactly the changes of the keys.

mod audit;

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
/// The number of active keys that a worker changes.
const ACTIVE_KEYS: usize = 8;

/// The state of a key that changes affect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    name: String,
    /// `ACTIVE`, `REVOKED` or `DELETED`.
    status: &'static str,
}

/// A key, and what the only worker that changes it knows of it.
#[derive(Debug)]
struct Key {
    /// `issued` or `imported`.
    kind: &'static str,
    id: String,
    secret: String,
    state: State,
    /// The number of acknowledged changes, with its creation.
    changes: u64,
    /// The state after a change that was not acknowledged. The key is not changed any more after that.
    unacknowledged: Option<State>,
}

/// Changes its own keys through random nodes, one change at a time.
struct Worker {
    number: u64,
    rng: StdRng,
    http: Client,
    admins: Vec<String>,
    keys: Vec<Key>,
    run: Arc<Run>,
}

/// State shared by the workers and the crashes.
#[derive(Default)]
struct Run {
    acknowledged: AtomicUsize,
    over: AtomicBool,
}

/// The processes that can crash.
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
        let mut active: Vec<Key> = Vec::new();
        while !self.run.over.load(Ordering::Relaxed) {
            if active.len() < ACTIVE_KEYS {
                active.extend(self.make().await);
            } else {
                let key = active.swap_remove(self.rng.random_range(..active.len()));
                active.extend(self.change(key).await);
            }
        }
        self.keys.extend(active);
        self.keys
    }

    /// Issues or imports a key.
    async fn make(&mut self) -> Option<Key> {
        let name = format!("first {}", self.rng.next_u32());
        let raw = format!("raw-{}-{}", self.number, self.rng.next_u64());
        let body_fields = json!({"name": name, "actor_id": "crash", "raw_key": raw});
        let kind = if self.rng.random() { "issued" } else { "imported" };
        let body = self.send(&format!("POST {kind}ApiKeys"), &body_fields).await?;
        let (record, secret) = match kind {
            "issued" => (&body["issued_api_key"], text(&body["secret"])),
            _ => (&body, raw),
        };
        let state = State::active(&name);
        Some(Key { kind, id: text(&record["key_id"]), secret, state, changes: 1, unacknowledged: None })
    }

    /// Makes a random change of an active key; returns the active key after it, if there is one.
    async fn change(&mut self, mut key: Key) -> Option<Key> {
        let path = format!("{}ApiKeys/{}", key.kind, key.id);
        let name = format!("next {}", self.rng.next_u32());
        let (call, then) = match (self.rng.random_range(0..4), key.kind) {
            (0, _) => (format!("POST {path}:revoke"), key.state.with_status("REVOKED")),
            (1, "issued") => (format!("POST {path}:rotate"), key.state.with_status("REVOKED")),
            (1, _) => (format!("DELETE {path}"), key.state.with_status("DELETED")),
            _ => (format!("PATCH {path}?update_mask=name"), State::active(&name)),
        };
        let Some(body) = self.send(&call, &json!({"name": name})).await else {
            key.unacknowledged = Some(then);
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
            unacknowledged: None,
        })
    }

    /// Makes a call through a random node; `None` if a crash prevented its acknowledgement.
    async fn send(&mut self, call: &str, body: &Value) -> Option<Value> {
        let (method, path) = call.split_once(' ').unwrap();
        let admin = &self.admins[self.rng.random_range(..self.admins.len())];
        let request = self.http.request(method.parse().unwrap(), format!("{admin}/v2alpha1/admin/{path}"));
        let response = async {
            let response = request.body(body.to_string()).send().await.ok()?;
            Some((response.status().as_u16(), response.bytes().await.ok()?))
        };
        match response.await {
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

    /// Kills a process, and starts it again after `downtime`.
    fn crash(&mut self, victim: Victim, downtime: Duration) {
        match victim {
            Victim::Node(number) => {
                self.nodes[number].process.kill();
                std::thread::sleep(downtime);
                self.nodes[number].start_again();
            }
            Victim::Postgres => {
                let stopped = self.postgres.take().unwrap().stop();
                std::thread::sleep(downtime);
                self.postgres = Some(stopped.start_again());
            }
            Victim::Redis => {
                let stopped = self.redis.take().unwrap().stop();
                std::thread::sleep(downtime);
                self.redis = Some(stopped.start_again());
            }
        }
    }

    /// Lets workers change keys until `mutations` changes are acknowledged and each process has crashed `rounds` times; returns
    /// the keys.
    ///
    /// Blocks its thread: processes end with the thread that has started them, so it must not be one of the runtime.
    async fn run_workload(&mut self, mutations: usize, rounds: usize) -> Vec<Key> {
        // The seed repeats the choices, not the times of the crashes.
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
        let unknown = keys.iter().filter(|key| key.unacknowledged.is_some()).count();
        println!("{:?} changes acknowledged of {} keys, {unknown} unacknowledged", run.acknowledged, keys.len());
        keys
    }

    /// Every key is in the state after its last acknowledged change or after the unacknowledged one, and every node treats it so.
    async fn check_keys(&self, keys: &mut [Key]) {
        for key in keys {
            let response = self.nodes[0].send(&format!("GET /v2alpha1/admin/{}ApiKeys/{}", key.kind, key.id), "").await;
            let found = match response.status {
                200 => {
                    let status = text(&response.body["status"]);
                    let known = ["ACTIVE", "REVOKED"].into_iter().find(|known| status.ends_with(known)).unwrap();
                    State { name: text(&response.body["name"]), status: known }
                }
                404 => key.state.with_status("DELETED"),
                other => panic!("{other}: {response:?}"),
            };
            if key.unacknowledged.as_ref() == Some(&found) {
                key.state = found;
                key.changes += 1;
            } else {
                assert_eq!(found, key.state, "an acknowledged change is lost: {key:?}");
            }
            for node in &self.nodes {
                verifies(node, key).await;
            }
        }
    }

    /// The change feed has each change of each key once.
    fn check_feed(&self, keys: &[Key]) {
        let postgres = self.postgres.as_ref().unwrap();
        let count = |statement: &str| postgres.query(statement).unwrap();
        let missing = "SELECT count(*) FROM keys WHERE NOT EXISTS (SELECT FROM changes WHERE (changes.tenant, changes.kind, \
                      changes.key_id, changes.version) = (keys.tenant, keys.kind, keys.key_id, keys.version))";
        assert_eq!(count(missing), "0", "keys whose last change is not in the change feed");
        let extra = "SELECT count(*) FROM changes LEFT JOIN keys USING (tenant, kind, key_id) \
                      LEFT JOIN deleted_keys USING (tenant, kind, key_id) \
                      WHERE CASE WHEN keys.version IS NULL THEN delete_time IS NULL ELSE changes.version > keys.version END";
        assert_eq!(count(extra), "0", "changes in the change feed that no key has made");
        // A deletion does not increment the version.
        let gaps = "SELECT count(*) FROM (SELECT max(version) - min(version) + 1 + count(*) FILTER (WHERE change = 'delete') \
                    - count(*) AS gaps FROM changes GROUP BY tenant, kind, key_id) AS keys WHERE gaps != 0";
        assert_eq!(count(gaps), "0", "keys with versions that are missing or repeated in the change feed");
        let counts = postgres.query("SELECT key_id, count(*) FROM changes GROUP BY key_id").unwrap();
        let counts: HashMap<&str, u64> = counts
            .lines()
            .map(|line| line.split_once('|').unwrap())
            .map(|(id, count)| (id, count.parse().unwrap()))
            .collect();
        for key in keys {
            assert_eq!(counts.get(key.id.as_str()), Some(&key.changes), "changes in the change feed: {key:?}");
        }
    }
}

/// Waits until a node verifies a key according to its state.
async fn verifies(node: &Keygate, key: &Key) {
    let verify = json!({"credential": key.secret});
    wait_for(async || {
        let response = node.send_json("POST /v2alpha1/admin/apiKeys:verify", &verify).await;
        let is_right = response.status == 200 && response.body["is_valid"] == (key.state.status == "ACTIVE");
        if is_right { Ok(()) } else { Err(format!("{key:?}: {response:?}")) }
    })
    .await;
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_changes_survive_crashes_of_nodes_postgresql_and_redis() {
    let Nodes { all, postgres, redis } = Nodes::start(2);
    let mut servers = Servers { nodes: all, postgres: Some(postgres), redis: Some(redis) };
    let mut keys = servers.run_workload(1000, 4).await;
    servers.check_keys(&mut keys).await;
    servers.check_feed(&keys);
    audit::check(&servers, &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_changes_in_sqlite_survive_crashes() {
    let mut servers = Servers { nodes: vec![Keygate::serve_admin(&json!({}))], postgres: None, redis: None };
    let mut keys = servers.run_workload(1000, 5).await;
    servers.check_keys(&mut keys).await;
    audit::check(&servers, &keys).await;
}
