//! Connections that stop before their first request: without a PROXY header, within a handshake, after it.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use super::SECOND;
use crate::support::client_stream::ClientStream;
use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for_count;

/// Limits are late by a tick of the clock, and clients measure from another beginning.
const NOISE: Duration = Duration::from_millis(100);
/// The default of the limits.
const DEFAULT: Duration = Duration::from_secs(10);

/// Sends bytes, and nothing more; the gateway closes the connection after a limit. Returns what it has sent.
fn stalls(mut stream: ClientStream, bytes: &[u8], limit: Duration) -> Vec<u8> {
    let started = Instant::now();
    stream.write_all(bytes).unwrap();
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    assert!(!end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the connection stays open");
    let elapsed = started.elapsed();
    assert!(elapsed + NOISE >= limit && elapsed < DEFAULT, "{elapsed:?} after {} bytes", bytes.len());
    received
}

#[tokio::test]
async fn connections_that_stop_before_a_request_are_closed_in_time() {
    let upstream = Upstream::start();
    let listeners = Listeners::new();
    let gateway = json!({
        "routes": [{"name": "open", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}},
    });
    let times = json!({"limits": {"head_timeout": "1s"}, "tls": {"handshake_timeout": "1s"}});
    let keygate = listeners.serve(&gateway, &times);
    let hello = listeners.client_hello();
    ListenerKind::each_at_once(|kind| {
        assert_eq!(stalls(listeners.connect_bare(kind), b"", SECOND), b"");
        let preamble = kind.preamble();
        if !preamble.is_empty() {
            assert_eq!(stalls(listeners.connect_bare(kind), &preamble[..preamble.len() / 2], SECOND), b"");
            assert_eq!(stalls(listeners.connect_without_tls(kind), b"", SECOND), b"");
        }
        if kind.has_tls() {
            assert_eq!(stalls(listeners.connect_without_tls(kind), &hello[..hello.len() / 2], SECOND), b"");
            // The handshake is answered and not finished.
            assert!(!stalls(listeners.connect_without_tls(kind), &hello, SECOND).is_empty());
        }
        assert_eq!(stalls(listeners.connect(kind, Protocol::Http1), b"", SECOND), b"");
        stalls(listeners.connect(kind, Protocol::Http2), b"", SECOND);
    });
    let late = r#"keygate_tls_handshakes_total{outcome="timeout"}"#;
    // One without a byte, one with half a hello, one with a whole one; behind a proxy the first has no PROXY header either.
    wait_for_count(&keygate, late, 6).await;
    assert!(upstream.heads().is_empty());
}

#[tokio::test]
async fn admin_and_metrics_listeners_close_connections_that_stop_in_the_handshake_or_after_it() {
    let listeners = Listeners::new();
    let (certificate, key) = listeners.certificate();
    let tls = json!({"certificates": [{"certificate": certificate, "key": key}], "handshake_timeout": "1s"});
    let keygate = Keygate::serve_admin(&json!({"serve": {"http": {"tls": tls}, "metrics": {"tls": tls}}}));
    let hello = listeners.client_hello();
    std::thread::scope(|scope| {
        for url in [&keygate.admin, &keygate.metrics] {
            let port: u16 = url.rsplit_once(':').unwrap().1.parse().unwrap();
            let (listeners, hello) = (&listeners, &hello);
            scope.spawn(move || {
                let bare = || ClientStream::tcp(port);
                assert_eq!(stalls(bare(), b"", SECOND), b"");
                assert_eq!(stalls(bare(), &hello[..hello.len() / 2], SECOND), b"");
                assert!(!stalls(bare(), hello, SECOND).is_empty());
                for head in ["", "GET /health/alive HTTP/1.1\r\nHost: "] {
                    stalls(listeners.connect_to(port), head.as_bytes(), super::admin::HEAD);
                }
            });
        }
    });
}
