//! The listeners: loopback without authentication, a Unix socket, the public listener.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use keygate_test_servers::{eventually, free_port};
use serde_json::json;

use super::{BOOTSTRAP, serve};
use crate::support::keygate::{HMAC_SECRET, Keygate, command, write_private};

/// The errors of `keygate config check` for a `serve` section.
fn config_errors(serve: &serde_json::Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "serve": serve,
        "credentials": {"issuer": "https://keys.example.com"},
        "secrets": {"hmac": {"current": HMAC_SECRET}},
        "db": {"dsn": "sqlite://./keys.db"},
    });
    let file = folder.path().join("keygate.json");
    write_private(&file, &config.to_string());
    let output = command().args(["config", "check", "--config"]).arg(file).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn network_listener_without_authentication_is_an_error() {
    let open = json!({"http": {"host": "0.0.0.0", "auth": {"mode": "none"}}});
    let error = config_errors(&open);
    assert!(error.contains("serve.http.host") && error.contains("serve.http.auth.mode"), "{error}");
    assert_eq!(config_errors(&json!({"http": {"host": "0.0.0.0"}})), "");
    let reserved = json!({"http": {"auth": {"bootstrap_key": "too short"}}});
    assert!(config_errors(&reserved).contains("32 characters"));
}

#[tokio::test]
async fn listener_beyond_loopback_authenticates_by_default() {
    let keygate = Keygate::serve_admin(&json!({"serve": {"http": {"host": "0.0.0.0"}}}));
    assert_eq!(keygate.send("GET /v2alpha1/admin/issuedApiKeys", "").await.status, 401);
    assert_eq!(keygate.send("GET /health/ready", "").await.status, 200);
}

#[tokio::test]
async fn bootstrap_key_of_a_file_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{BOOTSTRAP}\n")).unwrap();
    let keygate = Keygate::serve_admin(&json!({"serve": {"http": {"auth": {"bootstrap_key_file": file}}}}));
    for (key, expected) in [(BOOTSTRAP, 200), ("", 401), (&BOOTSTRAP[1..], 401), (&format!("{BOOTSTRAP}x"), 401)] {
        assert_eq!(keygate.send_as(key, "GET /keygate/v1/adminKeys", "").await.status, expected, "{key}");
    }
}

#[tokio::test]
async fn start_without_authentication_is_a_warning() {
    let mut keygate = Keygate::serve_admin(&json!({}));
    assert_eq!(keygate.send("GET /v2alpha1/admin/issuedApiKeys", "").await.status, 200);
    let log = keygate.whole_log();
    assert!(log.contains("the admin API does not authenticate callers"), "{log}");
    let mut keygate = serve(&json!({}));
    assert!(!keygate.whole_log().contains("does not authenticate"));
}

#[test]
fn unix_socket_replaces_host_and_port_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let mut keygate = Keygate::serve_admin(&json!({"serve": {"http": {"socket": socket}}}));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let mut stream = UnixStream::connect(&socket).unwrap();
    let head = "GET /v2alpha1/admin/issuedApiKeys HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let port = keygate.admin.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert!(keygate.whole_log().contains("every program that can open its socket"));
    // A socket that the earlier process has left is replaced.
    keygate.start_again();
    eventually("the socket accepts again", || UnixStream::connect(&socket).is_ok());
}

#[tokio::test]
async fn public_listener_serves_only_what_needs_no_key() {
    let port = free_port();
    let keygate = serve(&json!({"serve": {"public": {"host": "127.0.0.1", "port": port}}}));
    let (_, secret) = keygate.issue(json!({})).await;
    let admin = keygate.admin.clone();
    let mut outside = keygate;
    outside.admin = format!("http://127.0.0.1:{port}");
    for (operation, expected) in [
        ("GET /v2alpha1/derivedKeys/jwks.json", 200),
        ("GET /v2alpha1/admin/derivedKeys/jwks.json", 200),
        ("GET /health/alive", 200),
        ("GET /health/ready", 200),
        ("GET /version", 200),
        ("GET /v2alpha1/admin/issuedApiKeys", 404),
        ("POST /v2alpha1/admin/issuedApiKeys", 404),
        ("POST /v2alpha1/admin/apiKeys:verify", 404),
        ("POST /keygate/v1/introspect", 404),
        ("GET /keygate/v1/adminKeys", 404),
        ("GET /openapi.json", 404),
        ("GET /openapi-keygate.json", 404),
        ("GET /metrics", 404),
    ] {
        assert_eq!(outside.send(operation, "").await.status, expected, "{operation}");
    }
    let body = json!({"credential": secret}).to_string();
    let revoked = outside.send_as("", "POST /v2alpha1/apiKeys:selfRevoke", body.clone()).await;
    assert_eq!((revoked.status, revoked.body), (200, json!({})));
    outside.admin = admin;
    let verified = outside.send("POST /v2alpha1/admin/apiKeys:verify", body).await;
    assert_eq!(verified.text("/error_code"), "VERIFICATION_ERROR_REVOKED");
}
