//! A queue that does not drain refuses requests before `wait_timeout`.

use serde_json::json;

use super::clients::{Clients, PLAIN, shed, shed_because};
use super::slots::Slots;
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

/// How many clients there are with a key, and how many without. The upstream has one slot.
const EACH: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn queue_that_does_not_drain_refuses_known_keys_last() {
    let upstream = Slots::start(1).await;
    // The interval is 500 ms, and 15 requests of 20 ms wait.
    let pool = json!({"max_requests": 1, "wait_timeout": "30s", "wait_target": "50ms"});
    let keygate = Keygate::serve(
        &json!({
            "routes": [{"name": "all", "upstream": "api", "auth": "optional"}],
            "upstreams": {"api": {"endpoints": [upstream.url], "pool": pool}},
        }),
        &json!({}),
    );
    let (_, key) = keygate.issue(json!({})).await;
    // From now on the key is in the cache.
    assert_eq!(keygate.call("/", &key).await.status(), 200);
    let with_key = format!("GET / HTTP/1.1\r\nHost: h\r\nX-API-Key: {key}\r\n\r\n");
    let known = Clients::start(&keygate, vec![with_key; EACH]);
    let unknown = Clients::start(&keygate, [PLAIN; EACH]);
    wait_for(async || {
        let (known, unknown) = (known.received(), unknown.received());
        let is_spared = unknown.refused >= 50 && known.served >= 50 && known.served > unknown.served * 2;
        if is_spared { Ok(()) } else { Err(format!("with a key {known:?}, without one {unknown:?}")) }
    })
    .await;
    let refused = known.stop().await.refused + unknown.stop().await.refused;
    assert_eq!(shed_because(&keygate, "wait_target").await, refused as u64);
    assert_eq!(shed(&keygate).await, refused as u64, "no other limit was reached");
}
