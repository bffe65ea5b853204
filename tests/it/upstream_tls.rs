//! TLS to upstreams: verification, the certificate of Keygate, versions, ALPN, and files that change.

pub(crate) mod server;

use std::path::Path;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::server::{Settings, TlsUpstream};
use crate::support::authority::{Authority, Pair};
use crate::support::keygate::{Keygate, command, merge};
use crate::support::wait::wait_for;

/// The status and the body of a response, `null` if it is no JSON.
async fn get(keygate: &Keygate, path: &str) -> (u16, Value) {
    let response = keygate.http.get(format!("{}{path}", keygate.gateway)).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

/// Starts a Keygate with a route `/NAME` without authentication for each upstream.
fn serve(upstreams: &[(&str, Value)]) -> Keygate {
    let mut gateway = json!({"routes": [], "upstreams": {}});
    for (name, upstream) in upstreams {
        let route = json!({"name": name, "path_prefix": format!("/{name}"), "upstream": name, "auth": "none"});
        gateway["routes"].as_array_mut().unwrap().push(route);
        gateway["upstreams"][name] = upstream.clone();
    }
    Keygate::serve(&gateway, &json!({}))
}

/// An upstream with one endpoint and these settings for TLS.
fn upstream(url: &str, tls: Value) -> Value {
    let mut upstream = json!({"endpoints": [url]});
    if !tls.is_null() {
        upstream["tls"] = tls;
    }
    upstream
}

/// The certificate as the upstream shows it.
fn shown(pair: &Pair) -> String {
    hex::encode(CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap())
}

#[tokio::test]
async fn certificate_is_verified_with_the_authorities_and_the_name() {
    let folder = TempDir::new().unwrap();
    let (authority, other) = (Authority::named(folder.path(), "own"), Authority::named(folder.path(), "other"));
    let server = TlsUpstream::start(Settings::new(&authority.server(&["localhost"]))).await;
    let expired = TlsUpstream::start(Settings::new(&authority.expired(&["localhost"]))).await;
    let by_address = format!("https://127.0.0.1:{}", server.port);
    let mut keygate = serve(&[
        ("own", upstream(&server.url(), json!({"ca_file": authority.file}))),
        ("other", upstream(&server.url(), json!({"ca_file": other.file}))),
        ("system", upstream(&server.url(), Value::Null)),
        ("address", upstream(&by_address, json!({"ca_file": authority.file}))),
        ("named", upstream(&by_address, json!({"ca_file": authority.file, "server_name": "localhost"}))),
        ("misnamed", upstream(&server.url(), json!({"ca_file": authority.file, "server_name": "elsewhere"}))),
        ("expired", upstream(&expired.url(), json!({"ca_file": authority.file}))),
    ]);
    let (status, facts) = get(&keygate, "/own").await;
    assert_eq!((status, &facts["server_name"], &facts["client"]), (200, &json!("localhost"), &Value::Null));
    let (status, facts) = get(&keygate, "/named").await;
    assert_eq!((status, &facts["server_name"]), (200, &json!("localhost")));
    for path in ["/other", "/system", "/address", "/misnamed", "/expired"] {
        let (status, problem) = get(&keygate, path).await;
        assert_eq!((status, &problem["code"]), (502, &json!("upstream_unreachable")), "{path}");
    }
    assert_eq!((server.requests(), expired.requests()), (2, 0));
    let log = keygate.whole_log();
    for (path, reason) in [
        ("/other", "UnknownIssuer"),
        ("/system", "UnknownIssuer"),
        ("/address", "certificate not valid for name"),
        ("/misnamed", "certificate not valid for name"),
        ("/expired", "certificate expired"),
    ] {
        let is_named =
            |line: &str| line.contains(path) && line.contains("TLS handshake failed") && line.contains(reason);
        assert!(log.lines().any(is_named), "{path} {reason}: {log}");
    }
}

#[tokio::test]
async fn upstreams_with_different_trust_never_share_a_connection() {
    let folder = TempDir::new().unwrap();
    let (authority, other) = (Authority::named(folder.path(), "own"), Authority::named(folder.path(), "other"));
    let certificate = authority.server(&["localhost"]);
    let server = TlsUpstream::start(Settings { alpn: &["h2", "http/1.1"], ..Settings::new(&certificate) }).await;
    for protocol in ["http1", "http2", "auto"] {
        let with = |tls: Value| {
            let mut upstream = upstream(&server.url(), tls);
            upstream["protocol"] = protocol.into();
            upstream
        };
        let keygate = serve(&[
            ("one", with(json!({"ca_file": authority.file}))),
            ("two", with(json!({"ca_file": authority.file}))),
            ("wrong", with(json!({"ca_file": other.file}))),
        ]);
        let mut connections = Vec::new();
        for _ in 0..3 {
            let (one, two) = (get(&keygate, "/one").await, get(&keygate, "/two").await);
            assert_eq!((one.0, two.0, get(&keygate, "/wrong").await.0), (200, 200, 502), "{protocol}");
            connections.push((one.1["connection"].clone(), two.1["connection"].clone()));
        }
        // Each keeps its connection, and has its own.
        connections.dedup();
        assert!(connections.len() == 1 && connections[0].0 != connections[0].1, "{protocol}: {connections:?}");
    }
}

#[tokio::test]
async fn client_certificate_is_presented() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let client = authority.client("keygate", "spiffe://example/keygate");
    let (certificate_file, key_file) = client.write(folder.path(), "client");
    let certificate = authority.server(&["localhost"]);
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let settings = Settings { clients: Some(&authority.file), versions, ..Settings::new(&certificate) };
        let server = TlsUpstream::start(settings).await;
        let tls = json!({"ca_file": authority.file, "certificate_file": certificate_file, "key_file": key_file});
        let keygate = serve(&[
            ("with", upstream(&server.url(), tls)),
            ("without", upstream(&server.url(), json!({"ca_file": authority.file}))),
        ]);
        let (status, facts) = get(&keygate, "/with").await;
        assert_eq!((status, &facts["client"]), (200, &json!(shown(&client))));
        assert_eq!(get(&keygate, "/without").await.0, 502);
        assert_eq!(server.requests(), 1);
    }
}

/// An authority, and upstreams with certificates of it: one with TLS 1.2 only, one with TLS 1.3 only.
async fn old_and_new(folder: &Path) -> (Authority, TlsUpstream, TlsUpstream) {
    let authority = Authority::new(folder);
    let certificate = authority.server(&["localhost"]);
    let alpn = &["h2", "http/1.1"];
    let old = TlsUpstream::start(Settings { versions: &[&TLS12], alpn, ..Settings::new(&certificate) }).await;
    let new = TlsUpstream::start(Settings { versions: &[&TLS13], alpn, ..Settings::new(&certificate) }).await;
    (authority, old, new)
}

#[tokio::test]
async fn no_request_is_sent_over_an_older_version() {
    let folder = TempDir::new().unwrap();
    let (authority, old, new) = old_and_new(folder.path()).await;
    for protocol in ["http1", "http2"] {
        let with = |url: &str, min_version: &str| {
            let mut upstream = upstream(url, json!({"ca_file": authority.file, "min_version": min_version}));
            merge(&mut upstream, &json!({"protocol": protocol}));
            upstream
        };
        let mut both = with(&old.url(), "1.3");
        both["endpoints"] = json!([old.url(), new.url()]);
        let mut keygate = serve(&[
            ("lax", with(&old.url(), "1.2")),
            ("strict", with(&old.url(), "1.3")),
            ("new", with(&new.url(), "1.3")),
            ("both", both),
        ]);
        let before = old.requests();
        for (path, status) in
            [("/lax", 200), ("/strict", 502), ("/strict", 502), ("/new", 200), ("/both", 200), ("/both", 200)]
        {
            assert_eq!(get(&keygate, path).await.0, status, "{protocol} {path}");
        }
        assert_eq!(old.requests() - before, 1, "{protocol}");
        let log = keygate.whole_log();
        assert!(log.contains("the endpoint uses TLSv1_2, and tls.min_version is 1.3"), "{log}");
    }
}

#[tokio::test]
async fn each_endpoint_with_an_older_version_is_skipped() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let certificate = authority.server(&["localhost"]);
    let mut servers = Vec::new();
    for version in [&TLS12, &TLS12, &TLS12, &TLS12, &TLS13] {
        servers.push(TlsUpstream::start(Settings { versions: &[version], ..Settings::new(&certificate) }).await);
    }
    let urls: Vec<_> = servers.iter().map(|server| format!("https://127.0.0.1:{}", server.port)).collect();
    let mut upstream =
        upstream(&urls[0], json!({"ca_file": authority.file, "server_name": "localhost", "min_version": "1.3"}));
    merge(&mut upstream, &json!({"endpoints": urls, "ejection": {"max_percent": 0}}));
    let keygate = serve(&[("a", upstream)]);
    for _ in 0..5 {
        assert_eq!(get(&keygate, "/a").await.0, 200);
    }
    assert_eq!(servers.iter().map(TlsUpstream::requests).collect::<Vec<_>>(), [0, 0, 0, 0, 5]);
}

#[tokio::test]
async fn health_checks_fail_over_an_older_version() {
    let folder = TempDir::new().unwrap();
    let (authority, old, new) = old_and_new(folder.path()).await;
    for (protocol, kind) in [("http1", "http"), ("http2", "http"), ("http1", "tcp")] {
        let with = |server: &TlsUpstream, min_version: &str| {
            let tls = json!({"ca_file": authority.file, "server_name": "localhost", "min_version": min_version});
            let mut upstream = upstream(&format!("https://127.0.0.1:{}", server.port), tls);
            let check = json!({"type": kind, "interval": "50ms", "unhealthy_after": 1, "healthy_after": 1});
            merge(&mut upstream, &json!({"protocol": protocol, "health_check": check}));
            upstream
        };
        let mut keygate =
            serve(&[("lax", with(&old, "1.2")), ("strict", with(&old, "1.3")), ("new", with(&new, "1.3"))]);
        wait_for(async || {
            let mut healthy = Vec::new();
            for (name, server) in [("lax", &old), ("strict", &old), ("new", &new)] {
                let labels = format!(r#"{{endpoint="127.0.0.1:{}",upstream="{name}"}}"#, server.port);
                healthy.push(keygate.count(&format!("keygate_upstream_healthy{labels}")).await);
            }
            if healthy == [Some(1), Some(0), Some(1)] { Ok(()) } else { Err(format!("{protocol} {kind} {healthy:?}")) }
        })
        .await;
        let log = keygate.whole_log();
        let cause = log.lines().find(|line| line.contains("is unhealthy")).unwrap_or(&log);
        assert!(cause.contains("the endpoint uses TLSv1_2, and tls.min_version is 1.3"), "{protocol} {kind} {cause}");
    }
}

#[tokio::test]
async fn protocol_is_selected_by_alpn() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let certificate = authority.server(&["localhost"]);
    let both = TlsUpstream::start(Settings { alpn: &["h2", "http/1.1"], ..Settings::new(&certificate) }).await;
    let old = TlsUpstream::start(Settings { alpn: &["http/1.1"], ..Settings::new(&certificate) }).await;
    for (protocol, server, expected) in [
        ("auto", &both, Some("h2")),
        ("auto", &old, Some("http/1.1")),
        ("http1", &both, Some("http/1.1")),
        ("http2", &both, Some("h2")),
        ("http2", &old, None),
    ] {
        let mut upstream = upstream(&server.url(), json!({"ca_file": authority.file}));
        upstream["protocol"] = protocol.into();
        let keygate = serve(&[("a", upstream)]);
        let (status, facts) = get(&keygate, "/a").await;
        assert_eq!((status == 200, facts["protocol"].as_str()), (expected.is_some(), expected), "{protocol}");
    }
}

#[tokio::test]
async fn changed_files_apply_to_new_connections() {
    let folder = TempDir::new().unwrap();
    let (authority, other) = (Authority::named(folder.path(), "own"), Authority::named(folder.path(), "other"));
    let certificate = authority.server(&["localhost"]);
    let settings = Settings { clients: Some(&authority.file), ..Settings::new(&certificate) };
    let server = TlsUpstream::start(settings).await;
    let ca_file = folder.path().join("ca.pem");
    std::fs::copy(&other.file, &ca_file).unwrap();
    let first = authority.client("first", "spiffe://example/first");
    let (certificate_file, key_file) = first.write(folder.path(), "client");
    let tls = json!({"ca_file": ca_file, "certificate_file": certificate_file, "key_file": key_file});
    let mut with_checks = upstream(&server.url(), tls.clone());
    with_checks["health_check"] =
        json!({"type": "http", "interval": "100ms", "timeout": "5s", "unhealthy_after": 1, "healthy_after": 1});
    let mut keygate = serve(&[("a", upstream(&server.url(), tls)), ("checked", with_checks)]);
    assert_eq!(get(&keygate, "/a").await.0, 502);

    std::fs::copy(&authority.file, &ca_file).unwrap();
    let presents = async |path: &str, pair: &Pair| {
        wait_for(async || match get(&keygate, path).await {
            (200, facts) if facts["client"] == shown(pair) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    };
    presents("/a", &first).await;
    presents("/checked", &first).await;

    // A pooled connection with the earlier certificate is not used any more.
    let second = authority.client("second", "spiffe://example/second");
    second.write(folder.path(), "client");
    presents("/a", &second).await;
    presents("/checked", &second).await;

    std::fs::write(&key_file, &authority.client("third", "spiffe://example/third").key).unwrap();
    wait_for(async || {
        let count = keygate.count(r#"keygate_tls_reloads_total{outcome="failed"}"#).await;
        if count > Some(0) { Ok(()) } else { Err(format!("{count:?}")) }
    })
    .await;
    presents("/a", &second).await;
    let log = keygate.whole_log();
    assert!(log.contains("gateway.upstreams.a.tls.key_file"), "{log}");
    assert!(log.contains("is not the private key of the certificate in"), "{log}");
}

#[tokio::test]
async fn grpc_is_forwarded_over_tls() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let certificate = authority.server(&["localhost"]);
    let server = TlsUpstream::start(Settings { alpn: &["h2"], ..Settings::new(&certificate) }).await;
    for protocol in ["http2", "auto"] {
        let mut upstream = upstream(&server.url(), json!({"ca_file": authority.file, "min_version": "1.3"}));
        upstream["protocol"] = protocol.into();
        let gateway = json!({"routes": [{"name": "grpc", "upstream": "a"}], "upstreams": {"a": upstream}});
        let keygate = Keygate::serve(&gateway, &json!({}));
        let (_, key) = keygate.issue(json!({})).await;
        let mut client = AuthorizationClient::connect(keygate.gateway.clone()).await.unwrap();
        let mut request = tonic::Request::new(CheckRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let response = client.check(request).await.unwrap().into_inner();
        assert!(response.http_response.is_some(), "{protocol}");
        let status = client.check(CheckRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}

#[test]
fn unusable_files_and_missing_authorities_are_reported() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let (certificate_file, _) = authority.client("a", "spiffe://example/a").write(folder.path(), "a");
    let (_, key_file) = authority.client("b", "spiffe://example/b").write(folder.path(), "b");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let port = keygate_test_servers::free_port;
    for (tls, message) in [
        (json!({"ca_file": "/nonexistent.pem"}), "gateway.upstreams.a.tls.ca_file: /nonexistent.pem: cannot be read"),
        (json!({"ca_file": empty}), "contains no certificate"),
        (
            json!({"ca_file": authority.file, "certificate_file": certificate_file, "key_file": key_file}),
            "is not the private key of the certificate",
        ),
        (Value::Null, "gateway.upstreams.a.tls.ca_file: is required, because this system has no certificates"),
    ] {
        let config = json!({
            "credentials": {"issuer": "https://keys.example.com"},
            "secrets": {"hmac": {"current": "a secret of at least 32 characters"}},
            "db": {"dsn": format!("sqlite://{}", folder.path().join("keys.db").display())},
            "serve": {"http": {"port": port()}, "metrics": {"host": "127.0.0.1", "port": port()}},
            "gateway": {
                "address": format!("127.0.0.1:{}", port()),
                "routes": [{"name": "a", "upstream": "a"}],
                "upstreams": {"a": upstream("https://orders.internal", tls)}
            },
        });
        let file = folder.path().join("keygate.json");
        std::fs::write(&file, config.to_string()).unwrap();
        for arguments in [&["config", "check"][..], &["serve"]] {
            let mut command = command();
            if message.contains("this system has no") {
                // As in a minimal image, where `serve` ends even earlier.
                command.env("SSL_CERT_FILE", &empty).env_remove("SSL_CERT_DIR");
                if arguments == ["serve"] {
                    continue;
                }
            }
            let output = command.args(arguments).arg("--config").arg(&file).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success() && text.contains(message), "{arguments:?}: {message}: {text}");
        }
    }
}
