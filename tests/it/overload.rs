//! What is refused when there are too many requests, and what goes on meanwhile.

mod clients;
mod goodput;
mod listeners;
mod slots;
mod wait_target;

use serde_json::{Value, json};

use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for_count;

/// Waits until a number of requests is in flight: a request is counted until shortly after its response.
async fn in_flight(keygate: &Keygate, number: u64) {
    wait_for_count(keygate, "keygate_gateway_requests_in_flight", number).await;
}

#[tokio::test]
async fn known_keys_are_spared_until_twice_the_limit() {
    let upstream = Upstream::start();
    let gateway = json!({
        "overload": {"max_in_flight": 1},
        "routes": [
            {"name": "api", "upstream": "api"},
            {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"}
        ],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let keygate = Keygate::serve(&gateway, &json!({}));
    let (_, known) = keygate.issue(json!({})).await;
    let fields = |key: &str| format!("Authorization: Bearer {key}\r\n");
    let get = |path: &str, fields: &str| KeptConnection::open(&keygate.gateway).get(path, fields);
    assert_eq!(get("/a", &fields(&known)).status, 200);
    let hold = || {
        let mut first = KeptConnection::open(&keygate.gateway);
        first.send("/held", &fields(&known));
        first
    };
    let mut first = hold();
    upstream.holds(1).await;
    in_flight(&keygate, 1).await;
    let (_, unknown) = keygate.issue(json!({})).await;
    let refused = |path: &str, fields: &str| {
        let answer = get(path, fields);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.head.contains("\r\nretry-after: 1\r\n") && !answer.is_last(), "{answer:?}");
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["code"], "overloaded");
    };
    refused("/a", &fields(&unknown));
    in_flight(&keygate, 1).await;
    refused("/open", "");
    in_flight(&keygate, 1).await;
    assert_eq!(get("/a", &fields(&known)).status, 200);
    in_flight(&keygate, 1).await;
    let mut second = hold();
    upstream.holds(2).await;
    refused("/a", &fields(&known));
    // Other listeners have no such limit.
    for url in [&keygate.admin, &keygate.metrics] {
        assert_eq!(KeptConnection::open(url).get("/health/ready", "").status, 200);
    }
    assert_eq!(keygate.count("keygate_gateway_shed_requests_total{reason=\"in_flight\"}").await, Some(3));
    upstream.release();
    for first in [&mut first, &mut second] {
        assert_eq!(first.answer().status, 200);
    }
    in_flight(&keygate, 0).await;
    assert_eq!(get("/a", &fields(&unknown)).status, 200);
}
