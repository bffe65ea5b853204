//! Connections that are open at the stop, or wait to be accepted.

use std::io::Write;
use std::time::{Duration, Instant};

use keygate_test_servers::{WAIT_TIMEOUT, eventually, free_port};
use serde_json::json;

use super::{gateway, patient, refuses_connections, stop, use_up};
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::upstream::Upstream;

#[tokio::test]
async fn idle_and_silent_connections_are_served_once_more() {
    let upstream = Upstream::start();
    let listeners = Listeners::new();
    let mut keygate = listeners.serve_with(&gateway(&upstream), &json!({}), &patient());
    let mut connections = Vec::new();
    for kind in ListenerKind::each() {
        let mut idle = KeptConnection::on(listeners.connect(kind, Protocol::Http1));
        let answer = idle.get("/a", "");
        assert!(answer.status == 200 && !answer.is_last(), "{answer:?}");
        connections.push(idle);
        // Nothing was sent, or only what comes before the request.
        connections.push(KeptConnection::on(listeners.connect(kind, Protocol::Http1)));
    }
    let bare: Vec<_> = ListenerKind::ALL.into_iter().filter(|kind| !kind.has_tls()).collect();
    let bare: Vec<_> = bare.into_iter().map(|kind| (kind, listeners.connect_bare(kind))).collect();
    stop(&keygate);
    for (kind, mut stream) in bare {
        stream.write_all(kind.preamble()).unwrap();
        connections.push(KeptConnection::on(stream));
    }
    for connection in &mut connections {
        use_up(connection, "/a");
    }
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
}

#[tokio::test]
async fn connections_in_the_accept_queue_are_served() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &patient());
    keygate.process.signal("STOP");
    let connect = || KeptConnection::open(&keygate.gateway);
    let (mut early, mut late): (Vec<_>, Vec<_>) = (0..20).map(|_| (connect(), connect())).unzip();
    for connection in &mut early {
        connection.send("/a", "");
    }
    keygate.process.signal("TERM");
    keygate.process.signal("CONT");
    for connection in &mut early {
        assert_eq!(connection.answer().status, 200);
    }
    refuses_connections(&keygate);
    for connection in &mut late {
        use_up(connection, "/a");
    }
    // Connections that were served before the stop may send one more request.
    drop(early);
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
}

#[tokio::test]
async fn silent_connection_is_closed_after_its_time() {
    let upstream = Upstream::start();
    let idle_timeout = Duration::from_secs(2);
    let settings = json!({"serve": {"shutdown_idle_timeout": "2s"}});
    let mut keygate = Keygate::serve(&gateway(&upstream), &settings);
    let mut connections: Vec<_> =
        [&keygate.gateway, &keygate.admin, &keygate.metrics].map(|url| KeptConnection::open(url)).into();
    for connection in &mut connections {
        connection.get("/health/alive", "");
    }
    let stopped = Instant::now();
    keygate.process.signal("TERM");
    for connection in &mut connections {
        connection.ends();
        // The clock of the gateway is late by up to 100 ms.
        assert!(stopped.elapsed() + Duration::from_millis(200) > idle_timeout, "{:?}", stopped.elapsed());
    }
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
}

#[tokio::test]
async fn response_under_way_carries_connection_close() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &patient());
    let (mut held, mut idle) = (KeptConnection::open(&keygate.gateway), KeptConnection::open(&keygate.gateway));
    held.send("/held", "");
    upstream.holds(1).await;
    stop(&keygate);
    use_up(&mut idle, "/a");
    upstream.release();
    let answer = held.answer();
    assert!(answer.status == 200 && answer.is_last(), "{answer:?}");
    held.ends();
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
}

#[tokio::test]
async fn own_responses_carry_connection_close() {
    let upstream = Upstream::start();
    let mut settings = gateway(&upstream);
    settings["routes"][0]["auth"] = json!("required");
    let mut keygate = Keygate::serve(&settings, &patient());
    let mut connection = KeptConnection::open(&keygate.gateway);
    let answer = connection.get("/a", "");
    assert!(answer.status == 401 && !answer.is_last(), "{answer:?}");
    stop(&keygate);
    eventually("a response is the last one", || {
        let answer = connection.get("/a", "");
        assert_eq!(answer.status, 401, "{answer:?}");
        answer.is_last()
    });
    connection.ends();
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
}

#[tokio::test]
async fn idle_connections_of_the_other_listeners_are_served_once_more() {
    let upstream = Upstream::start();
    let mut settings = patient();
    let port = free_port();
    settings["external_auth"] = json!({"address": format!("127.0.0.1:{port}")});
    let mut keygate = Keygate::serve(&gateway(&upstream), &settings);
    let external_auth = format!("http://127.0.0.1:{port}");
    let check = "/check/http/a";
    let targets = [(&keygate.admin, "/health/alive"), (&keygate.metrics, "/health/alive"), (&external_auth, check)];
    let mut connections: Vec<_> = targets.map(|(url, path)| (KeptConnection::open(url), path)).into();
    for (connection, path) in &mut connections {
        let answer = connection.get(path, "");
        assert!(!answer.is_last(), "{answer:?}");
    }
    let mut silent: Vec<_> = targets.map(|(url, path)| (KeptConnection::open(url), path)).into();
    stop(&keygate);
    for (connection, path) in connections.iter_mut().chain(&mut silent) {
        eventually("a response is the last one", || connection.get(path, "").is_last());
        connection.ends();
    }
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
}
