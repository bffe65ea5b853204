//! Retention: keys that expired long ago are deleted on every node if configured.

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

/// The problem code with which the gateway rejects a key.
async fn denial(keygate: &Keygate, key: &str) -> String {
    let response: Value = keygate.call("/", key).await.json().await.unwrap();
    response["code"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the gateway rejects a key with `code`.
async fn wait_for_denial(keygate: &Keygate, key: &str, code: &str) {
    wait_for(async || match denial(keygate, key).await {
        actual if actual == code => Ok(()),
        actual => Err(format!("rejected with {actual}, not with {code}")),
    })
    .await;
}

#[tokio::test]
async fn expired_keys_are_deleted_only_if_retention_is_configured() {
    let upstream = Upstream::start();
    for (keep, code_of_old) in [("24h", "credential_invalid"), ("0s", "credential_expired")] {
        let mut keygate = Keygate::serve(&gateway(&upstream), &json!({"retention": {"expired_keys": keep}}));
        let (old, old_key) = keygate.issue(json!({})).await;
        let (recent, recent_key) = keygate.issue(json!({})).await;
        let file = SqliteConnectOptions::new().filename(keygate.path().join("keys.db"));
        let mut database = file.connect().await.unwrap();
        for (id, hours) in [(&old, 25), (&recent, 23)] {
            let expire = "UPDATE keys SET expire_time = (unixepoch() - ? * 3600) * 1000000 WHERE key_id = ?";
            sqlx::query(expire).bind(hours).bind(id).execute(&mut database).await.unwrap();
        }
        keygate.restart();
        wait_for_denial(&keygate, &old_key, code_of_old).await;
        assert_eq!(denial(&keygate, &recent_key).await, "credential_expired");
        let status = keygate.send(&format!("GET /v2alpha1/admin/issuedApiKeys/{old}"), "").await.status;
        assert_eq!(status, if keep == "0s" { 200 } else { 404 });
    }
}

#[tokio::test]
async fn deletion_takes_effect_on_every_node_and_tokens_stay_revoked() {
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
    let request = json!({"credential": revoked_key, "algorithm": "TOKEN_ALGORITHM_MACAROON", "ttl": "24h"});
    let token = node.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await.text("/token/token");
    assert_eq!(node.call("/", &token).await.status(), 200);
    node.revoke(&revoked).await;
    let expire =
        format!("UPDATE keys SET expire_time = now() - interval '3 days' WHERE key_id IN ('{expired}', '{revoked}')");
    assert!(postgres.query(&expire).is_some());
    // The restart removes the unexpired key from the cache.
    node.restart();
    assert_eq!(denial(&node, &expired_key).await, "credential_expired");
    assert_eq!(denial(&node, &revoked_key).await, "credential_revoked");

    let other = Keygate::serve(&gateway(&upstream), &settings("48h"));
    for keygate in [&node, &other] {
        wait_for_denial(keygate, &expired_key, "credential_invalid").await;
        wait_for_denial(keygate, &revoked_key, "credential_invalid").await;
        assert_eq!(denial(keygate, &token).await, "credential_revoked");
    }
    assert_eq!(postgres.query("SELECT count(*) FROM keys").as_deref(), Some("0"));
    node.restart();
    assert_eq!(
        denial(&node, &token).await,
        "credential_revoked",
        "also on a node that knows it only from the database"
    );
}
