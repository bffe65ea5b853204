//! Two nodes, keys in every state, and rows of the table: the expected response for each state.

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
/// How many rows a test may check.
const CHECKS: usize = 16;
/// The size of the connection pool of a node.
pub(super) const MAX_CONNECTIONS: usize = 4;

pub(super) const PASS: &str = "200";
pub(super) const UNKNOWN: &str = "401 credential_invalid";
pub(super) const REVOKED: &str = "401 credential_revoked";
pub(super) const DENIED_UNAVAILABLE: &str = "503 unavailable, retry after 1";
pub(super) const UNAVAILABLE: &str = "503 SERVICE_UNAVAILABLE, retry after 1";
/// An admin call while PostgreSQL is stalled: 504 if it had a connection, 503 if it got none in time.
pub(super) const TIMED_OUT: &str = "504 GATEWAY_TIMEOUT|503 SERVICE_UNAVAILABLE, retry after 1";

/// The expected responses of the node under test; alternatives are joined by `|`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// A key in the memory of this node.
    pub(super) cached: &'static str,
    /// A key that another node has cached in Redis.
    pub(super) shared: &'static str,
    /// A key that is only in PostgreSQL.
    pub(super) uncached: &'static str,
    /// A credential that was not imported.
    pub(super) unknown: &'static str,
    /// A key that was revoked before the failure and has been used on this node since.
    pub(super) revoked: &'static str,
    /// A key that was revoked on another node before the failure. This node has received the invalidation; the key has not been
    /// used on it since.
    pub(super) invalidated: &'static str,
    /// A token of a cached key that is not revoked.
    pub(super) token: &'static str,
    /// The admin API: get a key.
    pub(super) read: &'static str,
    /// The admin API: issue a key.
    pub(super) write: &'static str,
    /// `/health/ready`.
    pub(super) ready: &'static str,
}

pub(super) const HEALTHY: Row = Row {
    cached: PASS,
    shared: PASS,
    uncached: PASS,
    unknown: UNKNOWN,
    revoked: REVOKED,
    invalidated: REVOKED,
    token: PASS,
    read: PASS,
    write: "201",
    ready: PASS,
};

/// `here` is the node under test. The connections of `there` do not pass through the proxy.
pub(super) struct Fixture {
    pub(super) here: Keygate,
    pub(super) there: Keygate,
    pub(super) keys: Keys,
    pub(super) upstream: Upstream,
}

/// Keys by their state on `here`. If a check changes the state, there is one key for each check.
pub(super) struct Keys {
    pub(super) cached: (String, String),
    pub(super) shared: Vec<String>,
    pub(super) uncached: Vec<String>,
    pub(super) revoked: String,
    pub(super) invalidated: Vec<String>,
    /// An issued key with a wrong checksum.
    forged: String,
    /// Tokens of `cached` and of `revoked`.
    token: String,
    token_of_revoked: String,
    unknown: u32,
}

/// The settings of a node: the URL of its database, its cache.
pub(super) fn settings(database: &str, cache: &Value) -> Value {
    let separator = if database.contains('?') { '&' } else { '?' };
    json!({
        "db": {"dsn": format!("{database}{separator}max_conns={MAX_CONNECTIONS}&{OPTIONS}"), "auto_migrate": true},
        "cache": cache,
        "serve": {"http": {"request_log": {"exclude_health_endpoints": true}}},
    })
}

/// The URL of the database with another port.
pub(super) fn through(server: &Postgres, port: u16) -> String {
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

    /// Asserts that every cell of a row holds now, within [`LIMIT`].
    pub(super) async fn check(&mut self, when: &str, row: &Row) {
        for keys in [&mut self.keys.shared, &mut self.keys.uncached, &mut self.keys.invalidated] {
            keys.pop();
        }
        let mismatches = self.mismatches(row).await;
        assert!(mismatches.is_empty(), "{when}: {mismatches:#?}\n{}", self.here.log());
    }

    /// Waits until every cell of a row holds.
    pub(super) async fn recovers(&mut self, after: &str, row: &Row) {
        wait_for(async || {
            let mismatches = self.mismatches(row).await;
            if mismatches.is_empty() {
                Ok(())
            } else {
                Err(format!("after {after}: {mismatches:#?}\n{}", self.here.log()))
            }
        })
        .await;
    }

    /// The cells of a row that do not hold.
    async fn mismatches(&mut self, row: &Row) -> Vec<String> {
        let (here, keys) = (&self.here, &mut self.keys);
        keys.unknown += 1;
        let [shared, uncached, invalidated] =
            [&keys.shared, &keys.uncached, &keys.invalidated].map(|keys| keys.last().unwrap());
        let admin = format!("{}/v2alpha1/admin/issuedApiKeys", here.admin);
        let issue = json!({"name": "test", "actor_id": "tester"}).to_string();
        let cells = [
            gateway(here, "cached in memory", &keys.cached.1, row.cached),
            gateway(here, "cached in Redis", shared, row.shared),
            gateway(here, "not cached", uncached, row.uncached),
            gateway(here, "unknown", &format!("unknown-{}", keys.unknown), row.unknown),
            gateway(here, "revoked", &keys.revoked, row.revoked),
            gateway(here, "revoked on another node", invalidated, row.invalidated),
            gateway(here, "forged key", &keys.forged, UNKNOWN),
            gateway(here, "forged token", "eyJa.b.c", UNKNOWN),
            gateway(here, "token of a valid key", &keys.token, row.token),
            gateway(here, "token of a revoked key", &keys.token_of_revoked, REVOKED),
            Cell::new("admin read", here.http.get(format!("{admin}/{}", keys.cached.0)), row.read),
            Cell::new("admin write", here.http.post(&admin).body(issue), row.write),
            Cell::new("alive", here.http.get(format!("{}/health/alive", here.metrics)), PASS),
            Cell::new("ready", here.http.get(format!("{}/health/ready", here.metrics)), row.ready),
        ];
        let mismatches: JoinSet<_> = cells.into_iter().map(Cell::mismatch).collect();
        let mismatches = tokio::time::timeout(LIMIT, mismatches.join_all()).await.expect("every call ends in time");
        mismatches.into_iter().flatten().collect()
    }

    /// Asserts that a key in memory passes.
    pub(super) async fn cached_passes(&self, when: &str) {
        let mismatch = gateway(&self.here, "cached in memory", &self.keys.cached.1, PASS).mismatch().await;
        assert_eq!(mismatch, None, "{when}");
    }

    /// Waits until `here` has not read the changes for `seconds`.
    pub(super) async fn wait_for_feed_age(&self, seconds: f64) {
        wait_for_feed_age(&self.here, seconds).await;
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
            uncached: Vec::new(),
            revoked: String::new(),
            invalidated: Vec::new(),
            token_of_revoked: String::new(),
            unknown: 0,
        };
        keys.uncached = import(there, &keys.cached.0, CHECKS).await;
        for _ in 0..CHECKS {
            let (_, key) = there.issue(json!({})).await;
            assert_eq!(there.call("/", &key).await.status(), 200);
            keys.shared.push(key);
            let (id, key) = there.issue(json!({})).await;
            assert_eq!(here.call("/", &key).await.status(), 200);
            there.revoke(&id).await;
            keys.invalidated.push(key);
        }
        let (id, key) = there.issue(json!({})).await;
        keys.token_of_revoked = derive(there, &key).await;
        assert_eq!(here.call("/", &key).await.status(), 200);
        there.revoke(&id).await;
        // It is the last change, so that the node has received all changes when it has received this one.
        wait_for_response(here, &key, REVOKED).await;
        keys.revoked = key;
        assert_eq!(here.call("/", &keys.cached.1).await.status(), 200);
        keys
    }
}

/// Waits until the response of a node to a key is the expected one.
pub(super) async fn wait_for_response(node: &Keygate, key: &str, expected: &str) {
    wait_for(async || match gateway(node, "key", key, expected).mismatch().await {
        None => Ok(()),
        Some(mismatch) => Err(format!("{mismatch}\n{}", node.log())),
    })
    .await;
}

/// Waits until a node has not read the changes for `seconds`.
pub(super) async fn wait_for_feed_age(node: &Keygate, seconds: f64) {
    wait_for(async || match metric(node, "keygate_feed_age_seconds").await {
        age if age > seconds => Ok(()),
        age => Err(format!("the changes were read {age} seconds ago")),
    })
    .await;
}

/// A metric of a node, by name and labels; panics if it does not exist.
pub(super) async fn metric(node: &Keygate, name: &str) -> f64 {
    node.metric(name).await.unwrap_or_else(|| panic!("no metric {name}"))
}

/// Waits until the log of a node contains a text.
pub(super) fn wait_for_log(node: &Keygate, words: &str) {
    eventually(words, || node.log().contains(words));
}

/// Imports many keys in batches. No node caches them.
pub(super) async fn import(node: &Keygate, name: &str, count: usize) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|number| format!("{name}-{number}")).collect();
    for batch in keys.chunks(1000) {
        let requests = batch.iter().map(|key| json!({"name": "test", "actor_id": "tester", "raw_key": key}));
        let body = json!({"requests": requests.collect::<Vec<_>>()});
        let response = node.send_json("POST /v2alpha1/admin/importedApiKeys:batchImport", &body).await;
        assert!((200..300).contains(&response.status), "{response:?}");
    }
    keys
}

/// A key with another last character, which makes its checksum wrong.
fn forge(key: &str) -> String {
    let (rest, last) = key.split_at(key.len() - 1);
    format!("{rest}{}", if last == "A" { "B" } else { "A" })
}

pub(super) async fn derive(node: &Keygate, key: &str) -> String {
    let request = json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON"});
    node.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await.text("/token/token")
}

/// A request and its expected response.
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

    /// Sends the request; returns the difference if the response is not the expected one.
    async fn mismatch(self) -> Option<String> {
        let response = self.request.send().await.unwrap();
        let mut text = response.status().as_u16().to_string();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
        // The problem code of the gateway, or the reason of the admin API.
        let code = body.pointer("/error/details/0/reason").or_else(|| body.get("code"));
        if let Some(code) = code.and_then(Value::as_str) {
            text = format!("{text} {code}");
        }
        if let Some(seconds) = retry_after {
            text = format!("{text}, retry after {seconds}");
        }
        let is_right = self.expected.split('|').any(|one| one == text);
        (!is_right).then(|| format!("{}: {text} instead of {}", self.name, self.expected))
    }
}
