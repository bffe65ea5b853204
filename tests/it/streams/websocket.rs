//! WebSockets with a real client.

use std::thread;

use serde_json::{Value, json};
use tungstenite::Message;

use super::stream_upstream::StreamUpstream;
use super::{echo, open_socket};
use crate::support::listeners::{ListenerKind, Listeners, Protocol};

/// A gateway with a route that needs no credential.
fn open_gateway(upstream: &StreamUpstream, upgrade: &str) -> Value {
    json!({
        "routes": [{"name": "all", "upstream": "api", "auth": "none", "upgrade": upgrade}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    })
}

#[tokio::test]
async fn messages_pass_in_both_directions_on_every_listener() {
    let upstream = StreamUpstream::start();
    let listeners = Listeners::new();
    let gateway = json!({
        "routes": [{"name": "all", "upstream": "api"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let keygate = listeners.serve(&gateway, &json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    ListenerKind::each_at_once(|kind| {
        let connect = || listeners.connect(kind, Protocol::Http1);
        let mut socket = open_socket(connect(), "/socket", &key).unwrap();
        for size in [0, 1, 125, 126, 70_000] {
            echo(&mut socket, &"x".repeat(size));
        }
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
        assert_eq!(open_socket(connect(), "/socket", "wrong").err(), Some(401));
    });
    upstream.has_open(0).await;
}

#[tokio::test]
async fn every_upgrade_of_a_fast_upstream_succeeds() {
    let upstream = StreamUpstream::start();
    let listeners = Listeners::new();
    let _keygate = listeners.serve(&open_gateway(&upstream, "allow"), &json!({}));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let stream = listeners.connect(ListenerKind::Tcp, Protocol::Http1);
                    let mut socket = open_socket(stream, "/socket", "").unwrap();
                    echo(&mut socket, "hello");
                }
            });
        }
    });
}

#[tokio::test]
async fn route_that_denies_upgrades_answers_403_and_serves_other_requests() {
    let upstream = StreamUpstream::start();
    let listeners = Listeners::new();
    let keygate = listeners.serve(&open_gateway(&upstream, "deny"), &json!({}));
    for kind in ListenerKind::each() {
        let stream = listeners.connect(kind, Protocol::Http1);
        assert_eq!(open_socket(stream, "/socket", "").err(), Some(403));
    }
    // A request that the upstream may serve without the upgrade.
    let request = keygate.http.get(&keygate.gateway).header("connection", "upgrade").header("upgrade", "h2c");
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "ok");
}

#[tokio::test]
async fn failed_upgrade_keeps_the_connection() {
    let upstream = StreamUpstream::start();
    let listeners = Listeners::new();
    let _keygate = listeners.serve(&open_gateway(&upstream, "allow"), &json!({}));
    let mut stream = listeners.connect(ListenerKind::Tcp, Protocol::Http1);
    for _ in 0..2 {
        let response = super::get(
            &mut stream,
            "/plain HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Rest:",
            "",
            "ok",
        );
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
    let mut socket = open_socket(stream, "/socket", "").unwrap();
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
}
