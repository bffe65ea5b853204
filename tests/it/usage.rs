//! The usage of keys: what the gateway counts, and what the admin API and the command line show of it.

use keygate_test_servers::Postgres;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::admin::{AdminResponse, SIGNING_KEYS};
use crate::support::keygate::{Keygate, command, merge};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// The bytes of the upstream's response to `GET /`.
const BODY: u64 = "path=/ body=0".len() as u64;

fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [
            {"name": "write", "path_prefix": "/write", "upstream": "api", "scopes": ["write"]},
            {"name": "api", "upstream": "api"}
        ],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    })
}

fn serve(upstream: &Upstream, usage: &Value) -> Keygate {
    serve_with(upstream, usage, &json!({}))
}

fn serve_with(upstream: &Upstream, usage: &Value, settings: &Value) -> Keygate {
    use base64::Engine;
    let keys = base64::engine::general_purpose::STANDARD.encode(SIGNING_KEYS);
    let urls = json!({"jwt": {"signing_keys": {"urls": [format!("base64://{keys}")]}}});
    let mut all = json!({"credentials": {"derived_tokens": urls}, "usage": usage});
    merge(&mut all, settings);
    Keygate::serve(&gateway(upstream), &all)
}

async fn get(keygate: &Keygate, id: &str, query: &str) -> AdminResponse {
    keygate.send(&format!("GET /keygate/v1/keys/{id}/usage?{query}"), "").await
}

async fn total(keygate: &Keygate, id: &str) -> Value {
    let response = get(keygate, id, "").await;
    assert_eq!(response.status, 200, "{response:?}");
    response.body["total"].clone()
}

/// Waits until the usage of a key has a number of requests; returns their total.
async fn wait_for_requests(keygate: &Keygate, id: &str, requests: u64) -> Value {
    wait_for(async || match total(keygate, id).await {
        total if total["requests"] == requests => Ok(total),
        total => Err(format!("{total} instead of {requests} requests")),
    })
    .await
}

/// Sends requests that the gateway accepts.
async fn send(keygate: &Keygate, key: &str, requests: usize) {
    for _ in 0..requests {
        let response = keygate.call("/", key).await;
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap();
    }
}

/// Sends a request that the gateway refuses; returns the number of bytes of the response.
async fn refused(keygate: &Keygate, path: &str, key: &str, code: &str) -> u64 {
    let body = keygate.call(path, key).await.bytes().await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], code);
    body.len() as u64
}

#[tokio::test]
async fn requests_bytes_and_refusals_are_counted_by_key() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream, &json!({"flush_interval": "50ms"}));
    let (id, key) = keygate.issue(json!({"rate_limit_policy": {"quota": 4, "window": "3600s"}})).await;
    let post = keygate.http.post(format!("{}/", keygate.gateway)).bearer_auth(&key).body("12345");
    assert_eq!(post.send().await.unwrap().bytes().await.unwrap(), "path=/ body=5");
    send(&keygate, &key, 2).await;
    let request = json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON"});
    let derived = keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await;
    send(&keygate, &derived.text("/token/token"), 1).await;
    let mut sent = 4 * BODY;
    for _ in 0..2 {
        sent += refused(&keygate, "/write", &key, "scope_insufficient").await;
    }
    sent += refused(&keygate, "/", &key, "quota_exceeded").await;
    keygate.revoke(&id).await;
    sent += refused(&keygate, "/", &key, "credential_revoked").await;
    sent += refused(&keygate, "/", &derived.text("/token/token"), "credential_revoked").await;
    let refusals = json!({"credential_revoked": 2, "quota_exceeded": 1, "scope_insufficient": 2});
    let expected = json!({"requests": 9, "refused": 5, "refusals": refusals, "bytes_received": 5, "bytes_sent": sent});
    assert_eq!(wait_for_requests(&keygate, &id, 9).await, expected);

    let imported = keygate.import(json!({"raw_key": "sk_live_counted"})).await;
    send(&keygate, "sk_live_counted", 3).await;
    let restricted = json!({"raw_key": "sk_live_elsewhere", "ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}});
    let elsewhere = keygate.import(restricted).await;
    refused(&keygate, "/", "sk_live_elsewhere", "address_not_allowed").await;
    assert_eq!(wait_for_requests(&keygate, &imported, 3).await["refused"], 0);
    let total = wait_for_requests(&keygate, &elsewhere, 1).await;
    assert_eq!(total["refusals"], json!({"address_not_allowed": 1}));

    // Unknown credentials are those of no key.
    let forged = format!("{}0", &key[..key.len() - 1]);
    for unknown in ["sk_live_unknown", &forged] {
        refused(&keygate, "/", unknown, "credential_invalid").await;
    }
    send(&keygate, "sk_live_counted", 1).await;
    wait_for_requests(&keygate, &imported, 4).await;
    assert_eq!(keygate.count(r#"keygate_usage_requests_total{outcome="written"}"#).await, Some(9 + 4 + 1));
}

#[tokio::test]
async fn refused_request_of_a_known_key_has_its_id_in_the_access_log() {
    let upstream = Upstream::start();
    let mut keygate = serve(&upstream, &json!({}));
    let (id, key) = keygate.issue(json!({})).await;
    refused(&keygate, "/write", &key, "scope_insufficient").await;
    keygate.revoke(&id).await;
    refused(&keygate, "/", &key, "credential_revoked").await;
    refused(&keygate, "/", "sk_live_unknown", "credential_invalid").await;
    let log = keygate.whole_log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let served = lines.filter(|line| line["message"] == "request served");
    let found: Vec<_> = served.map(|line| (line["denial"].clone(), line["key_id"].clone())).collect();
    let expected = [
        (json!("scope_insufficient"), json!(id)),
        (json!("credential_revoked"), json!(id)),
        (json!("credential_invalid"), Value::Null),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn usage_is_written_at_the_stop_and_a_crash_loses_only_what_is_not_written() {
    let upstream = Upstream::start();
    let mut keygate = serve(&upstream, &json!({"flush_interval": "1h"}));
    let (id, key) = keygate.issue(json!({})).await;
    send(&keygate, &key, 20).await;
    assert_eq!(total(&keygate, &id).await["requests"], 0);
    keygate.restart();
    assert_eq!(total(&keygate, &id).await["requests"], 20);
    send(&keygate, &key, 5).await;
    keygate.process.kill();
    keygate.start_again();
    assert_eq!(total(&keygate, &id).await["requests"], 20);

    let mut keygate = serve(&upstream, &json!({"flush_interval": "50ms"}));
    let (id, key) = keygate.issue(json!({})).await;
    send(&keygate, &key, 30).await;
    wait_for_requests(&keygate, &id, 30).await;
    send(&keygate, &key, 10).await;
    keygate.process.kill();
    keygate.start_again();
    let left = total(&keygate, &id).await["requests"].as_u64().unwrap();
    assert!((30..=40).contains(&left), "{left}");
    send(&keygate, &key, 1).await;
    wait_for_requests(&keygate, &id, left + 1).await;
}

#[tokio::test]
async fn nodes_add_up_and_an_outage_of_the_database_loses_nothing() {
    let (postgres, upstream) = (Postgres::start(), Upstream::start());
    let dsn = format!("{}?acquire_timeout=1s&statement_timeout=1s&connect_timeout=1s", postgres.url("postgres"));
    let settings = json!({"db": {"dsn": dsn, "auto_migrate": true}});
    let nodes = [(); 2].map(|()| serve_with(&upstream, &json!({"flush_interval": "50ms"}), &settings));
    let (id, key) = nodes[0].issue(json!({})).await;
    for node in &nodes {
        send(node, &key, 10).await;
    }
    for node in &nodes {
        wait_for_requests(node, &id, 20).await;
    }
    let failures = async |node: &Keygate| node.count("keygate_usage_write_failures_total").await.unwrap();
    let stopped = postgres.stop();
    for node in &nodes {
        send(node, &key, 10).await;
        wait_for(async || if failures(node).await > 0 { Ok(()) } else { Err("no write fails".to_owned()) }).await;
        send(node, &key, 5).await;
    }
    let postgres = stopped.start_again();
    for node in &nodes {
        wait_for_requests(node, &id, 50).await;
    }
    // While a statement is stalled, it is not known whether it is executed.
    let before = [failures(&nodes[0]).await, failures(&nodes[1]).await];
    let paused = postgres.pause();
    for (node, before) in nodes.iter().zip(before) {
        send(node, &key, 10).await;
        wait_for(async || if failures(node).await > before { Ok(()) } else { Err("no write fails".to_owned()) }).await;
    }
    drop(paused);
    wait_for_requests(&nodes[0], &id, 70).await;
    for node in &nodes {
        send(node, &key, 1).await;
    }
    wait_for_requests(&nodes[1], &id, 72).await;
    let rows = postgres.query("SELECT sum(requests) FROM key_usage WHERE kind = 'issued'");
    assert_eq!(rows.as_deref(), Some("72"));
    for node in &nodes {
        assert_eq!(node.count(r#"keygate_usage_requests_total{outcome="lost"}"#).await, Some(0));
    }
}

#[tokio::test]
async fn usage_that_cannot_be_written_at_the_stop_is_counted_and_logged() {
    let (postgres, upstream) = (Postgres::start(), Upstream::start());
    let dsn = format!("{}?acquire_timeout=1s&statement_timeout=1s&connect_timeout=1s", postgres.url("postgres"));
    let settings = json!({"db": {"dsn": dsn, "auto_migrate": true}});
    let mut keygate = serve_with(&upstream, &json!({"flush_interval": "1h"}), &settings);
    let (_, key) = keygate.issue(json!({})).await;
    send(&keygate, &key, 7).await;
    let _stopped = postgres.stop();
    let log = keygate.whole_log();
    let lost = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lost: Vec<_> = lost.filter_map(|line| line["requests"].as_u64()).collect();
    assert_eq!(lost, [7], "{log}");
}

#[tokio::test]
async fn usage_is_removed_after_its_retention() {
    let upstream = Upstream::start();
    for (retention, expected) in [("48h", 1), ("0s", 2)] {
        let mut keygate = serve(&upstream, &json!({"flush_interval": "50ms", "retention": retention}));
        let (id, key) = keygate.issue(json!({})).await;
        let rows = async |statement: &'static str| {
            let file = SqliteConnectOptions::new().filename(keygate.path().join("keys.db"));
            let mut database = file.connect().await.unwrap();
            sqlx::query_scalar::<_, i64>(statement).fetch_all(&mut database).await.unwrap()
        };
        send(&keygate, &key, 1).await;
        wait_for_requests(&keygate, &id, 1).await;
        rows("INSERT INTO key_usage SELECT tenant, kind, key_id, hour - 50, refusal, requests, 0, 0 FROM key_usage RETURNING 1")
            .await;
        assert_eq!(rows("SELECT count(*) FROM key_usage").await, [2]);
        keygate.restart();
        let rows = async || {
            let file = SqliteConnectOptions::new().filename(keygate.path().join("keys.db"));
            let mut database = file.connect().await.unwrap();
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM key_usage").fetch_one(&mut database).await.unwrap()
        };
        wait_for(async || match rows().await {
            count if count == expected => Ok(()),
            count => Err(format!("{count} rows instead of {expected}")),
        })
        .await;
        assert_eq!(total(&keygate, &id).await["requests"], 1, "the current hour stays");
    }
}

#[tokio::test]
async fn nothing_is_counted_if_usage_is_off() {
    let upstream = Upstream::start();
    let mut keygate = serve(&upstream, &json!({"enabled": false}));
    let (id, key) = keygate.issue(json!({})).await;
    send(&keygate, &key, 3).await;
    assert_eq!(keygate.metric(r#"keygate_usage_requests_total{outcome="written"}"#).await, None);
    keygate.restart();
    assert_eq!(total(&keygate, &id).await["requests"], 0);
}

#[tokio::test]
async fn usage_has_every_period_of_the_range() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream, &json!({"flush_interval": "50ms"}));
    let (id, key) = keygate.issue(json!({})).await;
    send(&keygate, &key, 2).await;
    wait_for_requests(&keygate, &id, 2).await;
    let periods = async |query: &str| {
        let response = get(&keygate, &id, query).await;
        assert_eq!(response.status, 200, "{response:?}");
        let periods = response.body["periods"].as_array().unwrap();
        let requests = periods.iter().map(|period| period["requests"].as_u64().unwrap()).sum::<u64>();
        (periods.len(), periods[0]["start"].as_str().unwrap().to_owned(), requests, response.text("/to"))
    };
    assert_eq!(periods("").await.0, 24);
    assert_eq!(periods("step=day").await.0, 30);
    let (from, to) = ("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z");
    assert_eq!(periods(&format!("from={from}&to={to}")).await, (48, from.into(), 0, to.into()));
    assert_eq!(periods(&format!("from={from}&to={to}&step=day")).await, (2, from.into(), 0, to.into()));
    for (query, words) in [
        ("step=week", "step must be hour or day"),
        ("from=yesterday", "from must be an RFC 3339 time"),
        ("to=2026-01-01", "to must be an RFC 3339 time"),
        ("from=2026-01-01T00:00:00Z&from=2026-01-01T00:00:00Z", "from is given twice"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from must be before to"),
        ("from=2020-01-02T00:00:00Z&to=2026-01-01T00:00:00Z&step=day", "more than 366 periods"),
    ] {
        let response = get(&keygate, &id, query).await;
        assert_eq!((response.status, response.reason()), (400, "BAD_REQUEST"), "{query}");
        assert!(response.message().contains(words), "{response:?}");
    }
    for unknown in ["11111111-2222-4333-8444-555555555555", &"0".repeat(64), "none"] {
        let response = get(&keygate, unknown, "").await;
        assert_eq!((response.status, response.reason()), (404, "API_KEY_NOT_FOUND"), "{unknown}");
    }
    // The usage of a deleted key stays.
    let imported = keygate.import(json!({"raw_key": "sk_live_deleted"})).await;
    send(&keygate, "sk_live_deleted", 1).await;
    wait_for_requests(&keygate, &imported, 1).await;
    let deleted = keygate.send(&format!("DELETE /v2alpha1/admin/importedApiKeys/{imported}"), "").await;
    assert_eq!(deleted.status, 204);
    assert_eq!(total(&keygate, &imported).await["requests"], 1);
}

#[tokio::test]
async fn command_shows_a_chart() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream, &json!({"flush_interval": "50ms"}));
    let (id, key) = keygate.issue(json!({})).await;
    send(&keygate, &key, 3).await;
    refused(&keygate, "/write", &key, "scope_insufficient").await;
    wait_for_requests(&keygate, &id, 4).await;
    let run = |arguments: &[&str]| {
        let mut process = command();
        process.args(["keys", "usage", &id, "--endpoint", &keygate.admin]).args(arguments);
        let output = process.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, table, summary) = run(&[]);
    assert_eq!(code, Some(0), "{summary}");
    assert_eq!(table.lines().count(), 1 + 24, "{table}");
    assert!(table.starts_with("START\t"), "{table}");
    let blocks = |block: char| table.chars().filter(|character| *character == block).count();
    // The requests may be on both sides of the end of an hour.
    assert!(blocks('█') >= 20 && blocks('░') >= 10, "{table}");
    assert!(summary.starts_with("4 requests, 1 refused (scope_insufficient 1), 0 bytes received, "), "{summary}");
    let (_, json, _) = run(&["--step", "day", "--format", "jsonpath=$.total.requests"]);
    assert_eq!(json, "4\n");
    let (_, json, _) = run(&[
        "--from",
        "2026-01-01T00:00:00Z",
        "--to",
        "2026-01-01T02:00:00Z",
        "--format",
        "jsonpath=$.periods[*].start",
    ]);
    assert_eq!(json, "2026-01-01T00:00:00Z\n2026-01-01T01:00:00Z\n");
    let (code, _, error) = run(&["--from", "yesterday"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("usage of key: from must be an RFC 3339 time"), "{error}");
}
