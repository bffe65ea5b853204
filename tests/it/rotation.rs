//! Rotation with overlap: the old key stays active for the requested time, on every node, and is revoked after it without another change.

mod hmac_secret;
mod load;
mod signing_keys;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use chrono::{DateTime, TimeDelta, Utc};
use keygate::clock::{Clock, SystemClock};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::nodes::Nodes;
use crate::support::admin::SIGNING_KEYS;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const NODES: usize = 3;
const CALLERS: usize = 6;

/// What all callers share, and what they have observed. All processes of the test read one clock.
struct Callers {
    http: Client,
    gateways: Vec<String>,
    old: String,
    /// The new key and when the old one is revoked, once it is rotated.
    rotated: OnceLock<(String, DateTime<Utc>)>,
    calls: AtomicU64,
    done: AtomicBool,
    /// Requests that were answered as they should not have been.
    wrong: Mutex<Vec<String>>,
}

impl Callers {
    async fn send(&self, node: usize, key: &str) -> u16 {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.http.get(&self.gateways[node]).bearer_auth(key).send().await.unwrap().status().as_u16()
    }

    /// Sends one request with the old key: accepted before its end, rejected after it.
    async fn send_old(&self, node: usize) {
        let started = now();
        let status = self.send(node, &self.old).await;
        let end = self.rotated.get().map(|(_, end)| *end);
        let is_right = match status {
            200 => end.is_none_or(|end| started <= end),
            401 => end.is_some_and(|end| now() > end),
            _ => false,
        };
        if !is_right {
            self.wrong
                .lock()
                .unwrap()
                .push(format!("node {node} answered {status} to the old key, {started}, end {end:?}"));
        }
    }

    async fn load(self: Arc<Self>, caller: usize) {
        let mut turn = caller;
        while !self.done.load(Ordering::Relaxed) {
            turn += 1;
            let node = turn % NODES;
            self.send_old(node).await;
            if let Some((new, _)) = self.rotated.get() {
                let status = self.send(node, new).await;
                if status != 200 {
                    self.wrong.lock().unwrap().push(format!("node {node} answered {status} to the new key"));
                }
            }
        }
    }
}

fn now() -> DateTime<Utc> {
    SystemClock.now()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_with_overlap_rejects_no_request_on_any_node() {
    let servers = Nodes::start(NODES);
    let nodes = &servers.all;
    let (id, old) = nodes[0].issue(json!({})).await;
    let callers = Arc::new(Callers {
        http: Client::new(),
        gateways: nodes.iter().map(|node| node.gateway.clone()).collect(),
        old,
        rotated: OnceLock::new(),
        calls: AtomicU64::new(0),
        done: AtomicBool::new(false),
        wrong: Mutex::default(),
    });
    let load: JoinSet<()> = (0..CALLERS).map(|caller| Arc::clone(&callers).load(caller)).collect();
    wait_for(async || match callers.calls.load(Ordering::Relaxed) {
        300.. => Ok(()),
        calls => Err(format!("{calls} calls")),
    })
    .await;
    let rotate = format!("POST /v2alpha1/admin/issuedApiKeys/{id}:rotate");
    let rotated = nodes[1].send_json(&rotate, &json!({"revoke_old_after": "4s"})).await;
    assert_eq!(rotated.status, 201, "{rotated:?}");
    let (new_id, secret) = (rotated.text("/issued_api_key/key_id"), rotated.text("/secret"));
    let replaced = &rotated.body["old_issued_api_key"];
    assert_eq!((&replaced["status"], &replaced["replaced_by"]), (&json!("KEY_STATUS_ACTIVE"), &json!(new_id)));
    let end = time(&replaced["revoke_time"]);
    assert_eq!(end - time(&replaced["update_time"]), TimeDelta::seconds(4));
    let calls_before = callers.calls.load(Ordering::Relaxed);
    callers.rotated.set((secret, end)).unwrap();
    for node in 0..NODES {
        wait_for(async || match callers.send(node, &callers.old).await {
            401 => Ok(()),
            status => Err(format!("node {node} answers {status} to the old key")),
        })
        .await;
        assert!(now() > end);
    }
    callers.done.store(true, Ordering::Relaxed);
    load.join_all().await;
    let during = callers.calls.load(Ordering::Relaxed) - calls_before;
    println!("{during} calls since the rotation, {calls_before} before it");
    assert!(during > 300, "{during} calls");
    let wrong = std::mem::take(&mut *callers.wrong.lock().unwrap());
    assert!(wrong.is_empty(), "{} of them, first: {:?}", wrong.len(), wrong.first());
    for node in nodes {
        let old = node.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{id}"), "").await;
        assert_eq!(old.text("/status"), "KEY_STATUS_REVOKED");
        assert_eq!(old.text("/revocation_reason"), "REVOCATION_REASON_SUPERSEDED");
    }
}

/// A node with signing keys that writes last uses at once.
fn serve(upstream: &Upstream) -> Keygate {
    use base64::Engine;
    let keys = base64::engine::general_purpose::STANDARD.encode(SIGNING_KEYS);
    Keygate::serve(
        &json!({"routes": [{"name": "api", "upstream": "api"}], "upstreams": {"api": {"endpoints": [upstream.url]}}}),
        &json!({
            "last_used": {"flush_interval": "50ms"},
            "credentials": {"derived_tokens": {"jwt": {"signing_keys": {"urls": [format!("base64://{keys}")]}}}},
        }),
    )
}

async fn get(keygate: &Keygate, id: &str) -> Value {
    let response = keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{id}"), "").await;
    assert_eq!(response.status, 200, "{response:?}");
    response.body
}

async fn rotate(keygate: &Keygate, id: &str, body: &Value) -> (u16, Value) {
    let response = keygate.send_json(&format!("POST /v2alpha1/admin/issuedApiKeys/{id}:rotate"), body).await;
    (response.status, response.body)
}

#[tokio::test]
async fn both_keys_show_their_own_last_use() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let (id, old) = keygate.issue(json!({})).await;
    let (_, rotated) = rotate(&keygate, &id, &json!({"revokeOldAfter": "1h"})).await;
    let new_id = rotated["issued_api_key"]["key_id"].as_str().unwrap();
    let used = async |id: &str| {
        wait_for(async || match get(&keygate, id).await {
            key if key["last_used_time"].is_null() => Err(format!("{id} was not used")),
            key => Ok(time(&key["last_used_time"])),
        })
        .await
    };
    assert_eq!(keygate.call("/", &old).await.status(), 200);
    let old_use = used(&id).await;
    assert!(get(&keygate, new_id).await["last_used_time"].is_null());
    assert_eq!(keygate.call("/", rotated["secret"].as_str().unwrap()).await.status(), 200);
    assert!(used(new_id).await > old_use);
    assert_eq!(time(&get(&keygate, &id).await["last_used_time"]), old_use);
    let active = keygate.list("issued", "filter=status=KEY_STATUS_ACTIVE").await;
    let mut active: Vec<_> = active.iter().map(|key| key["key_id"].as_str().unwrap()).collect();
    active.sort_unstable();
    let mut both = [&*id, new_id];
    both.sort_unstable();
    assert_eq!(active, both, "the list shows what is still in use");
}

#[tokio::test]
async fn tokens_of_the_old_key_end_with_it_also_after_a_restart() {
    let upstream = Upstream::start();
    let mut keygate = serve(&upstream);
    let (id, old) = keygate.issue(json!({})).await;
    let derive = json!({"credential": old, "ttl": "1h"});
    let token = keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &derive).await.text("/token/token");
    let (status, rotated) = rotate(&keygate, &id, &json!({"revoke_old_after": "3s"})).await;
    assert_eq!(status, 201);
    let end = time(&rotated["old_issued_api_key"]["revoke_time"]);
    let status = keygate.call("/", &token).await.status();
    assert!(status == 200 || now() > end);
    let short = keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &derive).await;
    assert!(short.status == 400 || now() > end, "a token cannot outlive its key: {short:?}");
    // The set of replaced keys is read from the database at the start.
    keygate.restart();
    let code = wait_for(async || {
        let response = keygate.call("/", &token).await;
        match response.status().as_u16() {
            200 => Err("the token is accepted".to_owned()),
            _ => Ok(response.json::<Value>().await.unwrap()["code"].clone()),
        }
    })
    .await;
    assert_eq!(code, "credential_revoked");
    assert!(now() > end);
    assert_eq!(keygate.call("/", &old).await.status(), 401);
    keygate.restart();
    assert_eq!(keygate.call("/", &token).await.status(), 401);
    let revoke = keygate.send(&format!("POST /v2alpha1/admin/issuedApiKeys/{id}:revoke"), "").await;
    assert_eq!((revoke.status, revoke.message()), (409, "key is already revoked"));
}

#[tokio::test]
async fn old_key_can_be_revoked_early_and_is_not_rotated_twice() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream);
    let (id, old) = keygate.issue(json!({"ttl": "2h"})).await;
    for invalid in ["x", "1", "-1h", "400y"] {
        assert_eq!(rotate(&keygate, &id, &json!({"revoke_old_after": invalid})).await.0, 400, "{invalid}");
    }
    let (_, rotated) = rotate(&keygate, &id, &json!({"revoke_old_after": "1d"})).await;
    let replaced = &rotated["old_issued_api_key"];
    assert_eq!(replaced["revoke_time"], replaced["expire_time"], "a key does not outlive its expiry");
    let (status, error) = rotate(&keygate, &id, &json!({})).await;
    assert_eq!((status, &error["error"]["status"]), (409, &json!("FAILED_PRECONDITION")), "{error}");
    assert!(error["message"].as_str().unwrap().contains(rotated["issued_api_key"]["key_id"].as_str().unwrap()));
    assert_eq!(keygate.call("/", &old).await.status(), 200);
    keygate.revoke(&id).await;
    assert_eq!(keygate.call("/", &old).await.status(), 401);
    let key = get(&keygate, &id).await;
    assert!(key["revoke_time"].is_null() && key["replaced_by"] == rotated["issued_api_key"]["key_id"], "{key}");
    // Without the member, as in the contract.
    let new_id = rotated["issued_api_key"]["key_id"].as_str().unwrap();
    let (_, again) = rotate(&keygate, new_id, &json!({})).await;
    assert_eq!(again["old_issued_api_key"]["status"], "KEY_STATUS_REVOKED");
    assert_eq!(again["old_issued_api_key"]["revocation_reason"], "REVOCATION_REASON_SUPERSEDED");
    assert_eq!(keygate.call("/", rotated["secret"].as_str().unwrap()).await.status(), 401);
}
