//! Two nodes, keys of every kind, and a row of the table: what each kind is answered with.

use std::time::Duration;

use keygate_test_servers::{Postgres, eventually};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// No call may take longer, whatever has failed: a multiple of all timeouts of [`OPTIONS`] together.
const LIMIT: Duration = Duration::from_secs(45);
/// The PostgreSQL options of the nodes. A busy machine must not reach the timeouts while PostgreSQL works.
const OPTIONS: &str = "acquire_timeout=3s&statement_timeout=3s&connect_timeout=3s";
/// The longest of these timeouts.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// How often a test may check a row.
const CHECKS: usize = 16;
/// How many connections a node has for requests.
pub(super) const MAX_CONNECTIONS: usize = 4;

pub(super) const PASS: &str = "200";
pub(super) const UNKNOWN: &str = "401 credential_invalid";
pub(super) const REVOKED: &str = "401 credential_revoked";
pub(super) const UNDECIDED: &str = "503 unavailable, retry after 1";
pub(super) const AWAY: &str = "503 SERVICE_UNAVAILABLE, retry after 1";
/// A call of the admin API that PostgreSQL does not answer: it had a connection, or waited for one in vain.
pub(super) const LATE: &str = "504 GATEWAY_TIMEOUT|503 SERVICE_UNAVAILABLE, retry after 1";

/// What the node under test answers; several answers are joined by `|`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// A key that this node has in memory.
    pub(super) cached: &'static str,
    /// A key that another node has put into Redis.
    pub(super) shared: &'static str,
    /// A key that is in PostgreSQL alone.
    pub(super) cold: &'static str,
    /// A text that nobody has imported.
    pub(super) unknown: &'static str,
    /// A key that was revoked, before, and was asked for since.
    pub(super) revoked: &'static str,
    /// A key that was revoked on another node, before: this one has heard of it and was not asked since.
    pub(super) heard: &'static str,
    /// A token of a known key; the node has heard of no end of that key.
    pub(super) token: &'static str,
    /// The admin API: a key is read.
    pub(super) read: &'static str,
    /// The admin API: a key is issued.
    pub(super) write: &'static str,
    /// `/health/ready`.
    pub(super) ready: &'static str,
}

pub(super) const WELL: Row = Row {
    cached: PASS,
    shared: PASS,
    cold: PASS,
    unknown: UNKNOWN,
    revoked: REVOKED,
    heard: REVOKED,
    token: PASS,
    read: PASS,
    write: "201",
    ready: PASS,
};

/// `here` is the node under test; `there` reaches all servers whatever happens on the way of the other one.
pub(super) struct Fixture {
    pub(super) here: Keygate,
    pub(super) there: Keygate,
    pub(super) keys: Keys,
    pub(super) upstream: Upstream,
}

/// Keys by what `here` knows of them; where a key is known once it was asked for, there is one for each check.
pub(super) struct Keys {
    pub(super) cached: (String, String),
    pub(super) shared: Vec<String>,
    pub(super) cold: Vec<String>,
    pub(super) revoked: String,
    pub(super) heard: Vec<String>,
    /// An issued key with another end.
    forged: String,
    /// Tokens of `cached` and of `revoked`.
    token: String,
    token_of_revoked: String,
    unknown: u32,
}

/// The settings of a node: its way to PostgreSQL, its cache.
pub(super) fn settings(database: &str, cache: &Value) -> Value {
    let separator = if database.contains('?') { '&' } else { '?' };
    json!({
        "db": {"dsn": format!("{database}{separator}max_conns={MAX_CONNECTIONS}&{OPTIONS}"), "auto_migrate": true},
        "cache": cache,
        "serve": {"http": {"request_log": {"exclude_health_endpoints": true}}},
    })
}

/// A database by way of another port.
pub(super) fn by_way_of(server: &Postgres, port: u16) -> String {
    server.url("postgres").replace(&format!(":{}", server.port()), &format!(":{port}"))
}

/// `keygate serve` in front of an upstream.
pub(super) fn serve(upstream: &Upstream, settings: &Value) -> Keygate {
    let gateway = json!({
        "routes": [{"name": "api", "path_prefix": "/", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    });
    Keygate::serve(&gateway, settings)
}

impl Fixture {
    pub(super) async fn start(here: &Value, there: &Value) -> Self {
        let upstream = Upstream::start();
        let (here, there) = (serve(&upstream, here), serve(&upstream, there));
        let keys = Keys::make(&here, &there).await;
        Self { here, there, keys, upstream }
    }

    /// Sees that every kind of key is answered as the row says, and soon.
    pub(super) async fn check(&mut self, when: &str, row: &Row) {
        for keys in [&mut self.keys.shared, &mut self.keys.cold, &mut self.keys.heard] {
            keys.pop();
        }
        let wrong = self.wrong(row).await;
        assert!(wrong.is_empty(), "{when}: {wrong:#?}\n{}", self.here.log());
    }

    /// Waits until every kind of key is answered as the row says.
    pub(super) async fn recovers(&mut self, after: &str, row: &Row) {
        wait_for(async || {
            let wrong = self.wrong(row).await;
            if wrong.is_empty() { Ok(()) } else { Err(format!("after {after}: {wrong:#?}\n{}", self.here.log())) }
        })
        .await;
    }

    /// The cells of a row that are not as it says.
    async fn wrong(&mut self, row: &Row) -> Vec<String> {
        let (here, keys) = (&self.here, &mut self.keys);
        keys.unknown += 1;
        let [shared, cold, heard] = [&keys.shared, &keys.cold, &keys.heard].map(|keys| keys.last().unwrap());
        let admin = format!("{}/v2alpha1/admin/issuedApiKeys", here.admin);
        let issue = json!({"name": "test", "actor_id": "tester"}).to_string();
        let cells = [
            gateway(here, "known, cached", &keys.cached.1, row.cached),
            gateway(here, "known, in Redis", shared, row.shared),
            gateway(here, "known, not cached", cold, row.cold),
            gateway(here, "unknown", &format!("nobody-{}", keys.unknown), row.unknown),
            gateway(here, "revoked", &keys.revoked, row.revoked),
            gateway(here, "revoked, not asked for since", heard, row.heard),
            gateway(here, "garbage: a forged key", &keys.forged, UNKNOWN),
            gateway(here, "garbage: a forged token", "eyJa.b.c", UNKNOWN),
            gateway(here, "a token of a known key", &keys.token, row.token),
            gateway(here, "a token of a revoked key", &keys.token_of_revoked, REVOKED),
            Cell::new("admin read", here.http.get(format!("{admin}/{}", keys.cached.0)), row.read),
            Cell::new("admin write", here.http.post(&admin).body(issue), row.write),
            Cell::new("alive", here.http.get(format!("{}/health/alive", here.metrics)), PASS),
            Cell::new("ready", here.http.get(format!("{}/health/ready", here.metrics)), row.ready),
        ];
        let answers: JoinSet<_> = cells.into_iter().map(Cell::wrong).collect();
        let answers = tokio::time::timeout(LIMIT, answers.join_all()).await.expect("every call ends in time");
        answers.into_iter().flatten().collect()
    }

    /// Sees that a key in memory passes.
    pub(super) async fn cached_passes(&self, when: &str) {
        let wrong = gateway(&self.here, "known, cached", &self.keys.cached.1, PASS).wrong().await;
        assert_eq!(wrong, None, "{when}");
    }

    /// Waits until `here` has not heard of changes for that long.
    pub(super) async fn unheard_for(&self, seconds: f64) {
        unheard_for(&self.here, seconds).await;
    }
}

impl Keys {
    async fn make(here: &Keygate, there: &Keygate) -> Self {
        let cached = there.issue(json!({})).await;
        let mut keys = Self {
            forged: forge(&cached.1),
            token: derive(there, &cached.1).await,
            cached,
            shared: Vec::new(),
            cold: Vec::new(),
            revoked: String::new(),
            heard: Vec::new(),
            token_of_revoked: String::new(),
            unknown: 0,
        };
        keys.cold = import(there, &keys.cached.0, CHECKS).await;
        for _ in 0..CHECKS {
            let (_, key) = there.issue(json!({})).await;
            assert_eq!(there.call("/", &key).await.status(), 200);
            keys.shared.push(key);
            let (id, key) = there.issue(json!({})).await;
            assert_eq!(here.call("/", &key).await.status(), 200);
            there.revoke(&id).await;
            keys.heard.push(key);
        }
        let (id, key) = there.issue(json!({})).await;
        keys.token_of_revoked = derive(there, &key).await;
        assert_eq!(here.call("/", &key).await.status(), 200);
        there.revoke(&id).await;
        // It is the last change, so all are known where it is.
        answers_eventually(here, &key, REVOKED).await;
        keys.revoked = key;
        assert_eq!(here.call("/", &keys.cached.1).await.status(), 200);
        keys
    }
}

/// Waits until the gateway of a node answers a key like that.
pub(super) async fn answers_eventually(node: &Keygate, key: &str, expected: &str) {
    wait_for(async || match gateway(node, "key", key, expected).wrong().await {
        None => Ok(()),
        Some(wrong) => Err(format!("{wrong}\n{}", node.log())),
    })
    .await;
}

/// Waits until a node has not heard of changes for that long.
pub(super) async fn unheard_for(node: &Keygate, seconds: f64) {
    wait_for(async || match metric(node, "keygate_feed_age_seconds").await {
        age if age > seconds => Ok(()),
        age => Err(format!("the changes were read {age} seconds ago")),
    })
    .await;
}

/// A metric of a node, by its name and labels.
pub(super) async fn metric(node: &Keygate, name: &str) -> f64 {
    node.metric(name).await.unwrap_or_else(|| panic!("there is no {name}"))
}

/// Waits for a line in the log of a node.
pub(super) fn logs(node: &Keygate, words: &str) {
    eventually(words, || node.log().contains(words));
}

/// Imports many keys at once, which puts none of them into a cache of others.
pub(super) async fn import(node: &Keygate, name: &str, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|number| format!("{name}-{number}")).collect();
    for batch in keys.chunks(1000) {
        let wanted = batch.iter().map(|key| json!({"name": "test", "actor_id": "tester", "raw_key": key}));
        let body = json!({"requests": wanted.collect::<Vec<_>>()});
        let answer = node.send_json("POST /v2alpha1/admin/importedApiKeys:batchImport", &body).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
    }
    keys
}

/// The same key with another checksum.
fn forge(key: &str) -> String {
    let (rest, last) = key.split_at(key.len() - 1);
    format!("{rest}{}", if last == "A" { "B" } else { "A" })
}

pub(super) async fn derive(node: &Keygate, key: &str) -> String {
    let wanted = json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON"});
    node.send_json("POST /v2alpha1/admin/apiKeys:derive", &wanted).await.text("/token/token")
}

/// A call, and what it is to be answered with.
struct Cell {
    name: &'static str,
    request: RequestBuilder,
    expected: String,
}

fn gateway(node: &Keygate, name: &'static str, key: &str, expected: &str) -> Cell {
    Cell::new(name, node.http.get(&node.gateway).bearer_auth(key), expected)
}

impl Cell {
    fn new(name: &'static str, request: RequestBuilder, expected: &str) -> Self {
        Self { name, request, expected: expected.to_owned() }
    }

    /// Makes the call; what is wrong with the answer.
    async fn wrong(self) -> Option<String> {
        let answer = self.request.send().await.unwrap();
        let mut text = answer.status().as_u16().to_string();
        let again = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
        // The gateway's code, or the admin API's reason.
        let code = body.get("code").or_else(|| body.pointer("/error/details/0/reason"));
        if let Some(code) = code.and_then(Value::as_str) {
            text = format!("{text} {code}");
        }
        if let Some(seconds) = again {
            text = format!("{text}, retry after {seconds}");
        }
        let is_right = self.expected.split('|').any(|one| one == text);
        (!is_right).then(|| format!("{}: {text} instead of {}", self.name, self.expected))
    }
}
