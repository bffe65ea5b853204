//! Keys that ended long ago: gone when that is configured, on every node.

use keygate_test_servers::Postgres;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [{"name": "api", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    })
}

/// Why a key is refused at the gateway.
async fn refusal(keygate: &Keygate, key: &str) -> String {
    let answer: Value = keygate.call("/", key).await.json().await.unwrap();
    answer["code"].as_str().unwrap_or_default().to_owned()
}

async fn is_refused_as(keygate: &Keygate, key: &str, code: &str) {
    wait_for(async || match refusal(keygate, key).await {
        actual if actual == code => Ok(()),
        actual => Err(format!("rejected with {actual}, not with {code}")),
    })
    .await;
}

#[tokio::test]
async fn what_ended_long_ago_is_deleted_only_when_that_is_configured() {
    let upstream = Upstream::start();
    for (keep, long_ago) in [("24h", "credential_invalid"), ("0s", "credential_expired")] {
        let mut keygate = Keygate::serve(&gateway(&upstream), &json!({"retention": {"expired_keys": keep}}));
        let (old, old_key) = keygate.issue(json!({})).await;
        let (young, young_key) = keygate.issue(json!({})).await;
        let file = SqliteConnectOptions::new().filename(keygate.path().join("keys.db"));
        let mut database = file.connect().await.unwrap();
        for (id, hours) in [(&old, 25), (&young, 23)] {
            let end = "UPDATE keys SET expire_time = (unixepoch() - ? * 3600) * 1000000 WHERE key_id = ?";
            sqlx::query(end).bind(hours).bind(id).execute(&mut database).await.unwrap();
        }
        keygate.restart();
        is_refused_as(&keygate, &old_key, long_ago).await;
        assert_eq!(refusal(&keygate, &young_key).await, "credential_expired");
        let shown = keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{old}"), "").await.status;
        assert_eq!(shown, if keep == "0s" { 200 } else { 404 });
    }
}

#[tokio::test]
async fn what_one_node_deletes_is_gone_on_all_and_tokens_stay_ended() {
    let (postgres, upstream) = (Postgres::start(), Upstream::start());
    let settings = |keep: &str| {
        json!({
            "db": {"dsn": postgres.url("postgres"), "auto_migrate": true},
            "retention": {"expired_keys": keep},
        })
    };
    let mut node = Keygate::serve(&gateway(&upstream), &settings("0s"));
    let (expired, expired_key) = node.issue(json!({})).await;
    let (revoked, revoked_key) = node.issue(json!({})).await;
    let wanted = json!({"credential": revoked_key, "algorithm": "TOKEN_ALGORITHM_MACAROON", "ttl": "24h"});
    let token = node.send_json("POST /v2alpha1/admin/apiKeys:derive", &wanted).await.text("/token/token");
    assert_eq!(node.call("/", &token).await.status(), 200);
    node.revoke(&revoked).await;
    let end =
        format!("UPDATE keys SET expire_time = now() - interval '3 days' WHERE key_id IN ('{expired}', '{revoked}')");
    assert!(postgres.query(&end).is_some());
    // The one is cached as it was, so the change has to be heard of.
    node.restart();
    assert_eq!(refusal(&node, &expired_key).await, "credential_expired");
    assert_eq!(refusal(&node, &revoked_key).await, "credential_revoked");

    let other = Keygate::serve(&gateway(&upstream), &settings("48h"));
    for keygate in [&node, &other] {
        is_refused_as(keygate, &expired_key, "credential_invalid").await;
        is_refused_as(keygate, &revoked_key, "credential_invalid").await;
        assert_eq!(refusal(keygate, &token).await, "credential_revoked");
    }
    assert_eq!(postgres.query("SELECT count(*) FROM keys").as_deref(), Some("0"));
    node.restart();
    assert_eq!(refusal(&node, &token).await, "credential_revoked", "also by a node that knows it from the store alone");
}
