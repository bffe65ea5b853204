//! When a key was last used, as administrators see it.

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

/// A key as it is shown; `kind` is `issued` or `imported`.
async fn get(keygate: &Keygate, kind: &str, id: &str) -> Value {
    let answer = keygate.send(&format!("GET /v2alpha1/admin/{kind}ApiKeys/{id}"), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Waits until a key is shown as used.
async fn used(keygate: &Keygate, kind: &str, id: &str) -> Value {
    wait_for(async || match get(keygate, kind, id).await {
        key if key["last_used_time"].is_null() => Err(format!("{id} has no last_used_time")),
        key => Ok(key),
    })
    .await
}

async fn verify(keygate: &Keygate, operation: &str, body: &Value) -> Value {
    let answer = keygate.send_json(&format!("POST /v2alpha1/admin/apiKeys:{operation}"), body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test]
async fn a_use_is_shown_after_a_flush_and_changes_nothing_else() {
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
    let mut after = used(&keygate, "issued", &id).await;
    used(&keygate, "imported", &imported).await;
    let first = after.as_object_mut().unwrap().remove("last_used_time").unwrap();
    assert_eq!(after, before, "nothing else is another one, update_time least of all");
    let path = format!("PATCH /v2alpha1/admin/issuedApiKeys/{id}?update_mask=name");
    assert_eq!(keygate.send_json(&path, &json!({"name": "renamed"})).await.status, 200);
    let renamed = get(&keygate, "issued", &id).await;
    assert_eq!((&renamed["name"], &renamed["last_used_time"]), (&json!("renamed"), &first));
}

#[tokio::test]
async fn verifying_counts_as_use_and_deriving_as_use_of_the_parent_alone() {
    let upstream = Upstream::start();
    let mut keygate = serve(&upstream, "50ms");
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(keygate.issue(json!({})).await);
    }
    let imported = keygate.import(json!({"raw_key": "sk_live_in_a_batch"})).await;
    let [(verified, first), (derived, second), (other, third)] = &keys[..] else { unreachable!() };
    verify(&keygate, "verify", &json!({"credential": first})).await;
    let batch = json!({"requests": [{"credential": "sk_live_in_a_batch"}, {"credential": "nobody's"}]});
    verify(&keygate, "batchVerify", &batch).await;
    let wanted = json!({"credential": second});
    verify(&keygate, "derive", &wanted).await;
    for (kind, id) in [("issued", verified), ("issued", derived), ("imported", &imported)] {
        used(&keygate, kind, id).await;
    }
    // A node that knows of no use, and a key that was used by nobody but the holder of its token.
    let token = verify(&keygate, "derive", &wanted).await;
    let token = token["token"]["token"].as_str().unwrap();
    keygate.restart();
    let file = SqliteConnectOptions::new().filename(keygate.path().join("keys.db"));
    let mut database = file.connect().await.unwrap();
    sqlx::query("UPDATE keys SET last_used_time = NULL").execute(&mut database).await.unwrap();
    assert_eq!(keygate.call("/", token).await.status(), 200);
    assert_eq!(keygate.call("/", third).await.status(), 200);
    used(&keygate, "issued", other).await;
    assert!(get(&keygate, "issued", derived).await["last_used_time"].is_null());
}

#[tokio::test]
async fn what_was_not_flushed_is_written_at_the_end() {
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
