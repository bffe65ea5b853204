//! Concurrent calls: of conflicting calls one succeeds, and repeated calls take effect once.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::task::JoinSet;

use crate::support::admin::AdminResponse;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const CALLS: usize = 16;

/// Makes the same call [`CALLS`] times concurrently.
async fn race(keygate: &Keygate, operation: &str, body: &Value) -> Vec<AdminResponse> {
    let mut calls = JoinSet::new();
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(CALLS));
    let (method, path) = operation.split_once(' ').unwrap();
    for _ in 0..CALLS {
        let request = keygate.http.request(method.parse().unwrap(), format!("{}{path}", keygate.admin));
        let request = request.body(body.to_string());
        let start = std::sync::Arc::clone(&start);
        calls.spawn(async move {
            start.wait().await;
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            AdminResponse { status, body: serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default() }
        });
    }
    calls.join_all().await
}

/// The only response with `status`; all others must be 409 with `reason`.
#[track_caller]
fn winner(responses: &[AdminResponse], status: u16, reason: &str) -> AdminResponse {
    let (winner, losers): (Vec<&AdminResponse>, Vec<&AdminResponse>) =
        responses.iter().partition(|response| response.status == status);
    assert_eq!((winner.len(), losers.len()), (1, CALLS - 1), "{responses:?}");
    for response in losers {
        assert_eq!((response.status, response.reason()), (409, reason), "{response:?}");
    }
    winner[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_concurrent_rotations_succeeds() {
    let keygate = Keygate::serve_admin(&json!({}));
    for _ in 0..5 {
        let (old, _) = keygate.issue(json!({"actor_id": "rotator"})).await;
        let operation = format!("POST /v2alpha1/admin/issuedApiKeys/{old}:rotate");
        let responses = race(&keygate, &operation, &json!({})).await;
        let winner = winner(&responses, 201, "FAILED_PRECONDITION");
        assert_eq!(winner.text("/old_issued_api_key/key_id"), old);
        let new = winner.text("/issued_api_key/key_id");
        let active = keygate.list("issued", "filter=actor_id%3Drotator+AND+status%3DKEY_STATUS_ACTIVE").await;
        let active: Vec<&Value> = active.iter().map(|key| &key["key_id"]).collect();
        assert_eq!(active, [&json!(new)], "the failed rotations leave no key");
        let verify = json!({"credential": winner.text("/secret")});
        assert_eq!(keygate.send_json("POST /v2alpha1/admin/apiKeys:verify", &verify).await.body["is_valid"], true);
        keygate.revoke(&new).await;
    }
    assert_eq!(keygate.list("issued", "").await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_concurrent_revocations_succeeds() {
    let keygate = Keygate::serve_admin(&json!({}));
    for kind in ["issued", "imported"] {
        let id = match kind {
            "issued" => keygate.issue(json!({})).await.0,
            _ => keygate.import(json!({"raw_key": "raw"})).await,
        };
        let operation = format!("POST /v2alpha1/admin/{kind}ApiKeys/{id}:revoke");
        winner(&race(&keygate, &operation, &json!({})).await, 204, "CONFLICT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_issue_calls_with_one_request_id_make_one_key_and_return_its_secret_once() {
    let keygate = Keygate::serve_admin(&json!({}));
    for round in 1..=5 {
        let body = json!({"name": "n", "actor_id": "a", "request_id": format!("once-{round}")});
        let responses = race(&keygate, "POST /v2alpha1/admin/issuedApiKeys", &body).await;
        assert!(responses.iter().all(|response| response.status == 201), "{responses:?}");
        let keys: BTreeSet<String> =
            responses.iter().map(|response| response.body["issued_api_key"].to_string()).collect();
        assert_eq!(keys.len(), 1, "all responses have the same key: {keys:?}");
        let secrets: Vec<String> = responses.iter().map(|response| response.text("/secret")).collect();
        let shown: Vec<&String> = secrets.iter().filter(|secret| !secret.is_empty()).collect();
        assert_eq!(shown.len(), 1, "only the first response has the secret");
        assert_eq!(keygate.list("issued", "").await.len(), round);
        let verified = keygate.send_json("POST /v2alpha1/admin/apiKeys:verify", &json!({"credential": shown[0]})).await;
        assert_eq!(
            verified.body["key_id"], responses[0].body["issued_api_key"]["key_id"],
            "the secret belongs to that key"
        );
    }
}

/// Updates do not fail because of others, and the stored key is entirely from one of them.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_updates_of_a_key_all_succeed_and_are_not_mixed() {
    let keygate = Keygate::serve_admin(&json!({}));
    let (id, _) = keygate.issue(json!({})).await;
    let url = format!("{}/v2alpha1/admin/issuedApiKeys/{id}", keygate.admin);
    let mut calls = JoinSet::new();
    for number in 0..8 * CALLS {
        let name = format!("n{number}");
        let body = json!({"name": name, "metadata": {"number": number}, "scopes": [name]});
        let request = keygate.http.patch(&url).body(body.to_string());
        calls.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    let statuses: BTreeSet<u16> = calls.join_all().await.into_iter().collect();
    assert_eq!(statuses, BTreeSet::from([200]));
    let key = keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{id}"), "").await;
    let name = key.text("/name");
    assert_eq!(key.body["scopes"], json!([name]));
    assert_eq!(format!("n{}", key.body["metadata"]["number"]), name);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_concurrent_imports_of_a_raw_key_succeeds() {
    let keygate = Keygate::serve_admin(&json!({}));
    let operation = "POST /v2alpha1/admin/importedApiKeys";
    let body = json!({"name": "n", "actor_id": "a", "raw_key": "one"});
    winner(&race(&keygate, operation, &body).await, 201, "API_KEY_EXISTS");
    let body = json!({"name": "n", "actor_id": "a", "raw_key": "two", "request_id": "two"});
    let responses = race(&keygate, operation, &body).await;
    assert!(
        responses.iter().all(|response| response.status == 201 && response.body == responses[0].body),
        "{responses:?}"
    );
    assert_eq!(keygate.list("imported", "").await.len(), 2);
}

/// The caller disconnects while its revocation waits for the database. The revocation is stored and takes effect.
#[tokio::test]
async fn revocation_completes_after_its_caller_disconnects() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(
        &json!({
            "routes": [{"name": "all", "path_prefix": "/", "upstream": "api"}],
            "upstreams": {"api": {"endpoints": [upstream.url]}}
        }),
        &json!({}),
    );
    let (id, key) = keygate.issue(json!({})).await;
    assert_eq!(keygate.call("/", &key).await.status(), 200);
    let options = SqliteConnectOptions::new().filename(keygate.path().join("keys.db"));
    let mut other = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let url = format!("{}/v2alpha1/admin/issuedApiKeys/{id}:revoke", keygate.admin);
    let call = tokio::spawn(reqwest::Client::new().post(url).body("{}").send());
    wait_for(async || match keygate.metric("http_requests_in_flight").await {
        Some(1.0) => Ok(()),
        count => Err(format!("{count:?} calls are under way")),
    })
    .await;
    // Time for the call to reach the database, and then for the server to notice that the caller has disconnected.
    tokio::time::sleep(Duration::from_millis(500)).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    tokio::time::sleep(Duration::from_millis(200)).await;
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    wait_for(async || match keygate.call("/", &key).await.status().as_u16() {
        401 => Ok(()),
        status => Err(format!("the stored revocation has no effect: {status}")),
    })
    .await;
}
