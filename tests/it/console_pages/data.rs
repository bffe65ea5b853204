//! Keys and usage as an installation has them, for pages that are looked at.

use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use crate::support::keygate::Keygate;

/// Fills an installation. Returns the id of a key with 30 days of usage, and that of a revoked key.
pub(super) async fn fill(keygate: &Keygate) -> (String, String) {
    let limit = json!({"quota": "6000", "unit": "requests", "window": "60s"});
    let (key, secret) = keygate
        .issue(json!({
            "name": "Order sync", "actor_id": "acme", "scopes": ["orders:read", "orders:write", "customers:read", "refunds:read"],
            "ttl": "90d", "rate_limit_policy": limit, "ip_restriction": {"allowed_cidrs": ["127.0.0.0/8", "10.20.0.0/16"]},
            "metadata": {"contract": "C-1024", "contact": "ops@acme.example"},
        }))
        .await;
    for (name, actor, scopes, ttl) in [
        ("Billing export", "acme", &["billing:read"][..], "30d"),
        ("Storefront", "globex", &["catalog:read"], "180d"),
        ("CI", "globex", &["catalog:read", "catalog:write"], "5d"),
        ("Warehouse scanner 7", "initech", &[], "90d"),
        ("Analytics", "umbrella", &["events:read"], "60d"),
        ("Trial", "hooli", &["orders:read"], "14d"),
    ] {
        let (_, secret) = keygate.issue(json!({"name": name, "actor_id": actor, "scopes": scopes, "ttl": ttl})).await;
        if scopes.len() == 1 {
            keygate.call("/orders", &secret).await;
        }
    }
    let (revoked, old) = keygate.issue(json!({"name": "Old integration", "actor_id": "initech"})).await;
    keygate.revoke(&revoked).await;
    keygate.import(json!({"name": "Partner of 2019", "actor_id": "hooli", "raw_key": "a-key-of-another-system"})).await;
    keygate
        .send_json("POST /keygate/v1/adminKeys", &json!({"name": "Ana, support", "roles": ["read", "verify"]}))
        .await;
    let roles = json!(["read", "manage"]);
    keygate.send_json("POST /keygate/v1/adminKeys", &json!({"name": "Deployment", "roles": roles, "ttl": "30d"})).await;
    for secret in [&secret, &secret, &secret, &old, "not-a-key"] {
        keygate.call("/orders", secret).await;
    }
    add_usage(keygate, &key).await;
    (key, revoked)
}

/// Adds usage of the last 30 days.
async fn add_usage(keygate: &Keygate, key: &str) {
    let file = keygate.path().join("keys.db");
    let mut database = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let hours = "WITH RECURSIVE days(day) AS (SELECT 1 UNION ALL SELECT day + 1 FROM days WHERE day < 29)";
    for (refusal, requests) in
        [("", "4000 + 2600 * (day * 7 % 11) / (1 + day / 4)"), ("rate_limited", "40 * (day * 5 % 7)")]
    {
        let statement = format!(
            "{hours} INSERT INTO key_usage (tenant, kind, key_id, hour, refusal, requests, bytes_received, bytes_sent) \
             SELECT x.tenant, x.kind, x.key_id, unixepoch() / 3600 - 24 * day, '{refusal}', {requests}, 0, 0 \
             FROM days, (SELECT '00000000-0000-0000-0000-000000000000' AS tenant, 'issued' AS kind, '{key}' AS key_id) AS x"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut database).await.unwrap();
    }
}
