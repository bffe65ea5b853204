//! Metrics: `docs/metrics.md` lists all of them as they are exported, and no label has a value that a client chose.

mod document;

use std::collections::{BTreeMap, BTreeSet};

use keygate_test_servers::{Postgres, Redis, check_document, free_port};
use serde_json::{Value, json};

use self::document::{Metric, documented, exported, in_sources, table};
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;

fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [
            {"name": "orders", "path_prefix": "/orders", "upstream": "api", "limits": ["burst"]},
            {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"},
            {"name": "gone", "path_prefix": "/gone", "upstream": "gone", "auth": "none"}
        ],
        "upstreams": {
            "api": {"endpoints": [upstream.url]},
            "gone": {"endpoints": [format!("http://127.0.0.1:{}", free_port())]}
        },
        "limits": {"burst": {"quota": 100, "window": "1h"}}
    })
}

async fn scrape(keygate: &Keygate) -> String {
    keygate.http.get(format!("{}/metrics", keygate.metrics)).send().await.unwrap().text().await.unwrap()
}

/// Calls of everything that has metrics which appear when they are first counted.
async fn call_everything(keygate: &Keygate) {
    let (id, key) = keygate.issue(json!({})).await;
    for path in ["/orders", "/open", "/gone", "/nowhere"] {
        keygate.call(path, &key).await;
        keygate.call(path, "wrong").await;
    }
    let batch =
        json!({"imported_api_keys": [{"raw_key": "imported-secret", "name": "a", "actor_id": "a"}, {"raw_key": ""}]});
    keygate.post("importedApiKeys:batchImport", &batch).await;
    keygate.call("/orders", "imported-secret").await;
    keygate.post("apiKeys:derive", &json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON"})).await;
    let (_, other) = keygate.issue(json!({})).await;
    assert_eq!(keygate.call("/orders", &other).await.status(), 200);
    keygate.post(&format!("issuedApiKeys/{id}:rotate"), &json!({})).await;
}

#[tokio::test]
async fn generated_document_lists_every_metric_as_it_is_exported() {
    let upstream = Upstream::start();
    let (postgres, redis) = (Postgres::start(), Redis::start());
    let tracing = json!({"enabled": true, "exporter": "otlp", "endpoint": format!("127.0.0.1:{}", free_port()), "sample_rate": 1});
    let single = json!({"tracing": tracing, "external_auth": {"address": format!("127.0.0.1:{}", free_port())}});
    let shared = json!({
        "db": {"dsn": postgres.url("postgres"), "auto_migrate": true},
        "cache": {"type": "redis", "redis": {"addrs": [redis.address()]}},
        "rate_limit": {"backend": "redis"}
    });
    let mut found: BTreeMap<String, Metric> = BTreeMap::new();
    for settings in [single, shared] {
        let keygate = Keygate::serve(&gateway(&upstream), &settings);
        call_everything(&keygate).await;
        for (name, metric) in exported(&scrape(&keygate).await) {
            found.entry(name).or_insert(metric);
        }
    }
    assert!(found.len() > 50, "{:?}", found.keys());
    // Metrics of rare failures are not exported here: their rows stay, and another test compares their names with the sources.
    let all: BTreeMap<_, _> = documented().into_iter().chain(found).collect();
    check_document("docs/metrics.md", &table(&all));
}

#[test]
fn document_has_the_metrics_of_the_sources_and_no_others() {
    let documented: BTreeSet<_> = documented().into_keys().collect();
    let sources = in_sources();
    let missing: Vec<_> = sources.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&sources).collect();
    assert!(missing.is_empty() && gone.is_empty(), "missing: {missing:?}, gone: {gone:?}");
}

#[tokio::test]
async fn no_label_has_a_value_that_a_client_chose() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    for path in ["/open", "/nowhere"] {
        let request =
            keygate.http.request("CHOSEN".parse().unwrap(), format!("{}{path}/chosen?chosen=1", keygate.gateway));
        let request = request.header("host", "chosen.example.com").header("user-agent", "chosen");
        let request = request.header("x-api-key", "chosen").header("x-request-id", "chosen");
        request.header("traceparent", "chosen").send().await.unwrap();
        let admin = keygate.http.request("CHOSEN".parse().unwrap(), format!("{}/chosen", keygate.admin));
        admin.header("user-agent", "chosen").send().await.unwrap();
    }
    let text = scrape(&keygate).await;
    assert!(!text.to_lowercase().contains("chosen"), "{text}");
    let labels = r#"http_server_request_duration_seconds_count{error_type="",http_request_method="_OTHER",http_response_status_code="200",http_route="open"}"#;
    assert_eq!(keygate.count(labels).await, Some(1), "{text}");
}

#[tokio::test]
async fn durations_are_counted_by_the_opentelemetry_conventions() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    for (path, status) in [("/orders", 200), ("/orders", 200), ("/gone", 502), ("/nowhere", 404)] {
        assert_eq!(keygate.call(path, &key).await.status(), status);
    }
    for (labels, count) in [
        (r#"error_type="",http_request_method="GET",http_response_status_code="200",http_route="orders""#, 2),
        (
            r#"error_type="upstream_unreachable",http_request_method="GET",http_response_status_code="502",http_route="gone""#,
            1,
        ),
        (r#"error_type="",http_request_method="GET",http_response_status_code="404",http_route="""#, 1),
    ] {
        let series = format!("http_server_request_duration_seconds_count{{{labels}}}");
        assert_eq!(keygate.count(&series).await, Some(count), "{series}");
    }
    let first = r#"http_server_request_duration_seconds_bucket{error_type="",http_request_method="GET",http_response_status_code="200",http_route="orders",le="0.0005"}"#;
    assert!(keygate.count(first).await.is_some());
    let tiers =
        ["database", "memory"].map(|tier| format!(r#"keygate_decision_duration_seconds_count{{tier="{tier}"}}"#));
    let mut counts = Vec::new();
    for tier in &tiers {
        counts.push(keygate.count(tier).await);
    }
    assert_eq!(counts, [Some(1), Some(1)]);
}
