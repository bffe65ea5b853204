//! The keys with the most requests, and what is left of the limit of a key.

use serde_json::{Value, json};

use crate::support::keygate::{Keygate, merge};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const BOOTSTRAP: &str = "a-bootstrap-key-for-tests-0123456789abcdef";

fn serve(upstream: &Upstream, settings: &Value) -> Keygate {
    let gateway = json!({
        "routes": [{"name": "api", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    });
    let mut all =
        json!({"serve": {"http": {"auth": {"bootstrap_key": BOOTSTRAP}}}, "usage": {"flush_interval": "50ms"}});
    merge(&mut all, settings);
    let mut keygate = Keygate::serve(&gateway, &all);
    keygate.admin_key = BOOTSTRAP.into();
    keygate
}

#[tokio::test]
async fn keys_with_the_most_requests_are_listed_to_who_may_see_them() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream, &json!({}));
    let (often, often_key) = keygate.issue(json!({"name": "often", "actor_id": "team-a/x"})).await;
    let (refused, refused_key) = keygate.issue(json!({"name": "refused", "actor_id": "team-b/x"})).await;
    for _ in 0..3 {
        keygate.call("/", &often_key).await;
    }
    keygate.revoke(&refused).await;
    keygate.call("/", &refused_key).await;
    let list = async |key: &str, expected: &Value| {
        wait_for(async || match keygate.send_as(key, "GET /keygate/v1/topKeys", "").await.body {
            body if body == *expected => Ok(()),
            body => Err(format!("{body} instead of {expected}")),
        })
        .await;
    };
    let first = json!({"key_id": often, "name": "often", "actor_id": "team-a/x", "requests": 3});
    let second = json!({"key_id": refused, "name": "refused", "actor_id": "team-b/x", "requests": 1});
    list(BOOTSTRAP, &json!({"keys": [first, second], "refused_keys": [second]})).await;
    let (_, bound) = keygate.admin_key(json!({"roles": ["read"], "actors": ["team-a/"]})).await;
    list(&bound, &json!({"keys": [first], "refused_keys": []})).await;
}

#[tokio::test]
async fn limit_of_a_key_is_read_without_a_charge() {
    let upstream = Upstream::start();
    let limit = json!({"quota": "10", "unit": "requests", "window": "3600s"});
    let keygate = serve(&upstream, &json!({"rate_limit": {"enabled": true}}));
    let (id, key) = keygate.issue(json!({"rate_limit_policy": limit})).await;
    for _ in 0..2 {
        assert_eq!(keygate.call("/", &key).await.status(), 200);
    }
    let read = async |id: &str| keygate.send(&format!("GET /keygate/v1/keys/{id}/rateLimit"), "").await;
    for _ in 0..3 {
        let state = read(&id).await.body["rate_limit"].clone();
        assert_eq!(
            (&state["quota"], &state["window_seconds"], &state["remaining"]),
            (&json!(10), &json!(3600), &json!(8))
        );
        let reset = state["reset_seconds"].as_f64().unwrap();
        assert!((600.0..=720.0).contains(&reset), "{state}");
    }
    let (without, _) = keygate.issue(json!({})).await;
    assert_eq!(read(&without).await.body, json!({"rate_limit": null}));
    assert_eq!(read("11111111-2222-4333-8444-555555555555").await.status, 404);
    let (_, bound) = keygate.admin_key(json!({"roles": ["read"], "actors": ["other/"]})).await;
    let operation = format!("GET /keygate/v1/keys/{id}/rateLimit");
    assert_eq!(keygate.send_as(&bound, &operation, "").await.status, 404);
}
