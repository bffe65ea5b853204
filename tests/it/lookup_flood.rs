//! Floods of unknown credentials cause few statements, and valid keys pass meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use keygate_test_servers::Postgres;
use serde_json::{Value, json};

use crate::support::keygate::{HMAC_SECRET, Keygate};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

fn gateway(upstream: &Upstream) -> Value {
    json!({
        "routes": [{"name": "api", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
        "unknown_keys": {"burst": 20, "per_second": 5},
    })
}

/// The value of a counter; 0 if it does not exist.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are small whole numbers")]
async fn metric(keygate: &Keygate, name: &str) -> usize {
    keygate.metric(name).await.unwrap_or_default() as usize
}

#[tokio::test]
async fn flood_of_unknown_credentials_is_batched_and_valid_keys_pass() {
    const FLOOD: usize = 3_000;
    const CONCURRENCY: usize = 100;
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let (_, issued) = keygate.issue(json!({})).await;
    for number in 0..10 {
        keygate.import(json!({"raw_key": format!("sk_live_{number}")})).await;
    }
    // Empties the caches.
    keygate.restart();
    let start = Instant::now();
    let (keygate, next) = (Arc::new(keygate), Arc::new(AtomicUsize::new(0)));
    let valid_keys_passed = Arc::new(AtomicBool::new(false));
    let flood: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (keygate, next, valid_keys_passed) =
                (Arc::clone(&keygate), Arc::clone(&next), Arc::clone(&valid_keys_passed));
            tokio::spawn(async move {
                let mut sent = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= FLOOD && valid_keys_passed.load(Ordering::SeqCst) {
                        return sent;
                    }
                    assert_eq!(keygate.call("/", &format!("unknown-{number}")).await.status(), 401);
                    sent += 1;
                }
            })
        })
        .collect();
    wait_for(async || match next.load(Ordering::SeqCst) {
        sent if sent < FLOOD / 4 => Err(format!("{sent} unknown credentials were sent")),
        _ => Ok(()),
    })
    .await;
    for number in 0..10 {
        assert_eq!(keygate.call("/", &format!("sk_live_{number}")).await.status(), 200);
        assert_eq!(keygate.call("/", &issued).await.status(), 200);
    }
    valid_keys_passed.store(true, Ordering::SeqCst);
    let mut sent = 0;
    for caller in flood {
        sent += caller.await.unwrap();
    }
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    let single = metric(&keygate, r#"keygate_guarded_lookups_total{way="alone"}"#).await;
    let batched = metric(&keygate, r#"keygate_guarded_lookups_total{way="together"}"#).await;
    let statements = metric(&keygate, "keygate_lookup_batches_total").await;
    assert!((20..=20 + 10 + 5 * seconds).contains(&single), "{single} single lookups in {seconds} s");
    assert_eq!(single + batched, sent + 10);
    assert!((1..=20 * seconds).contains(&statements), "{statements} statements in {seconds} s");
    assert_eq!(metric(&keygate, r#"keygate_guarded_lookups_total{way="refused"}"#).await, 0);
}

#[tokio::test]
async fn forged_keys_are_rejected_without_the_database() {
    let (server, upstream) = (Postgres::start(), Upstream::start());
    let settings = json!({
        "db": {"dsn": format!("{}?acquire_timeout=5s", server.url("postgres")), "auto_migrate": true},
        "cache": {"type": "noop"},
    });
    let keygate = Keygate::serve(&gateway(&upstream), &settings);
    let (_, valid) = keygate.issue(json!({})).await;
    let other_node =
        Keygate::serve(&gateway(&upstream), &json!({"secrets": {"hmac": {"current": HMAC_SECRET.to_uppercase()}}}));
    let _stopped = server.stop();
    for _ in 0..300 {
        let (_, forged) = other_node.issue(json!({})).await;
        assert_eq!(keygate.call("/", &forged).await.status(), 401, "its checksum is wrong");
    }
    let (body, checksum) = valid.rsplit_once('_').unwrap();
    for other in ["1", "z", "Kq"] {
        assert_eq!(keygate.call("/", &format!("{body}_{checksum}{other}")).await.status(), 401);
    }
    assert_eq!(keygate.call("/", &valid).await.status(), 503, "a valid checksum needs a lookup");
}
