//! `last_used_time` in the admin API.

use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::admin::SIGNING_KEYS;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

fn serve(upstream: &Upstream, flush_interval: &str) -> Keygate {
    use base64::Engine;
    let keys = base64::engine::general_purpose::STANDARD.encode(SIGNING_KEYS);
    let gateway = json!({
        "routes": [{"name": "api", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    });
    let settings = json!({
        "last_used": {"flush_interval": flush_interval},
        "credentials": {"derived_tokens": {"jwt": {"signing_keys": {"urls": [format!("base64://{keys}")]}}}},
    });
    Keygate::serve(&gateway, &settings)
}

/// A key as the admin API returns it; `kind` is `issued` or `imported`.
async fn get(keygate: &Keygate, kind: &str, id: &str) -> Value {
    let response = keygate.send(&format!("GET /v2alpha1/admin/{kind}ApiKeys/{id}"), "").await;
    assert_eq!(response.status, 200, "{response:?}");
    response.body
}

/// Waits until a key has a `last_used_time`.
async fn wait_until_used(keygate: &Keygate, kind: &str, id: &str) -> Value {
    wait_for(async || match get(keygate, kind, id).await {
        key if key["last_used_time"].is_null() => Err(format!("{id} has no last_used_time")),
        key => Ok(key),
    })
    .await
}

async fn verify(keygate: &Keygate, operation: &str, body: &Value) -> Value {
    let response = keygate.send_json(&format!("POST /v2alpha1/admin/apiKeys:{operation}"), body).await;
    assert_eq!(response.status, 200, "{response:?}");
    response.body
}

#[tokio::test]
async fn use_sets_last_used_time_and_no_other_field() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream, "50ms");
    let (id, key) = keygate.issue(json!({})).await;
    let (_, unused) = keygate.issue(json!({"name": "unused"})).await;
    let imported = keygate.import(json!({"raw_key": "sk_live_used"})).await;
    let before = get(&keygate, "issued", &id).await;
    assert!(before["last_used_time"].is_null());
    for _ in 0..3 {
        assert_eq!(keygate.call("/", &key).await.status(), 200);
        assert_eq!(keygate.call("/", "sk_live_used").await.status(), 200);
        assert_eq!(keygate.call("/", &format!("{unused}x")).await.status(), 401);
    }
    let mut after = wait_until_used(&keygate, "issued", &id).await;
    wait_until_used(&keygate, "imported", &imported).await;
    let first = after.as_object_mut().unwrap().remove("last_used_time").unwrap();
    assert_eq!(after, before, "no other field changes, update_time neither");
    let path = format!("PATCH /v2alpha1/admin/issuedApiKeys/{id}?update_mask=name");
    assert_eq!(keygate.send_json(&path, &json!({"name": "renamed"})).await.status, 200);
    let renamed = get(&keygate, "issued", &id).await;
    assert_eq!((&renamed["name"], &renamed["last_used_time"]), (&json!("renamed"), &first));
}

#[tokio::test]
async fn verify_and_derive_count_as_use_but_use_of_a_token_does_not() {
    let upstream = Upstream::start();
    let mut keygate = serve(&upstream, "50ms");
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(keygate.issue(json!({})).await);
    }
    let imported = keygate.import(json!({"raw_key": "sk_live_in_a_batch"})).await;
    let [(verified, first), (derived, second), (other, third)] = &keys[..] else { unreachable!() };
    verify(&keygate, "verify", &json!({"credential": first})).await;
    let batch = json!({"requests": [{"credential": "sk_live_in_a_batch"}, {"credential": "unknown"}]});
    verify(&keygate, "batchVerify", &batch).await;
    let request = json!({"credential": second});
    verify(&keygate, "derive", &request).await;
    for (kind, id) in [("issued", verified), ("issued", derived), ("imported", &imported)] {
        wait_until_used(&keygate, kind, id).await;
    }
    // After a restart and without stored uses, the parent of a token is used only through the token.
    let token = verify(&keygate, "derive", &request).await;
    let token = token["token"]["token"].as_str().unwrap();
    keygate.restart();
    let file = SqliteConnectOptions::new().filename(keygate.path().join("keys.db"));
    let mut database = file.connect().await.unwrap();
    sqlx::query("UPDATE keys SET last_used_time = NULL").execute(&mut database).await.unwrap();
    assert_eq!(keygate.call("/", token).await.status(), 200);
    assert_eq!(keygate.call("/", third).await.status(), 200);
    wait_until_used(&keygate, "issued", other).await;
    assert!(get(&keygate, "issued", derived).await["last_used_time"].is_null());
}

#[tokio::test]
async fn pending_uses_are_written_at_shutdown() {
    let upstream = Upstream::start();
    let mut keygate = serve(&upstream, "1h");
    let (id, key) = keygate.issue(json!({})).await;
    let imported = keygate.import(json!({"raw_key": "sk_live_used"})).await;
    for key in [key.as_str(), "sk_live_used"] {
        assert_eq!(keygate.call("/", key).await.status(), 200);
    }
    assert!(get(&keygate, "issued", &id).await["last_used_time"].is_null());
    keygate.restart();
    for (kind, id) in [("issued", &id), ("imported", &imported)] {
        assert!(get(&keygate, kind, id).await["last_used_time"].is_string());
    }
}
