//! The end of the process: requests in flight, idle connections, the grace period.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use keygate_test_servers::{WAIT_TIMEOUT, eventually};
use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{clients, raw};
use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::upstream::Upstream;

/// A gateway that forwards everything without a credential, and requests through it that the upstream holds, one for each client.
async fn with_held_requests(
    upstream: &Upstream,
    shutdown_grace: &str,
) -> (Keygate, Listeners, Vec<JoinHandle<reqwest::Result<reqwest::Response>>>) {
    let gateway = json!({
        "shutdown_grace": shutdown_grace,
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let listeners = Listeners::new();
    // Nothing ends by its own time.
    let times = json!({"limits": {"head_timeout": "10m", "idle_timeout": "10m"}, "tls": {"handshake_timeout": "10m"}});
    let keygate = listeners.serve(&gateway, &times);
    let clients = clients(&listeners).into_iter();
    let held: Vec<_> = clients.map(|(http, url)| tokio::spawn(http.get(format!("{url}/held")).send())).collect();
    upstream.holds(held.len()).await;
    (keygate, listeners, held)
}

#[tokio::test]
async fn shutdown_finishes_requests_and_closes_idle_connections() {
    let upstream = Upstream::start();
    let (mut keygate, listeners, held) = with_held_requests(&upstream, "60s").await;
    let mut idle = Vec::new();
    for kind in ListenerKind::each() {
        let mut stream = listeners.connect(kind, Protocol::Http1);
        assert_eq!(raw(&mut stream, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").0, 200);
        let silent = [listeners.connect(kind, Protocol::Http1), listeners.connect(kind, Protocol::Http2)];
        idle.extend(silent.into_iter().chain([
            stream,
            listeners.connect_without_tls(kind),
            listeners.connect_bare(kind),
        ]));
    }
    let clients = clients(&listeners);
    for (http, url) in &clients {
        assert_eq!(http.get(url).send().await.unwrap().status(), StatusCode::OK);
    }
    keygate.process.signal("TERM");
    let address = keygate.gateway.trim_start_matches("http://").to_owned();
    eventually("the gateway accepts no more connections", || TcpStream::connect(&address).is_err());
    for stream in &mut idle {
        // What ends HTTP/2 and TLS may come before the end of the connection.
        let end = std::io::copy(stream, &mut std::io::sink());
        assert!(!end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "an idle connection stays open");
    }
    upstream.release();
    for held in held {
        assert_eq!(held.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    // The idle connections do not delay the end until the grace is over.
    assert!(keygate.process.wait(Duration::from_secs(30)).success());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_requests_longer_than_the_grace() {
    let upstream = Upstream::start();
    let (mut keygate, _listeners, held) = with_held_requests(&upstream, "200ms").await;
    let start = Instant::now();
    keygate.process.signal("TERM");
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    // The default grace is 30 seconds, and the upstream never answers.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    for held in held {
        assert!(held.await.unwrap().is_err());
    }
}
