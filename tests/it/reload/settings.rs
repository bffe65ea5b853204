//! What a reload changes, and what it keeps.

use keygate_test_servers::{eventually, free_port};
use serde_json::json;

use super::{gateway, logged, reload};
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::{HMAC_SECRET, Keygate};
use crate::support::upstream::{Upstream, header};
use crate::support::wait::wait_for;

#[tokio::test]
async fn routes_and_upstreams_change_for_a_connection_that_is_open() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    let mut connection = KeptConnection::open(&keygate.gateway);
    assert_eq!(connection.get("/a", "").status, 200);
    assert_eq!(connection.get("/b", "").status, 404);
    let routes = json!([
        {"name": "a", "path_prefix": "/a", "upstream": "one", "auth": "none", "response_headers": {"set": {"x-new": "yes"}}},
        {"name": "b", "path_prefix": "/b", "upstream": "two", "auth": "none"}
    ]);
    reload(&keygate, &json!({"gateway": {"routes": routes, "upstreams": {"two": {"endpoints": [two.url]}}}})).await;
    assert!(connection.get("/a", "").head.contains("x-new: yes\r\n"));
    assert_eq!(connection.get("/b", "").status, 200);
    assert_eq!((one.heads().len(), two.heads().len()), (2, 1));
    let endpoint = two.url.trim_start_matches("http://");
    let healthy = format!(r#"keygate_upstream_healthy{{endpoint="{endpoint}",upstream="two"}}"#);
    assert_eq!(keygate.count(&healthy).await, Some(1));
}

#[tokio::test]
async fn upstream_that_did_not_change_keeps_its_connections() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    let mut connection = KeptConnection::open(&keygate.gateway);
    connection.get("/a", "");
    let endpoint = one.url.trim_start_matches("http://");
    let opened = format!(r#"keygate_upstream_connect_duration_seconds_count{{endpoint="{endpoint}",upstream="one"}}"#);
    assert_eq!(keygate.count(&opened).await, Some(1));
    reload(&keygate, &json!({"gateway": {"allow_underscores": true}})).await;
    connection.get("/a", "");
    assert_eq!(keygate.count(&opened).await, Some(1));
    // Other settings make it another upstream.
    reload(&keygate, &json!({"gateway": {"upstreams": {"one": {"pool": {"max_requests": 1}}}}})).await;
    assert_eq!(connection.get("/a", "").status, 200);
}

#[tokio::test]
async fn limit_keeps_its_counts() {
    let one = Upstream::start();
    let mut settings = gateway(&one);
    settings["limits"] = json!({"few": {"quota": 5, "window": "1h", "count_by": "address"}});
    settings["routes"][0]["limits"] = json!(["few"]);
    let keygate = Keygate::serve(&settings, &json!({}));
    let mut connection = KeptConnection::open(&keygate.gateway);
    assert!(connection.get("/a", "").head.contains("ratelimit: \"few\";r=4;"));
    reload(&keygate, &json!({"gateway": {"limits": {"other": {"quota": 1, "window": "1s"}}}})).await;
    assert!(connection.get("/a", "").head.contains("ratelimit: \"few\";r=3;"));
    reload(&keygate, &json!({"gateway": {"limits": {"few": {"quota": 10}}}})).await;
    let answer = connection.get("/a", "");
    assert!(answer.head.contains("ratelimit-policy: \"few\";q=10;w=3600"), "{answer:?}");
}

#[tokio::test]
async fn retired_secret_is_refused_with_the_next_request() {
    let one = Upstream::start();
    let mut settings = gateway(&one);
    settings["routes"][0]["auth"] = json!("required");
    let keygate = Keygate::serve(&settings, &json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    let bearer = format!("Authorization: Bearer {key}\r\n");
    let mut connection = KeptConnection::open(&keygate.gateway);
    assert_eq!(connection.get("/a", &bearer).status, 200);
    let new = "another-hmac-secret-for-tests-0123456789";
    reload(&keygate, &json!({"secrets": {"hmac": {"current": new, "retired": [HMAC_SECRET]}}})).await;
    assert_eq!(connection.get("/a", &bearer).status, 200);
    let (_, newer) = keygate.issue(json!({})).await;
    reload(&keygate, &json!({"secrets": {"hmac": {"retired": []}}})).await;
    assert_eq!(connection.get("/a", &bearer).status, 401);
    assert_eq!(connection.get("/a", &format!("Authorization: Bearer {newer}\r\n")).status, 200);
}

#[tokio::test]
async fn prefix_of_new_keys_changes() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    assert!(keygate.issue(json!({})).await.1.starts_with("ory_ak"));
    let prefix = json!({"current": "acme", "retired": ["ory_ak"]});
    reload(&keygate, &json!({"credentials": {"api_keys": {"prefix": prefix}}})).await;
    assert!(keygate.issue(json!({})).await.1.starts_with("acme"));
}

#[tokio::test]
async fn admin_api_demands_a_key_after_a_reload() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    assert_eq!(keygate.send("GET /v2alpha1/admin/issuedApiKeys", "").await.status, 200);
    let bootstrap = "a-bootstrap-key-of-at-least-32-characters";
    reload(&keygate, &json!({"serve": {"http": {"auth": {"mode": "keys", "bootstrap_key": bootstrap}}}})).await;
    assert_eq!(keygate.send("GET /v2alpha1/admin/issuedApiKeys", "").await.status, 401);
    assert_eq!(keygate.send_as(bootstrap, "GET /v2alpha1/admin/issuedApiKeys", "").await.status, 200);
}

#[tokio::test]
async fn warnings_about_admin_keys_are_logged_once() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    let count = |text: &str| keygate.log().matches(text).count();
    let (open, bootstrap) = ("the admin API does not authenticate callers", "a bootstrap key is set");
    logged(&keygate, open, 1).await;
    reload(&keygate, &json!({"gateway": {"allow_underscores": true}})).await;
    logged(&keygate, "the configuration was reloaded", 1).await;
    assert_eq!((count(open), count(bootstrap)), (1, 0));
    let key = "a-bootstrap-key-of-at-least-32-characters";
    reload(&keygate, &json!({"serve": {"http": {"auth": {"mode": "keys", "bootstrap_key": key}}}})).await;
    logged(&keygate, bootstrap, 1).await;
    reload(&keygate, &json!({"gateway": {"allow_underscores": false}})).await;
    logged(&keygate, "the configuration was reloaded", 3).await;
    assert_eq!((count(open), count(bootstrap)), (1, 1));
}

#[tokio::test]
async fn throttle_of_rejected_credentials_changes_for_a_connection_that_is_open() {
    let one = Upstream::start();
    let mut settings = gateway(&one);
    settings["routes"][0]["auth"] = json!("required");
    let keygate = Keygate::serve(&settings, &json!({}));
    let mut connection = KeptConnection::open(&keygate.gateway);
    let mut call = || connection.get("/a", "X-API-Key: wrong\r\n").status;
    assert!((0..10).all(|_| call() == 401), "no address is throttled by default");
    let failures =
        |mode: &str, burst: u32| json!({"gateway": {"auth_failures": {"mode": mode, "burst": burst, "per_second": 1}}});
    reload(&keygate, &failures("reject", 5)).await;
    assert_eq!(keygate.count("keygate_config_restart_settings").await, Some(0));
    eventually("the address is throttled", || call() == 429);
    reload(&keygate, &failures("off", 5)).await;
    assert!((0..10).all(|_| call() == 401));
}

#[tokio::test]
async fn level_and_format_of_the_log_change() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({"log": {"level": "error"}}));
    reload(&keygate, &json!({"log": {"level": "info", "format": "text"}, "gateway": {"allow_underscores": true}}))
        .await;
    logged(&keygate, " INFO keygate::app::config_watch: the configuration was reloaded; 3 settings have changed", 1)
        .await;
}

#[tokio::test]
async fn new_connections_have_the_new_settings_of_their_listener() {
    let one = Upstream::start();
    let mut settings = gateway(&one);
    let address = format!("127.0.0.1:{}", free_port());
    settings["listeners"] = json!([{"address": address}]);
    let keygate = Keygate::serve(&settings, &json!({}));
    let forwarded = "X-Forwarded-For: 192.0.2.7\r\n";
    let mut before = KeptConnection::open(&address);
    before.get("/a", forwarded);
    reload(&keygate, &json!({"gateway": {"listeners": [{"address": address, "trusted_proxies": ["127.0.0.1/32"]}]}}))
        .await;
    before.get("/a", forwarded);
    KeptConnection::open(&address).get("/a", forwarded);
    let seen: Vec<_> = one.heads().iter().map(|head| header(head, "x-forwarded-for").unwrap().to_owned()).collect();
    assert_eq!(seen, ["127.0.0.1", "127.0.0.1", "192.0.2.7, 127.0.0.1"]);
}

#[tokio::test]
async fn settings_for_a_restart_are_named_and_the_others_are_taken() {
    let one = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&one), &json!({}));
    let changed =
        json!({"gateway": {"threads": 7, "allow_underscores": true}, "serve": {"metrics": {"port": free_port()}}});
    reload(&keygate, &changed).await;
    let mut connection = KeptConnection::open(&keygate.gateway);
    connection.get("/a", "x_under: 1\r\n");
    assert_eq!(header(&one.heads()[0], "x_under"), Some("1"));
    assert_eq!(keygate.count("keygate_config_restart_settings").await, Some(2));
    let log = keygate.whole_log();
    let line = log.lines().find(|line| line.contains("take effect at a restart only")).unwrap();
    assert!(line.contains("gateway.threads serve.metrics.port"), "{line}");
}

#[tokio::test]
async fn external_authorization_has_the_new_routes_and_peers() {
    let address = format!("127.0.0.1:{}", free_port());
    let routes = |scopes: serde_json::Value| json!([{"name": "a", "path_prefix": "/a", "scopes": scopes}]);
    let settings = json!({"external_auth": {"address": address}});
    let keygate = Keygate::serve(&json!({"enabled": false, "routes": routes(json!([]))}), &settings);
    let (_, key) = keygate.issue(json!({"scopes": ["read"]})).await;
    let fields = format!("X-Original-Method: GET\r\nX-Original-URI: /a\r\nAuthorization: Bearer {key}\r\n");
    let check = || KeptConnection::open(&address).get("/nginx", &fields).status;
    assert_eq!(check(), 200);
    reload(&keygate, &json!({"gateway": {"routes": routes(json!(["write"]))}})).await;
    assert_eq!(check(), 403);
    reload(&keygate, &json!({"gateway": {"routes": routes(json!(["read"]))}})).await;
    assert_eq!(check(), 200);
    reload(&keygate, &json!({"external_auth": {"trusted_peers": ["192.0.2.0/24"]}})).await;
    assert_eq!(check(), 403);
}

#[tokio::test]
async fn ready_report_names_the_new_upstreams() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    reload(&keygate, &json!({"gateway": {"upstreams": {"two": {"endpoints": [two.url]}}}})).await;
    wait_for(async || {
        let response = keygate.http.get(format!("{}/health/ready", keygate.metrics)).send().await.unwrap();
        let text = response.text().await.unwrap();
        if text.contains("\"two\"") { Ok(()) } else { Err(text) }
    })
    .await;
}
