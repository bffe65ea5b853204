//! TLS of a running Keygate: the gateway, its routes that require a client certificate, the admin and the metrics listener.

use keygate_test_servers::free_port;
use reqwest::{Certificate, Client, Identity, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::{files, tls};
use crate::support::authority::{Authority, Pair};
use crate::support::keygate::{Keygate, command};
use crate::support::upstream::{Upstream, header};
use crate::support::wait::wait_for;

const URI: &str = "spiffe://example/reports";

/// An HTTPS client that trusts an authority and may have a certificate.
fn https(authority: &Authority, certificate: Option<&Pair>) -> Client {
    let root = Certificate::from_pem(&std::fs::read(&authority.file).unwrap()).unwrap();
    let builder = Client::builder().no_proxy().tls_certs_only([root]);
    let identity = certificate.map(|pair| format!("{}{}", pair.certificate, pair.key));
    let identity = identity.map(|pem| Identity::from_pem(pem.as_bytes()).unwrap());
    identity.into_iter().fold(builder, reqwest::ClientBuilder::identity).build().unwrap()
}

/// Files in `folder`, and TLS settings that ask clients for a certificate of the authority.
fn certificates(folder: &TempDir, authority: &Authority) -> Value {
    let mut config = tls(&files(folder.path(), &[("server", authority.server(&["localhost"]))]));
    config["client_certificates"] = json!({ "ca": authority.file, "mode": "optional" });
    config
}

#[tokio::test]
async fn route_requires_a_client_certificate_and_the_upstream_learns_its_names() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let upstream = Upstream::start();
    let port = free_port();
    let route = |name: &str, demand: Value| json!({ "name": name, "path_prefix": format!("/{name}"), "upstream": "api", "auth": "none", "client_certificate": demand });
    let keygate = Keygate::serve(
        &json!({
            "listeners": [{ "address": format!("127.0.0.1:{port}"), "tls": certificates(&folder, &authority) }],
            "routes": [
                route("open", Value::Null),
                route("any", json!({})),
                route("subject", json!({ "subjects": ["CN=reports,O=Example"] })),
                route("san", json!({ "sans": [format!("URI:{URI}")] })),
                route("other", json!({ "subjects": ["CN=other"], "sans": ["URI:urn:other"] })),
            ],
            "upstreams": { "api": { "endpoints": [upstream.url] } },
            "request_headers": ["x-keygate-client-subject", "x-keygate-client-san"],
        }),
        &json!({}),
    );
    let secure = format!("https://localhost:{port}");
    let (known, unknown) = (https(&authority, Some(&authority.client("reports", URI))), https(&authority, None));
    for (client, base, allowed) in [
        (&known, &secure, &["open", "any", "subject", "san"][..]),
        (&unknown, &secure, &["open"]),
        (&keygate.http, &keygate.gateway, &["open"]),
    ] {
        for route in ["open", "any", "subject", "san", "other"] {
            let request = client.get(format!("{base}/{route}")).header("x-keygate-client-subject", "CN=forged");
            let response = request.header("x_keygate_client_san", "URI:urn:forged").send().await.unwrap();
            if allowed.contains(&route) {
                assert_eq!(response.status(), StatusCode::OK, "{route}");
                continue;
            }
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{route}");
            let problem: Value = response.json().await.unwrap();
            assert_eq!(problem["code"], "client_certificate_required");
        }
    }
    let heads = upstream.heads();
    assert_eq!(heads.len(), 6);
    for (index, head) in heads.iter().enumerate() {
        let names = (header(head, "x-keygate-client-subject"), header(head, "x-keygate-client-san"));
        let san = format!("URI:{URI}");
        let expected = if index < 4 { (Some("CN=reports,O=Example"), Some(&*san)) } else { (None, None) };
        assert_eq!(names, expected, "{head}");
        assert!(!head.contains("forged"), "{head}");
    }
}

#[tokio::test]
async fn admin_and_metrics_listeners_serve_tls_and_replaced_certificates() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let mut config = certificates(&folder, &authority);
    config["client_certificates"]["mode"] = "required".into();
    let settings = json!({ "serve": { "http": { "tls": config }, "metrics": { "tls": config } } });
    let keygate = Keygate::serve_admin(&settings);
    let (known, unknown) = (https(&authority, Some(&authority.client("admin", "urn:a"))), https(&authority, None));
    let secure = |url: &str| format!("{}/health/alive", url.replace("http://127.0.0.1", "https://localhost"));
    for url in [&keygate.admin, &keygate.metrics] {
        assert_eq!(known.get(secure(url)).send().await.unwrap().status(), StatusCode::OK);
        unknown.get(secure(url)).send().await.unwrap_err();
        keygate.http.get(format!("{url}/health/alive")).send().await.unwrap_err();
    }
    let later = Authority::named(folder.path(), "later");
    later.server(&["localhost"]).write(folder.path(), "server");
    let known = https(&later, Some(&authority.client("admin", "urn:a")));
    for url in [&keygate.admin, &keygate.metrics] {
        wait_for(async || {
            let response = known.get(secure(url)).send().await.map_err(|error| format!("{error:?}"))?;
            assert_eq!(response.status(), StatusCode::OK);
            Ok(())
        })
        .await;
    }
}

#[test]
fn config_check_reports_every_file_that_is_not_usable() {
    let folder = TempDir::new().unwrap();
    let absent = json!({ "certificates": [{ "certificate": "/nonexistent/a.crt", "key": "/nonexistent/a.key" }] });
    let config = json!({
        "serve": { "http": { "tls": absent } },
        "credentials": { "issuer": "https://keys.example.com" },
        "secrets": { "hmac": { "current": "a secret of at least 32 characters" } },
        "db": { "dsn": "sqlite://./keys.db" },
        "gateway": { "listeners": [{ "address": "127.0.0.1:8443", "tls": absent }] },
    });
    let file = folder.path().join("keygate.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let output = command().args(["config", "check", "--config"]).arg(&file).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for setting in ["serve.http.tls", "gateway.listeners.0.tls"] {
        assert!(
            text.contains(&format!("{setting}.certificates.0.certificate: /nonexistent/a.crt: cannot be read")),
            "{text}"
        );
    }
}
