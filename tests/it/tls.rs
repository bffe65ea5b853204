//! TLS of listeners, over real sockets: choice of a certificate, replaced files, client certificates, versions, resumption.

mod client;
mod served;
mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::client::{Client, names, refusal};
use self::server::{Server, files, tls};
use crate::support::authority::{Authority, Pair};
use crate::support::wait::wait_for;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn certificate_is_chosen_by_server_name() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let certificates = [
        ("first", authority.server(&["first.example.com"])),
        ("wildcard", authority.server(&["*.example.com", "example.org"])),
        ("exact", authority.server(&["Exact.example.com"])),
    ];
    let config = tls(&files(folder.path(), &certificates));
    let server = Server::start(&config).await;
    let client = Client::new(&authority);
    for (name, expected) in [
        ("first.example.com", "DNS:first.example.com"),
        ("other.example.com", "DNS:*.example.com"),
        ("OTHER.example.com", "DNS:*.example.com"),
        ("example.org", "DNS:*.example.com"),
        ("exact.example.com", "DNS:exact.example.com"),
        ("two.labels.example.com", "DNS:first.example.com"),
        ("example.com", "DNS:first.example.com"),
        ("unknown.test", "DNS:first.example.com"),
        ("127.0.0.1", "DNS:first.example.com"),
    ] {
        let mut connection = client.unverified().connect(&server, name).await.unwrap();
        assert_eq!(connection.server_names()[0], expected, "{name}");
        let info = connection.info().await;
        let asked = (!name.starts_with("127.")).then(|| name.to_ascii_lowercase());
        assert_eq!(info.server_name.as_deref(), asked.as_deref());
    }
    client.connect(&server, "exact.example.com").await.unwrap();
}

#[tokio::test]
async fn alpn_selects_http_2_only_if_the_listener_serves_it() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let config = tls(&files(folder.path(), &[("a", authority.server(&["localhost"]))]));
    let both = Server::start(&config).await;
    let http1 = Server::start_with(&config, false).await;
    for (server, offered, http2) in [
        (&both, &["h2", "http/1.1"][..], true),
        (&both, &["http/1.1", "h2"], true),
        (&both, &["http/1.1"], false),
        (&both, &[], false),
        (&http1, &["h2", "http/1.1"], false),
        (&http1, &[], false),
    ] {
        let mut connection = Client::new(&authority).offering(offered).connect(server, "localhost").await.unwrap();
        assert_eq!(connection.info().await.http2, http2, "{offered:?}");
    }
    for (server, offered) in [(&http1, "h2"), (&both, "acme-tls/1")] {
        let refused = Client::new(&authority).offering(&[offered]).connect(server, "localhost").await;
        assert!(refused.unwrap_err().contains("NoApplicationProtocol"));
    }
}

#[tokio::test]
async fn versions_and_key_exchange_are_those_of_the_configuration() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let mut config = tls(&files(folder.path(), &[("a", authority.server(&["localhost"]))]));
    let server = Server::start(&config).await;
    let client = Client::new(&authority);
    let connection = client.connect(&server, "localhost").await.unwrap();
    assert_eq!(connection.version(), ProtocolVersion::TLSv1_3);
    assert_eq!(connection.key_exchange(), NamedGroup::X25519MLKEM768);
    let connection = client.tls12().connect(&server, "localhost").await.unwrap();
    assert_eq!(connection.version(), ProtocolVersion::TLSv1_2);
    for version in [0x0300, 0x0301, 0x0302] {
        assert_eq!(refusal(&server, version).await, "protocol_version", "{version:x}");
    }

    config["min_version"] = "1.3".into();
    let server = Server::start(&config).await;
    client.connect(&server, "localhost").await.unwrap();
    assert!(client.tls12().connect(&server, "localhost").await.unwrap_err().contains("ProtocolVersion"));
    wait_for(async || server.counts("keygate_tls_handshakes_total{outcome=\"failed\"}", 1)).await;
}

#[tokio::test]
async fn sessions_are_resumed_in_both_versions() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let server = Server::start(&tls(&files(folder.path(), &[("a", authority.server(&["localhost"]))]))).await;
    for client in [Client::new(&authority), Client::new(&authority).tls12()] {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut connection = client.connect(&server, "localhost").await.unwrap();
            // With TLS 1.3, tickets arrive with the first data.
            connection.info().await;
            kinds.push(connection.handshake_kind());
        }
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
    }
}

#[tokio::test]
async fn replaced_certificate_is_used_and_no_connection_is_lost() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let certificates = files(folder.path(), &[("a", authority.server(&["localhost", "one"]))]);
    let server = Arc::new(Server::start(&tls(&certificates)).await);
    let client = Client::new(&authority).without_resumption();
    let mut open = client.connect(&server, "localhost").await.unwrap();
    open.info().await;

    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (server, client, stop) = (Arc::clone(&server), client.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut done = 0;
                while !stop.load(Ordering::Relaxed) {
                    let mut connection = client.connect(&server, "localhost").await.unwrap();
                    connection.info().await;
                    connection.echo("load").await;
                    done += 1;
                }
                done
            })
        })
        .collect();

    for name in ["two", "three"] {
        authority.server(&["localhost", name]).write(folder.path(), "a");
        wait_for(async || {
            let connection = client.connect(&server, "localhost").await?;
            let names = connection.server_names();
            if names[1] == format!("DNS:{name}") { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0);
    }
    open.echo("still open").await;
    server.counts("keygate_tls_reloads_total{outcome=\"succeeded\"}", 2).unwrap();
    server.counts("keygate_tls_handshakes_total{outcome=\"failed\"}", 0).unwrap();
}

#[tokio::test]
async fn unusable_files_keep_the_last_good_certificate() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let good = authority.server(&["localhost", "one"]);
    let other = authority.server(&["localhost", "two"]);
    let bad = [
        ("mismatch", Some(Pair { certificate: other.certificate.clone(), key: good.key.clone() })),
        ("no key", Some(Pair { certificate: good.certificate.clone(), key: "no key".into() })),
        ("truncated", Some(Pair { certificate: good.certificate[..200].into(), key: good.key.clone() })),
        ("absent", None),
    ];
    let certificates = files(folder.path(), &[("a", good), ("b", authority.server(&["other"]))]);
    let server = Server::start(&tls(&certificates)).await;
    let client = Client::new(&authority);
    for (index, (what, pair)) in bad.iter().enumerate() {
        match pair {
            Some(pair) => drop(pair.write(folder.path(), "a")),
            None => std::fs::remove_file(folder.path().join("a.crt")).unwrap(),
        }
        let failed = "keygate_tls_reloads_total{outcome=\"failed\"}";
        wait_for(async || server.counts(failed, index + 1)).await;
        let connection = client.connect(&server, "localhost").await.unwrap();
        assert_eq!(connection.server_names()[1], "DNS:one", "{what}");
    }
    // The other pair is replaced all the same.
    authority.server(&["other", "changed"]).write(folder.path(), "b");
    wait_for(async || {
        let names = client.connect(&server, "other").await?.server_names();
        if names.len() == 2 { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    other.write(folder.path(), "a");
    wait_for(async || {
        let names = client.connect(&server, "localhost").await?.server_names();
        if names[1] == "DNS:two" { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
}

#[tokio::test]
async fn unusable_files_at_the_start_are_errors_that_name_the_setting_and_the_file() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let (good, other) = (authority.server(&["localhost"]), authority.server(&["localhost"]));
    let mismatch = Pair { certificate: good.certificate.clone(), key: other.key };
    let garbage = Pair { certificate: "text".into(), key: "text".into() };
    let keyless = Pair { certificate: good.certificate.clone(), key: good.certificate.clone() };
    for (pair, file, problem) in [
        (&mismatch, "key", "is not the private key of the certificate"),
        (&garbage, "certificate", "contains no certificate"),
        (&keyless, "key", "contains no private key"),
    ] {
        let config = tls(&files(folder.path(), &[("good", authority.server(&["a"])), ("bad", pair.clone())]));
        let error = server::acceptor(&config, true).err().unwrap().to_string();
        let path = folder.path().join(if file == "key" { "bad.key" } else { "bad.crt" });
        let start = format!("gateway.listeners.0.tls.certificates.1.{file}: {}: {problem}", path.display());
        assert!(error.starts_with(&start), "{error}");
        assert_eq!(server::check(&config), [error]);
    }
    let mut config = tls(&files(folder.path(), &[("good", good)]));
    config["client_certificates"] = serde_json::json!({ "ca": Path::new("/nonexistent/ca.pem") });
    let error = server::acceptor(&config, true).err().unwrap().to_string();
    assert!(error.starts_with("gateway.listeners.0.tls.client_certificates.ca: /nonexistent/ca.pem: cannot be read"));
    server::acceptor(&tls(&files(folder.path(), &[("expired", authority.expired(&["localhost"]))])), true)
        .ok()
        .unwrap();
}

#[tokio::test]
async fn client_certificate_is_verified_and_its_names_are_known() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let clients = Authority::named(folder.path(), "clients");
    let certificates = files(folder.path(), &[("a", authority.server(&["localhost"]))]);
    for (mode, without_certificate) in [("required", false), ("optional", true)] {
        let mut config = tls(&certificates);
        config["client_certificates"] = serde_json::json!({ "ca": clients.file, "mode": mode });
        let server = Server::start(&config).await;
        for client in [Client::new(&authority), Client::new(&authority).tls12()] {
            let known = client.with_certificate(&clients.client("reports", "spiffe://example/reports"));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut connection = known.connect(&server, "localhost").await.unwrap();
                let certificate = connection.info().await.client_certificate.unwrap();
                assert_eq!(&*certificate.subject, "CN=reports,O=Example");
                assert_eq!(names(&certificate.san), ["URI:spiffe://example/reports"]);
                assert_eq!(connection.handshake_kind(), kind);
            }
            let unknown = client.with_certificate(&authority.client("reports", "spiffe://example/reports"));
            assert!(!unknown.is_served(&server).await);
            let not_a_client = client.with_certificate(&clients.expired(&["localhost"]));
            assert!(!not_a_client.is_served(&server).await);
            assert_eq!(client.is_served(&server).await, without_certificate);
        }
        let refused = if without_certificate { 4 } else { 6 };
        server.counts("keygate_tls_handshakes_total{outcome=\"client_certificate\"}", refused).unwrap();
    }
}

#[tokio::test]
async fn replaced_authorities_end_the_resumption_of_earlier_sessions() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let (earlier, later) = (Authority::named(folder.path(), "earlier"), Authority::named(folder.path(), "later"));
    let ca = folder.path().join("ca.pem");
    std::fs::copy(&earlier.file, &ca).unwrap();
    let mut config = tls(&files(folder.path(), &[("a", authority.server(&["localhost"]))]));
    config["client_certificates"] = serde_json::json!({ "ca": ca });
    let server = Server::start(&config).await;
    let known = Client::new(&authority).with_certificate(&earlier.client("a", "urn:a"));
    let known_12 = known.tls12();
    for client in [&known, &known_12] {
        assert!(client.is_served(&server).await);
    }
    std::fs::copy(&later.file, &ca).unwrap();
    let new = Client::new(&authority).with_certificate(&later.client("b", "urn:b"));
    wait_for(async || if new.is_served(&server).await { Ok(()) } else { Err("refused".into()) }).await;
    for client in [&known, &known_12] {
        assert!(!client.is_served(&server).await);
    }
}

#[tokio::test]
async fn session_of_a_listener_without_client_certificates_is_not_resumed_at_another() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let mut config = tls(&files(folder.path(), &[("a", authority.server(&["localhost"]))]));
    let open = Server::start(&config).await;
    config["client_certificates"] = serde_json::json!({ "ca": authority.file });
    let closed = Server::start(&config).await;
    // Clients store sessions by server name, so they offer that of one listener to the other.
    for client in [Client::new(&authority), Client::new(&authority).tls12()] {
        assert!(client.is_served(&open).await);
        let resumed = client.connect(&open, "localhost").await.unwrap();
        assert_eq!(resumed.handshake_kind(), HandshakeKind::Resumed);
        assert!(!client.is_served(&closed).await);
    }
}

#[tokio::test]
async fn slow_and_broken_handshakes_end() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let mut config = tls(&files(folder.path(), &[("a", authority.server(&["localhost"]))]));
    config["handshake_timeout"] = "200ms".into();
    let server = Server::start(&config).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    server.counts("keygate_tls_handshakes_total{outcome=\"timeout\"}", 1).unwrap();

    config["handshake_timeout"] = "60s".into();
    let server = Server::start(&config).await;
    drop(TcpStream::connect(server.address).await.unwrap());
    wait_for(async || server.counts("keygate_tls_handshakes_total{outcome=\"closed\"}", 1)).await;
    let mut clear = TcpStream::connect(server.address).await.unwrap();
    clear.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    wait_for(async || server.counts("keygate_tls_handshakes_total{outcome=\"failed\"}", 1)).await;
}

#[tokio::test]
async fn expiry_of_certificates_is_exported() {
    let folder = folder();
    let authority = Authority::new(folder.path());
    let certificates = files(folder.path(), &[("a", authority.expired(&["localhost"]))]);
    let server = Server::start(&tls(&certificates)).await;
    let file = folder.path().join("a.crt");
    let series = format!("keygate_tls_certificate_expiry_timestamp_seconds{{file=\"{}\"}}", file.display());
    server.counts(&series, 1_577_836_800).unwrap();
}
