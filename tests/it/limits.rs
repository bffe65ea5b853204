//! Limits of requests: who is counted with whom, what callers see, and that a hundred are a hundred on one node or two.

use std::fmt::Write;
use std::sync::Arc;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::keygate::Keygate;
use crate::support::servers::{Postgres, Redis};
use crate::support::upstream::Upstream;

fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [
            {"name": "plain", "path_prefix": "/", "upstream": "api"},
            {"name": "costly", "path_prefix": "/costly", "upstream": "api", "cost": 2},
            {"name": "free", "path_prefix": "/free", "upstream": "api", "cost": 0},
            {"name": "actor", "path_prefix": "/actor", "upstream": "api", "limits": ["by-actor", "by-key"]},
            {"name": "address", "path_prefix": "/address", "upstream": "api", "auth": "optional", "limits": ["by-address"]},
            {"name": "tried", "path_prefix": "/tried", "upstream": "api", "limits": ["tried"]},
            {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"}
        ],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
        "limits": {
            "by-key": {"quota": 3, "window": "60s"},
            "by-actor": {"quota": 4, "window": "60s", "count_by": "actor"},
            "by-address": {"quota": 2, "window": "60s", "count_by": "address"},
            "tried": {"quota": 1, "window": "60s", "dry_run": true}
        }
    })
}

fn policy(quota: u64) -> Value {
    json!({"rate_limit_policy": {"quota": quota.to_string(), "window": "60s"}})
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn statuses(keygate: &Keygate, path: &str, key: &str, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(keygate.call(path, key).await.status().as_u16());
    }
    statuses
}

#[tokio::test]
async fn a_keys_own_limit_is_kept_and_its_callers_are_told_where_they_stand() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(policy(3)).await;
    for left in [2, 1, 0] {
        let answer = keygate.call("/", &key).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(header(&answer, "ratelimit-policy"), r#""default";q=3;w=60"#);
        assert!(header(&answer, "ratelimit").starts_with(&format!("\"default\";r={left};t=")), "{answer:?}");
        assert!(!answer.headers().contains_key("x-ratelimit-limit") && !answer.headers().contains_key("retry-after"));
    }
    let refused = keygate.call("/", &key).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=20).contains(&wait), "one request comes back every 20 seconds, not {wait}");
    assert!(header(&refused, "ratelimit").starts_with(r#""default";r=0;t="#));
    assert_eq!(header(&refused, "ratelimit-policy"), r#""default";q=3;w=60"#);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!((&problem["code"], &problem["violated-policies"]), (&json!("quota_exceeded"), &json!(["default"])));
    assert_eq!((&problem["status"], &problem["title"]), (&json!(429), &json!("Too Many Requests")));

    let (_, unlimited) = keygate.issue(json!({})).await;
    let answer = keygate.call("/", &unlimited).await;
    assert!(!answer.headers().contains_key("ratelimit") && !answer.headers().contains_key("ratelimit-policy"));
}

#[tokio::test]
async fn routes_cost_what_they_cost() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(policy(5)).await;
    assert_eq!(statuses(&keygate, "/costly", &key, 3).await, [200, 200, 429]);
    assert_eq!(statuses(&keygate, "/", &key, 2).await, [200, 429], "a refusal costs nothing");
    assert_eq!(statuses(&keygate, "/free", &key, 3).await, [200; 3]);
}

#[tokio::test]
async fn limits_count_keys_actors_and_addresses_and_charge_all_or_none() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, first) = keygate.issue(json!({"actor_id": "one"})).await;
    let (_, second) = keygate.issue(json!({"actor_id": "one"})).await;
    let (_, other) = keygate.issue(json!({"actor_id": "two"})).await;
    // Three of the first key are all it has; the refused one is not charged to the actor, who has four.
    assert_eq!(statuses(&keygate, "/actor", &first, 4).await, [200, 200, 200, 429]);
    let refused = keygate.call("/actor", &first).await;
    let policies = header(&refused, "ratelimit-policy").to_owned();
    assert_eq!(policies, r#""by-actor";q=4;w=60, "by-key";q=3;w=60"#);
    assert!(header(&refused, "ratelimit").starts_with(r#""by-actor";r=1;"#), "{refused:?}");
    assert_eq!(refused.json::<Value>().await.unwrap()["violated-policies"], json!(["by-key"]));
    assert_eq!(statuses(&keygate, "/actor", &second, 2).await, [200, 429]);
    assert_eq!(statuses(&keygate, "/actor", &other, 1).await, [200]);

    // Callers without a credential are counted by address, together with those that have one.
    let anonymous =
        || async { keygate.http.get(format!("{}/address", keygate.gateway)).send().await.unwrap().status() };
    assert_eq!(statuses(&keygate, "/address", &other, 1).await, [200]);
    assert_eq!((anonymous().await, anonymous().await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
}

#[tokio::test]
async fn a_limit_that_is_only_tried_reports_and_refuses_nobody() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    assert_eq!(statuses(&keygate, "/tried", &key, 3).await, [200; 3]);
    let answer = keygate.call("/tried", &key).await;
    assert!(header(&answer, "ratelimit").starts_with(r#""tried";r=0;"#), "{answer:?}");
    let metrics = keygate.http.get(format!("{}/metrics", keygate.metrics)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"keygate_rate_limit_decisions_total{outcome="refused"} 3"#), "{metrics}");
}

#[tokio::test]
async fn derived_tokens_draw_on_their_parents_limit() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, key) = keygate.issue(policy(3)).await;
    let wanted = json!({"credential": key, "algorithm": "TOKEN_ALGORITHM_MACAROON"});
    let token = keygate.ask_json("POST /v2alpha1/admin/apiKeys:derive", &wanted).await.text("/token/token");
    assert_eq!(statuses(&keygate, "/", &token, 2).await, [200, 200]);
    assert_eq!(statuses(&keygate, "/", &key, 2).await, [200, 429]);
    assert_eq!(statuses(&keygate, "/", &token, 1).await, [429]);
}

#[tokio::test]
async fn verify_counts_and_tells_as_the_contract_says() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (id, key) = keygate.issue(policy(2)).await;
    let body = json!({"credential": key});
    for left in ["1", "0"] {
        let answer = keygate.post("apiKeys:verify", &body).await;
        assert_eq!(header(&answer, "ratelimit-policy"), r#""default";q=2;w=60"#);
        assert!(header(&answer, "ratelimit").starts_with(&format!("\"default\";r={left}")));
        assert_eq!((header(&answer, "cache-control"), header(&answer, "retry-after")), ("no-store", ""));
        let verdict: Value = answer.json().await.unwrap();
        assert_eq!((&verdict["is_valid"], &verdict["rate_limit_remaining"]), (&json!(true), &json!(left)));
        assert!(verdict["rate_limit_reset_time"].is_string());
    }
    let answer = keygate.post("apiKeys:verify", &body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let wait: u64 = header(&answer, "retry-after").parse().unwrap();
    assert!((30..=60).contains(&wait), "until all of it is back, not {wait}");
    let verdict: Value = answer.json().await.unwrap();
    assert_eq!(
        (&verdict["is_valid"], &verdict["error_code"], &verdict["error_message"]),
        (&json!(false), &json!("VERIFICATION_ERROR_RATE_LIMITED"), &json!("rate limit exceeded"))
    );
    assert_eq!((&verdict["key_id"], &verdict["status"]), (&json!(id), &json!("KEY_STATUS_ACTIVE")));
    assert_eq!(verdict["rate_limit_remaining"], "0");

    let (_, key) = keygate.issue(policy(2)).await;
    let batch = json!({"requests": [{"credential": key}, {"credential": key}, {"credential": key}]});
    let answer = keygate.post("apiKeys:batchVerify", &batch).await;
    assert!(!answer.headers().contains_key("ratelimit"));
    let results: Value = answer.json().await.unwrap();
    let valid: Vec<_> = results["results"].as_array().unwrap().iter().map(|item| &item["is_valid"]).collect();
    assert_eq!(valid, [true, true, false]);
}

#[tokio::test]
async fn limits_can_be_turned_off_and_the_older_fields_on() {
    let upstream = Upstream::start();
    let off = Keygate::serve(&gateway(&upstream), &json!({"rate_limit": {"enabled": false}}));
    let (_, key) = off.issue(policy(1)).await;
    assert_eq!(statuses(&off, "/", &key, 3).await, [200; 3]);
    let answer = off.post("apiKeys:verify", &json!({"credential": key})).await;
    assert_eq!((header(&answer, "ratelimit-policy"), header(&answer, "ratelimit")), (r#""default";q=1;w=60"#, ""));

    let older = Keygate::serve(&gateway(&upstream), &json!({"gateway": {"limit_headers": {"x_ratelimit": true}}}));
    let (_, key) = older.issue(policy(2)).await;
    let answer = older.call("/", &key).await;
    let fields = ["x-ratelimit-limit", "x-ratelimit-remaining"].map(|name| header(&answer, name).to_owned());
    assert_eq!(fields, ["2", "1"]);
    assert!(header(&answer, "x-ratelimit-reset").parse::<u64>().unwrap() <= 30);
}

/// Calls all nodes at once, 64 at a time on each; how many were answered with each status.
async fn burst(nodes: &[Arc<Keygate>], key: &str, calls: usize) -> (usize, usize) {
    let mut tasks = JoinSet::new();
    for node in nodes {
        for _ in 0..64 {
            let (node, key) = (Arc::clone(node), key.to_owned());
            tasks.spawn(async move {
                let mut counts = (0, 0);
                for _ in 0..calls {
                    match node.call("/", &key).await.status().as_u16() {
                        200 => counts.0 += 1,
                        429 => counts.1 += 1,
                        other => panic!("{other}"),
                    }
                }
                counts
            });
        }
    }
    let all = tasks.join_all().await;
    all.iter().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
}

fn two_nodes(mode: &str, servers: &(Postgres, Redis, Upstream), on_down: &str) -> Vec<Arc<Keygate>> {
    let settings = json!({
        "db": {"dsn": servers.0.url("postgres"), "auto_migrate": true},
        "cache": {"redis": {"addrs": [servers.1.address()], "timeout": "2s"}},
        "rate_limit": {"backend": "redis", "mode": mode, "on_backend_down": on_down}
    });
    (0..2).map(|_| Arc::new(Keygate::serve(&gateway(&servers.2), &settings))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_are_a_hundred_on_two_nodes() {
    let servers = (Postgres::start(), Redis::start(), Upstream::start());
    let nodes = two_nodes("exact", &servers, "local");
    let hour = json!({"rate_limit_policy": {"quota": "100", "window": "3600s"}});
    let (_, key) = nodes[0].issue(hour).await;
    let begun = std::time::Instant::now();
    let (passed, refused) = burst(&nodes, &key, 4).await;
    let back = usize::try_from(begun.elapsed().as_secs() / 36).unwrap();
    assert_eq!(passed + refused, 512);
    assert!((100..=100 + back).contains(&passed), "{passed} of 100");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_slices_admit_no_more_than_the_stated_bound() {
    let servers = (Postgres::start(), Redis::start(), Upstream::start());
    let nodes = two_nodes("leased", &servers, "local");
    let hour = json!({"rate_limit_policy": {"quota": "100", "window": "3600s"}});
    let (_, key) = nodes[0].issue(hour).await;
    let (passed, refused) = burst(&nodes, &key, 4).await;
    assert_eq!(passed + refused, 512);
    // The quota, a tenth of it in slices, and what comes back in the minute that a slow machine may take.
    assert!((90..=112).contains(&passed), "{passed} of 100");
}

/// What a front says, without what depends on the moment.
async fn said(answer: Response) -> String {
    let mut text = format!("{}\n", answer.status().as_u16());
    for name in ["ratelimit-policy", "ratelimit", "retry-after", "cache-control", "content-type"] {
        writeln!(text, "{name}: {}", header(&answer, name)).unwrap();
    }
    let mut body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
    for (name, value) in body.as_object_mut().into_iter().flatten() {
        if ["request_id", "key_id", "expire_time", "rate_limit_reset_time"].contains(&name.as_str()) {
            *value = json!("…");
        }
    }
    format!("{text}{body:#}\n")
}

#[tokio::test]
async fn every_front_speaks_of_limits_in_the_same_words() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let hour = json!({"rate_limit_policy": {"quota": "1", "window": "3600s"}});
    let (_, key) = keygate.issue(hour.clone()).await;
    let mut text = String::new();
    for what in ["passed", "refused"] {
        write!(text, "gateway, {what}: {}", said(keygate.call("/", &key).await).await).unwrap();
    }
    let (_, key) = keygate.issue(hour).await;
    for what in ["passed", "refused"] {
        let answer = keygate.post("apiKeys:verify", &json!({"credential": key})).await;
        write!(text, "verify, {what}: {}", said(answer).await).unwrap();
    }
    // A second may pass between the two.
    insta::with_settings!({filters => vec![(r"t=3(600|59\d)", "t=3600"), (r"retry-after: 3(600|59\d)", "retry-after: 3600")]}, {
        insta::assert_snapshot!(text);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_under_load_lets_nobody_pass_without_a_bound_and_fails_nobody() {
    let (postgres, redis, upstream) = (Postgres::start(), Redis::start(), Upstream::start());
    let servers = (postgres, redis, upstream);
    let nodes = two_nodes("exact", &servers, "local");
    let hour = json!({"rate_limit_policy": {"quota": "100", "window": "3600s"}});
    let (_, key) = nodes[0].issue(hour).await;
    // The nodes have to know of each other, to share what is left.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let load = tokio::spawn({
        let (nodes, key) = (nodes.clone(), key.clone());
        async move { burst(&nodes, &key, 8).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let (_postgres, redis, _upstream) = servers;
    let stopped = redis.stop();
    let (passed, refused) = load.await.unwrap();
    assert_eq!(passed + refused, 1024, "every answer is 200 or 429");
    // The quota, and at the most each node's share of it once more.
    assert!(passed <= 210, "{passed} of 100 passed");
    let redis = stopped.start_again();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    // Redis begins anew, with whole buckets: exact again is the quota once, over both nodes.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let (_, fresh) = nodes[0].issue(json!({"rate_limit_policy": {"quota": "50", "window": "3600s"}})).await;
    let (passed, _) = burst(&nodes, &fresh, 1).await;
    assert!((50..=51).contains(&passed), "{passed} of 50");
    assert!(std::time::Instant::now() < deadline);
    drop(redis);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_limits_go_on_as_configured_and_are_exact_again_when_it_is_back() {
    for (on_down, expected) in [("local", StatusCode::TOO_MANY_REQUESTS), ("open", StatusCode::OK)] {
        let servers = (Postgres::start(), Redis::start(), Upstream::start());
        let nodes = two_nodes("exact", &servers, on_down);
        let (_, key) = nodes[0].issue(policy(20)).await;
        assert_eq!(burst(&nodes[..1], &key, 1).await.0.min(20), 20);
        servers.1.signal("STOP");
        // The first call finds out that Redis hangs; then nobody waits for it.
        let mut statuses = Vec::new();
        for _ in 0..10 {
            statuses.push(nodes[0].call("/", &key).await.status());
        }
        assert!(statuses.iter().all(|status| *status == expected), "{on_down}: {statuses:?}");
        servers.1.signal("CONT");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while nodes[0].call("/", &key).await.status() != StatusCode::TOO_MANY_REQUESTS {
            assert!(std::time::Instant::now() < deadline, "{on_down}: not exact again");
        }
    }
    let servers = (Postgres::start(), Redis::start(), Upstream::start());
    let nodes = two_nodes("exact", &servers, "closed");
    let (_, key) = nodes[0].issue(policy(20)).await;
    assert_eq!(nodes[0].call("/", &key).await.status(), StatusCode::OK);
    servers.1.signal("STOP");
    let refused = nodes[0].call("/", &key).await;
    assert_eq!((refused.status(), header(&refused, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    servers.1.signal("CONT");
}
