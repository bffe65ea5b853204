//! The listeners: which peers are trusted, the Unix socket, the gateway disabled, the stop.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use keygate_test_servers::{WAIT_TIMEOUT, free_port};
use serde_json::json;
use tempfile::TempDir;

use super::check::{PROXIES, Proxy, exchange};
use super::{Fixture, routes};
use crate::support::keygate::Keygate;

/// A Keygate that listens on a Unix socket only, in a folder of its own.
fn on_socket() -> (Keygate, PathBuf, TempDir) {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("auth.sock");
    let settings = json!({"external_auth": {"address": null, "socket": socket, "trusted_peers": []}});
    (Keygate::serve(&routes(), &settings), socket, folder)
}

fn connect(socket: &PathBuf) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream
}

#[tokio::test]
async fn untrusted_peer_gets_403_for_everything() {
    let mut fixture = Fixture::with(&json!({"external_auth": {"trusted_peers": ["10.0.0.0/8"]}}));
    let (_, key) = fixture.keygate.issue(json!({})).await;
    for proxy in PROXIES {
        let answer = fixture.check_with_key(proxy, "GET /plain", &key);
        assert_eq!((answer.status, answer.field("connection")), (403, "close"), "{answer:?}");
        assert_eq!(answer.rejection(Proxy::Forward).1, "peer_not_trusted");
        assert_eq!(answer.field("x-keygate-key-id"), "");
    }
    let log = fixture.keygate.whole_log();
    assert!(log.contains("the peer is not trusted") && log.contains("127.0.0.1"), "{log}");
    assert!(!log.contains("203.0.113.7"), "what an untrusted peer states is not used: {log}");
}

#[tokio::test]
async fn unix_socket_is_trusted_and_closed_to_others() {
    let (mut keygate, socket, _folder) = on_socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let (_, key) = keygate.issue(json!({})).await;
    let mut stream = connect(&socket);
    for proxy in PROXIES {
        let request = proxy.request("GET /plain", &format!("Authorization: Bearer {key}\r\n"));
        assert_eq!(exchange(&mut stream, &request).status, 200, "{proxy:?}");
    }
    // The open connection does not keep the process from ending.
    keygate.whole_log();
    assert!(!socket.exists(), "the socket is removed at the stop");
}

#[tokio::test]
async fn socket_of_a_killed_process_is_replaced() {
    let (mut keygate, socket, _folder) = on_socket();
    keygate.process.signal("KILL");
    keygate.process.wait(WAIT_TIMEOUT);
    assert!(UnixStream::connect(&socket).is_err() && socket.exists(), "the killed process leaves a stale socket");
    keygate.start_again();
    let answer = exchange(&mut connect(&socket), &Proxy::Nginx.request("GET /open", ""));
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn disabled_gateway_does_not_listen() {
    let fixture = Fixture::start();
    assert!(TcpStream::connect(fixture.keygate.gateway.trim_start_matches("http://")).is_err());
    assert_eq!(fixture.check(Proxy::Forward, "GET /open", "").status, 200);
}

#[tokio::test]
async fn oversized_head_is_rejected() {
    let fixture = Fixture::start();
    let mut stream = TcpStream::connect(&fixture.address).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let request = Proxy::Forward.request("GET /open", &format!("X-Large: {}\r\n", "x".repeat(70_000)));
    assert_eq!(exchange(&mut stream, &request).status, 431);
    let request = Proxy::Forward.request("GET /open", &format!("X-Large: {}\r\n", "x".repeat(30_000)));
    let mut stream = TcpStream::connect(&fixture.address).unwrap();
    assert_eq!(exchange(&mut stream, &request).status, 200);
}

#[test]
fn address_in_use_is_reported_with_its_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = TempDir::new().unwrap();
    let config = json!({
        "serve": {"http": {"port": free_port()}, "metrics": {"host": "127.0.0.1", "port": free_port()}},
        "credentials": {"issuer": "https://keys.example.com"},
        "secrets": {"hmac": {"current": crate::support::keygate::HMAC_SECRET}},
        "db": {"dsn": format!("sqlite://{}", folder.path().join("keys.db").display())},
        "gateway": routes(),
        "external_auth": {"address": taken.local_addr().unwrap().to_string()}
    });
    let file = folder.path().join("keygate.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let output = crate::support::keygate::command().arg("serve").arg("--config").arg(&file).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("external_auth.address"), "{text}");
    assert!(!folder.path().join("keys.db").exists(), "sockets are bound before the database is opened");
}

#[tokio::test]
async fn credentials_are_not_in_the_log() {
    let mut fixture = Fixture::with(&json!({"log": {"level": "debug"}}));
    let (id, revoked) = fixture.keygate.issue(json!({})).await;
    let (_, valid) = fixture.keygate.issue(json!({})).await;
    fixture.keygate.revoke(&id).await;
    let secrets = [&*valid, &revoked, "sk_live_unknown-secret"];
    for proxy in PROXIES {
        for secret in secrets {
            for line in ["GET /plain", "GET /plain?key=x", "GET /nowhere", "GET *"] {
                fixture.check_with_key(proxy, line, secret);
            }
            fixture.check(proxy, "GET /plain", &format!("Authorization: Bearer {secret}\r\nX-API-Key: {secret}x\r\n"));
        }
    }
    let log = fixture.keygate.whole_log();
    for outcome in ["credential_revoked", "credential_invalid", "credential_ambiguous", "request_invalid"] {
        assert!(log.contains(outcome), "the test did not cause {outcome}");
    }
    for secret in secrets {
        assert!(!log.contains(secret), "{log}");
    }
}
