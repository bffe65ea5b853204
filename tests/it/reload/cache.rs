//! The times of the caches change, also for keys that are cached.

use std::time::Duration;

use keygate_test_servers::{Postgres, Redis};
use serde_json::{Value, json};

use super::reload;
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::Keygate;
use crate::support::proxy::{Mode, Proxy};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

/// `keygate serve` with an upstream whose requests need a key.
fn serve(upstream: &Upstream, settings: &Value) -> Keygate {
    let gateway = json!({
        "routes": [{"name": "api", "path_prefix": "/", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    });
    Keygate::serve(&gateway, settings)
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

/// Where the lookup of a request was answered.
async fn level(keygate: &Keygate, request: impl AsyncFnOnce()) -> &'static str {
    let before = counts(keygate).await;
    request().await;
    let after = counts(keygate).await;
    let mut levels =
        LEVELS.into_iter().zip(before.into_iter().zip(after)).filter(|(_, (before, after))| before < after);
    levels.next().expect("the request looks a key up").0
}

const LEVELS: [&str; 4] = ["memory", "shared", "stale", "database"];

async fn counts(keygate: &Keygate) -> Vec<u64> {
    let mut counts = Vec::new();
    for level in LEVELS {
        counts.push(keygate.count(&format!(r#"keygate_lookups_total{{level="{level}"}}"#)).await.unwrap_or(0));
    }
    counts
}

async fn set_cache(keygate: &Keygate, cache: Value) {
    reload(keygate, &json!({"cache": cache})).await;
    assert_eq!(keygate.count("keygate_config_restart_settings").await, Some(0));
}

#[tokio::test]
async fn ttl_changes_for_keys_that_connections_and_caches_have() {
    let upstream = Upstream::start();
    let keygate = serve(&upstream, &json!({}));
    let key = bearer(&keygate.issue(json!({})).await.1);
    let mut connection = KeptConnection::open(&keygate.gateway);
    let mut call = async |field: &str, status: u16| {
        level(&keygate, async || assert_eq!(connection.get("/", field).status, status)).await
    };
    let unknown = "X-API-Key: unknown\r\n";
    assert_eq!(call(&key, 200).await, "database");
    assert_eq!(call(&key, 200).await, "memory");
    assert_eq!(call(unknown, 401).await, "database");
    assert_eq!(call(unknown, 401).await, "memory");
    for short in ["1ns", "0s"] {
        set_cache(&keygate, json!({"ttl": short})).await;
        for _ in 0..2 {
            assert_eq!(call(&key, 200).await, "database", "{short}");
            assert_eq!(call(unknown, 401).await, "database", "{short}");
        }
    }
    set_cache(&keygate, json!({"ttl": "1h"})).await;
    call(&key, 200).await;
    assert_eq!(call(&key, 200).await, "memory");
    // Another connection, with what its thread keeps.
    drop(connection);
    let mut other = KeptConnection::open(&keygate.gateway);
    let mut call = async || level(&keygate, async || assert_eq!(other.get("/", &key).status, 200)).await;
    assert_eq!(call().await, "memory");
    set_cache(&keygate, json!({"ttl": "1ns"})).await;
    assert_eq!(call().await, "database");
}

#[tokio::test]
async fn what_happens_while_the_database_is_down_changes_during_the_outage() {
    let (postgres, upstream) = (Postgres::start(), Upstream::start());
    let dsn = format!("{}?acquire_timeout=1s&connect_timeout=1s", postgres.url("postgres"));
    let settings = json!({"db": {"dsn": dsn, "auto_migrate": true}, "cache": {"max_staleness": "2s", "ttl": "1s"}});
    let keygate = serve(&upstream, &settings);
    let key = bearer(&keygate.issue(json!({})).await.1);
    let mut connection = KeptConnection::open(&keygate.gateway);
    let mut status = || connection.get("/", &key).status;
    assert_eq!(status(), 200);
    let _stopped = postgres.stop();
    let age = Duration::from_secs(3);
    wait_for(async || match keygate.metric("keygate_feed_age_seconds").await {
        Some(seconds) if seconds > age.as_secs_f64() => Ok(()),
        seconds => Err(format!("the changes were read {seconds:?} seconds ago")),
    })
    .await;
    assert_eq!(status(), 200, "the default is to serve stale records for 5 minutes");
    for (cache, expected) in [
        (json!({"on_database_down": "deny"}), 503),
        (json!({"on_database_down": "serve_stale"}), 200),
        (json!({"stale_limit": "2s"}), 503),
        (json!({"stale_limit": "1h"}), 200),
        // Longer than the outage so far: the record is up to date for that time, and fresh for the time to live.
        (json!({"on_database_down": "deny", "max_staleness": "1h", "ttl": "1h"}), 200),
        (json!({"ttl": "1s"}), 503),
    ] {
        set_cache(&keygate, cache.clone()).await;
        assert_eq!(status(), expected, "{cache}");
    }
}

#[tokio::test]
async fn ttl_of_a_node_applies_to_what_another_node_has_put_into_the_shared_cache() {
    let (postgres, redis, upstream) = (Postgres::start(), Redis::start(), Upstream::start());
    let proxy = Proxy::to(redis.port());
    let settings = |address: String| {
        json!({
            "db": {"dsn": postgres.url("postgres"), "auto_migrate": true},
            "cache": {"type": "redis", "ttl": "1h", "redis": {"addrs": [address], "timeout": "30s"}},
        })
    };
    let there = serve(&upstream, &settings(redis.address()));
    let here = serve(&upstream, &settings(format!("127.0.0.1:{}", proxy.port())));
    // A key that the other node has cached, and where this one finds it.
    let call = async || {
        let (_, key) = there.issue(json!({})).await;
        assert_eq!(there.call("/", &key).await.status(), 200);
        level(&here, async || assert_eq!(here.call("/", &key).await.status(), 200)).await
    };
    assert_eq!(call().await, "shared");
    for short in ["1ns", "0s"] {
        set_cache(&here, json!({"ttl": short})).await;
        assert_eq!(call().await, "database", "{short}");
    }
    set_cache(&here, json!({"ttl": "2h"})).await;
    assert_eq!(call().await, "shared");

    proxy.set(Mode::Delay(Duration::from_millis(500)));
    assert_eq!(call().await, "shared", "Redis is slow, and the timeout is long");
    set_cache(&here, json!({"redis": {"timeout": "50ms"}})).await;
    assert_eq!(call().await, "database");
}
