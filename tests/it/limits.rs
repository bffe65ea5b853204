//! Rate limits: what they count by, what callers see, and how exact they are over two nodes.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keygate_test_servers::{Postgres, Redis};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [
            {"name": "plain", "path_prefix": "/", "upstream": "api"},
            {"name": "costly", "path_prefix": "/costly", "upstream": "api", "cost": 2},
            {"name": "free", "path_prefix": "/free", "upstream": "api", "cost": 0},
            {"name": "actor", "path_prefix": "/actor", "upstream": "api", "limits": ["by-actor", "by-key"]},
            {"name": "address", "path_prefix": "/address", "upstream": "api", "auth": "optional", "limits": ["by-address"]},
            {"name": "dry-run", "path_prefix": "/dry-run", "upstream": "api", "limits": ["dry-run"]},
            {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"}
        ],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
        "limits": {
            "by-key": {"quota": 3, "window": "3600s"},
            "by-actor": {"quota": 4, "window": "3600s", "count_by": "actor"},
            "by-address": {"quota": 2, "window": "3600s", "count_by": "address"},
            "dry-run": {"quota": 1, "window": "3600s", "dry_run": true}
        }
    })
}

/// A key's own limit. The window is so long that no token is replenished during a test, however slow the machine.
fn policy(quota: u64) -> Value {
    json!({"rate_limit_policy": {"quota": quota.to_string(), "window": "3600s"}})
}

/// Tokens that a bucket of `quota` per hour may have got back since `start`.
fn replenished(quota: u64, start: Instant) -> usize {
    usize::try_from(start.elapsed().as_secs() * quota / 3600).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn statuses(keygate: &Keygate, path: &str, key: &str, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(keygate.call(path, key).await.status().as_u16());
    }
    statuses
}

#[tokio::test]
async fn limit_of_a_key_is_enforced_and_reported_in_headers() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(policy(3)).await;
    for left in [2, 1, 0] {
        let response = keygate.call("/", &key).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "ratelimit-policy"), r#""default";q=3;w=3600"#);
        assert!(header(&response, "ratelimit").starts_with(&format!("\"default\";r={left};t=")), "{response:?}");
        assert!(
            !response.headers().contains_key("x-ratelimit-limit") && !response.headers().contains_key("retry-after")
        );
    }
    let refused = keygate.call("/", &key).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((600..=1200).contains(&wait), "one token is replenished every 1200 seconds, not {wait}");
    assert!(header(&refused, "ratelimit").starts_with(r#""default";r=0;t="#));
    assert_eq!(header(&refused, "ratelimit-policy"), r#""default";q=3;w=3600"#);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!((&problem["code"], &problem["violated-policies"]), (&json!("quota_exceeded"), &json!(["default"])));
    assert_eq!((&problem["status"], &problem["title"]), (&json!(429), &json!("Too Many Requests")));

    let (_, unlimited) = keygate.issue(json!({})).await;
    let response = keygate.call("/", &unlimited).await;
    assert!(!response.headers().contains_key("ratelimit") && !response.headers().contains_key("ratelimit-policy"));
}

#[tokio::test]
async fn route_cost_is_charged() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(policy(5)).await;
    assert_eq!(statuses(&keygate, "/costly", &key, 3).await, [200, 200, 429]);
    assert_eq!(statuses(&keygate, "/", &key, 2).await, [200, 429], "a rejected request is not charged");
    assert_eq!(statuses(&keygate, "/free", &key, 3).await, [200; 3]);
}

#[tokio::test]
async fn limits_count_by_key_actor_and_address_and_charge_all_or_none() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, first) = keygate.issue(json!({"actor_id": "one"})).await;
    let (_, second) = keygate.issue(json!({"actor_id": "one"})).await;
    let (_, other) = keygate.issue(json!({"actor_id": "two"})).await;
    // The key has 3 tokens. The rejected request is not charged to the actor, who has 4.
    assert_eq!(statuses(&keygate, "/actor", &first, 4).await, [200, 200, 200, 429]);
    let refused = keygate.call("/actor", &first).await;
    let policies = header(&refused, "ratelimit-policy").to_owned();
    assert_eq!(policies, r#""by-actor";q=4;w=3600, "by-key";q=3;w=3600"#);
    assert!(header(&refused, "ratelimit").starts_with(r#""by-actor";r=1;"#), "{refused:?}");
    assert_eq!(refused.json::<Value>().await.unwrap()["violated-policies"], json!(["by-key"]));
    assert_eq!(statuses(&keygate, "/actor", &second, 2).await, [200, 429]);
    assert_eq!(statuses(&keygate, "/actor", &other, 1).await, [200]);

    // Requests from one address are counted together, with or without a credential.
    let anonymous =
        || async { keygate.http.get(format!("{}/address", keygate.gateway)).send().await.unwrap().status() };
    assert_eq!(statuses(&keygate, "/address", &other, 1).await, [200]);
    assert_eq!((anonymous().await, anonymous().await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
}

#[tokio::test]
async fn dry_run_limit_reports_but_never_rejects() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    assert_eq!(statuses(&keygate, "/dry-run", &key, 3).await, [200; 3]);
    let response = keygate.call("/dry-run", &key).await;
    assert!(header(&response, "ratelimit").starts_with(r#""dry-run";r=0;"#), "{response:?}");
    let metrics = keygate.http.get(format!("{}/metrics", keygate.metrics)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"keygate_rate_limit_decisions_total{outcome="refused"} 3"#), "{metrics}");
}

#[tokio::test]
async fn derived_token_is_charged_to_the_limit_of_its_parent() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(policy(3)).await;
    let request = json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON"});
    let token = keygate.send_json("POST /v2alpha1/admin/apiKeys:derive", &request).await.text("/token/token");
    assert_eq!(statuses(&keygate, "/", &token, 2).await, [200, 200]);
    assert_eq!(statuses(&keygate, "/", &key, 2).await, [200, 429]);
    assert_eq!(statuses(&keygate, "/", &token, 1).await, [429]);
}

#[tokio::test]
async fn verify_charges_and_reports_limits_per_the_contract() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (id, key) = keygate.issue(policy(2)).await;
    let body = json!({"credential": key});
    for left in ["1", "0"] {
        let response = keygate.post("apiKeys:verify", &body).await;
        assert_eq!(header(&response, "ratelimit-policy"), r#""default";q=2;w=3600"#);
        assert!(header(&response, "ratelimit").starts_with(&format!("\"default\";r={left}")));
        assert_eq!((header(&response, "cache-control"), header(&response, "retry-after")), ("no-store", ""));
        let verdict: Value = response.json().await.unwrap();
        assert_eq!((&verdict["is_valid"], &verdict["rate_limit_remaining"]), (&json!(true), &json!(left)));
        assert!(verdict["rate_limit_reset_time"].is_string());
    }
    let response = keygate.post("apiKeys:verify", &body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let wait: u64 = header(&response, "retry-after").parse().unwrap();
    assert!((1800..=3600).contains(&wait), "seconds until the bucket is full, not {wait}");
    let verdict: Value = response.json().await.unwrap();
    assert_eq!(
        (&verdict["is_valid"], &verdict["error_code"], &verdict["error_message"]),
        (&json!(false), &json!("VERIFICATION_ERROR_RATE_LIMITED"), &json!("rate limit exceeded"))
    );
    assert_eq!((&verdict["key_id"], &verdict["status"]), (&json!(id), &json!("KEY_STATUS_ACTIVE")));
    assert_eq!(verdict["rate_limit_remaining"], "0");

    let (_, key) = keygate.issue(policy(2)).await;
    let batch = json!({"requests": [{"credential": key}, {"credential": key}, {"credential": key}]});
    let response = keygate.post("apiKeys:batchVerify", &batch).await;
    assert!(!response.headers().contains_key("ratelimit"));
    let results: Value = response.json().await.unwrap();
    let valid: Vec<_> = results["results"].as_array().unwrap().iter().map(|item| &item["is_valid"]).collect();
    assert_eq!(valid, [true, true, false]);
}

#[tokio::test]
async fn limits_can_be_disabled_and_legacy_headers_enabled() {
    let upstream = Upstream::start();
    let off = Keygate::serve(&gateway(&upstream), &json!({"rate_limit": {"enabled": false}}));
    let (_, key) = off.issue(policy(1)).await;
    assert_eq!(statuses(&off, "/", &key, 3).await, [200; 3]);
    let response = off.post("apiKeys:verify", &json!({"credential": key})).await;
    assert_eq!(
        (header(&response, "ratelimit-policy"), header(&response, "ratelimit")),
        (r#""default";q=1;w=3600"#, "")
    );

    let legacy = Keygate::serve(&gateway(&upstream), &json!({"gateway": {"limit_headers": {"x_ratelimit": true}}}));
    let (_, key) = legacy.issue(policy(2)).await;
    let response = legacy.call("/", &key).await;
    let fields = ["x-ratelimit-limit", "x-ratelimit-remaining"].map(|name| header(&response, name).to_owned());
    assert_eq!(fields, ["2", "1"]);
    assert!(header(&response, "x-ratelimit-reset").parse::<u64>().unwrap() <= 1800);
}

/// Calls all nodes at once, 64 at a time on each; how many calls were admitted and how many rejected.
async fn burst(nodes: &[Arc<Keygate>], key: &str, calls: usize) -> (usize, usize) {
    counted_burst(nodes, key, calls, &Arc::default()).await
}

/// The same; `responses` is the number of responses so far.
async fn counted_burst(
    nodes: &[Arc<Keygate>],
    key: &str,
    calls: usize,
    responses: &Arc<AtomicUsize>,
) -> (usize, usize) {
    let mut tasks = JoinSet::new();
    for node in nodes {
        for _ in 0..64 {
            let (node, key, responses) = (Arc::clone(node), key.to_owned(), Arc::clone(responses));
            tasks.spawn(async move {
                let mut counts = (0, 0);
                for _ in 0..calls {
                    match node.call("/", &key).await.status().as_u16() {
                        200 => counts.0 += 1,
                        429 => counts.1 += 1,
                        other => panic!("{other}"),
                    }
                    responses.fetch_add(1, Ordering::Relaxed);
                }
                counts
            });
        }
    }
    let all = tasks.join_all().await;
    all.iter().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
}

/// Two nodes that share limits in Redis; each is connected to it and has learned of the other.
async fn two_nodes(mode: &str, servers: &(Postgres, Redis, Upstream), on_down: &str) -> Vec<Arc<Keygate>> {
    let settings = json!({
        "db": {"dsn": servers.0.url("postgres"), "auto_migrate": true},
        "cache": {"redis": {"addrs": [servers.1.address()], "timeout": "5s"}},
        "rate_limit": {"backend": "redis", "mode": mode, "on_backend_down": on_down}
    });
    let nodes: Vec<_> = (0..2).map(|_| Arc::new(Keygate::serve(&gateway(&servers.2), &settings))).collect();
    for node in &nodes {
        wait_for(async || match node.metric("keygate_rate_limit_nodes").await {
            Some(2.0) => Ok(()),
            count => Err(format!("the node counts {count:?} nodes")),
        })
        .await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_limit_admits_its_quota_over_two_nodes() {
    let servers = (Postgres::start(), Redis::start(), Upstream::start());
    let nodes = two_nodes("exact", &servers, "local").await;
    let (_, key) = nodes[0].issue(policy(100)).await;
    let start = Instant::now();
    let (admitted, rejected) = burst(&nodes, &key, 4).await;
    assert_eq!(admitted + rejected, 512);
    assert!((100..=100 + replenished(100, start)).contains(&admitted), "{admitted} of 100");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_limit_stays_within_its_bound_over_two_nodes() {
    let servers = (Postgres::start(), Redis::start(), Upstream::start());
    let nodes = two_nodes("leased", &servers, "local").await;
    let (_, key) = nodes[0].issue(policy(100)).await;
    let start = Instant::now();
    let (admitted, rejected) = burst(&nodes, &key, 4).await;
    assert_eq!(admitted + rejected, 512);
    // Leases may exceed the quota by a tenth of it.
    assert!((90..=110 + 1 + replenished(100, start)).contains(&admitted), "{admitted} of 100");
}

/// The status, rate limit fields and body of a response, without values that change.
async fn summary(response: Response) -> String {
    let mut text = format!("{}\n", response.status().as_u16());
    for name in ["ratelimit-policy", "ratelimit", "retry-after", "cache-control", "content-type"] {
        writeln!(text, "{name}: {}", header(&response, name)).unwrap();
    }
    let mut body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
    for (name, value) in body.as_object_mut().into_iter().flatten() {
        if ["request_id", "key_id", "expire_time", "rate_limit_reset_time"].contains(&name.as_str()) {
            *value = json!("…");
        }
    }
    format!("{text}{body:#}\n")
}

#[tokio::test]
async fn gateway_and_verify_report_limits_alike() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(policy(1)).await;
    let mut text = String::new();
    for what in ["passed", "refused"] {
        write!(text, "gateway, {what}: {}", summary(keygate.call("/", &key).await).await).unwrap();
    }
    let (_, key) = keygate.issue(policy(1)).await;
    for what in ["passed", "refused"] {
        let response = keygate.post("apiKeys:verify", &json!({"credential": key})).await;
        write!(text, "verify, {what}: {}", summary(response).await).unwrap();
    }
    // Time passes between the calls.
    insta::with_settings!({filters => vec![(r"t=3[0-6]\d\d", "t=3600"), (r"retry-after: 3[0-6]\d\d", "retry-after: 3600")]}, {
        insta::assert_snapshot!(text);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_under_load_causes_no_error_and_admissions_stay_bounded() {
    let servers = (Postgres::start(), Redis::start(), Upstream::start());
    let nodes = two_nodes("exact", &servers, "local").await;
    let (_, key) = nodes[0].issue(policy(100)).await;
    let responses = Arc::new(AtomicUsize::new(0));
    let load = tokio::spawn({
        let (nodes, key, responses) = (nodes.clone(), key.clone(), Arc::clone(&responses));
        async move { counted_burst(&nodes, &key, 8, &responses).await }
    });
    while responses.load(Ordering::Relaxed) < 64 && !load.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (_postgres, redis, _upstream) = servers;
    let stopped = redis.stop();
    let (admitted, rejected) = load.await.unwrap();
    assert_eq!(admitted + rejected, 1024, "every response is 200 or 429");
    // At most the quota in Redis, and each node's share of it once more.
    assert!(admitted <= 210, "{admitted} of 100 were admitted");

    let redis = stopped.start_again();
    wait_for(async || match redis.query("ZCARD keygate:nodes").trim_end() {
        ":2" => Ok(()),
        count => Err(format!("{count} nodes have announced themselves in Redis")),
    })
    .await;
    // Redis starts with full buckets. Exact again means: the quota once over both nodes.
    let (_, fresh) = nodes[0].issue(policy(50)).await;
    let start = Instant::now();
    let (admitted, _) = burst(&nodes, &fresh, 1).await;
    assert!((50..=50 + replenished(50, start)).contains(&admitted), "{admitted} of 50");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_redis_is_handled_as_configured_and_limits_are_exact_after_it_recovers() {
    for (on_down, expected) in [("local", StatusCode::TOO_MANY_REQUESTS), ("open", StatusCode::OK)] {
        let servers = (Postgres::start(), Redis::start(), Upstream::start());
        let nodes = two_nodes("exact", &servers, on_down).await;
        let (_, key) = nodes[0].issue(policy(20)).await;
        let start = Instant::now();
        let (admitted, _) = burst(&nodes[..1], &key, 1).await;
        assert!((20..=20 + replenished(20, start)).contains(&admitted), "{admitted} of 20");
        servers.1.signal("STOP");
        // The first call waits for the timeout, the others do not wait for Redis.
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(nodes[0].call("/", &key).await.status());
        }
        assert!(statuses.iter().all(|status| *status == expected), "{on_down}: {statuses:?}");
        servers.1.signal("CONT");
        wait_for(async || match nodes[0].call("/", &key).await.status() {
            StatusCode::TOO_MANY_REQUESTS => Ok(()),
            status => Err(format!("{on_down}: {status} instead of 429")),
        })
        .await;
    }
    let servers = (Postgres::start(), Redis::start(), Upstream::start());
    let nodes = two_nodes("exact", &servers, "closed").await;
    let (_, key) = nodes[0].issue(policy(20)).await;
    assert_eq!(nodes[0].call("/", &key).await.status(), StatusCode::OK);
    servers.1.signal("STOP");
    let rejected = nodes[0].call("/", &key).await;
    assert_eq!((rejected.status(), header(&rejected, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    servers.1.signal("CONT");
}
