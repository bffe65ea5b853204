//! The listeners of the admin API, and of health and metrics.

use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{connect, connect_from, exchange, is_closed, refused, wait_closed, wait_metric};
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

/// The time limit of a request head.
pub(super) const HEAD: Duration = Duration::from_secs(5);

#[tokio::test]
async fn slow_and_silent_heads_are_closed_in_time_and_idle_connections_stay() {
    let keygate = Keygate::serve_admin(&json!({}));
    for url in [&keygate.admin, &keygate.metrics] {
        let mut idle = connect(url);
        assert!(exchange(&mut idle, b"GET /health/alive HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 200"));
        let started = Instant::now();
        let mut dripped = connect(url);
        let mut silent = connect(url);
        wait_for(async || {
            // It fails once the connection is closed.
            let _ = dripped.write_all(b"x");
            if is_closed(&mut dripped) { Ok(()) } else { Err("the head goes on".to_owned()) }
        })
        .await;
        wait_closed(&mut silent).await;
        assert!(started.elapsed() >= HEAD, "{:?}", started.elapsed());
        assert!(exchange(&mut idle, b"GET /health/alive HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 200"));
        // The next head on a connection has the limit of a head, not that of an idle connection.
        idle.write_all(b"GET /health").unwrap();
        wait_closed(&mut idle).await;
    }
}

#[tokio::test]
async fn large_head_is_refused_with_431() {
    let keygate = Keygate::serve_admin(&json!({}));
    for url in [&keygate.admin, &keygate.metrics] {
        let mut stream = connect(url);
        let head = format!("GET /health/alive HTTP/1.1\r\nHost: h\r\nX-Large: {}\r\n\r\n", "x".repeat(70_000));
        let response = exchange(&mut stream, head.as_bytes());
        assert!(response.starts_with("HTTP/1.1 431"), "{response}");
    }
}

#[tokio::test]
async fn one_client_does_not_take_all_connections_of_the_metrics_listener() {
    let keygate = Keygate::serve_admin(&json!({}));
    let attacker = IpAddr::from([127, 0, 0, 2]);
    let mut connections: Vec<TcpStream> = Vec::new();
    for _ in 0..150 {
        connections.push(connect_from(attacker, &keygate.metrics).await);
    }
    wait_metric(&keygate, &refused("metrics", "max_per_client"), |refused| refused >= 1).await;
    assert_eq!(reqwest::get(format!("{}/health/alive", keygate.metrics)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn idle_connections_of_the_admin_api_make_room() {
    let keygate = Keygate::serve_admin(&json!({}));
    let mut idle = Vec::new();
    for _ in 0..520 {
        let mut stream = connect(&keygate.admin);
        assert!(exchange(&mut stream, b"GET /health/alive HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 200"));
        idle.push(stream);
    }
    assert!(is_closed(&mut idle[0]));
    wait_metric(&keygate, r#"keygate_connections_evicted_total{listener="admin"}"#, |evicted| evicted >= 8).await;
}
