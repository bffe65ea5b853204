//! The gateway: admission, the headers that the upstream receives, rejections, uploads, shutdown.

mod shutdown;
mod uploads;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use keygate_test_servers::{WAIT_TIMEOUT, free_port};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners, Protocol};
use crate::support::upstream::{Upstream, header};

fn start(upstream: &Upstream) -> Keygate {
    Keygate::serve(&routes(upstream), &json!({}))
}

/// The same with each kind of listener.
fn start_everywhere(upstream: &Upstream) -> (Keygate, Listeners) {
    let listeners = Listeners::new();
    (listeners.serve(&routes(upstream), &json!({})), listeners)
}

/// The clients of every protocol that have a URL, and their URLs.
fn clients(listeners: &Listeners) -> Vec<(reqwest::Client, String)> {
    let kinds = ListenerKind::BY_URL.into_iter();
    let kinds = kinds.flat_map(|kind| [(kind, Protocol::Http1), (kind, Protocol::Http2)]);
    kinds.map(|(kind, protocol)| (listeners.client(kind, protocol), listeners.url(kind))).collect()
}

/// The `gateway` section.
fn routes(upstream: &Upstream) -> Value {
    let dead = format!("http://127.0.0.1:{}", free_port());
    json!({
        "routes": [
            {"name": "orders", "path_prefix": "/orders", "upstream": "api", "scopes": ["read:orders"]},
            {"name": "write", "path_prefix": "/orders", "methods": ["POST"], "upstream": "api", "scopes": ["write:orders"]},
            {"name": "plain", "path_prefix": "/plain", "upstream": "api"},
            {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"},
            {"name": "maybe", "path_prefix": "/maybe", "upstream": "api", "auth": "optional"},
            {"name": "dead", "path_prefix": "/dead", "upstream": "dead"},
            {"name": "impatient", "path_prefix": "/impatient", "upstream": "impatient"},
            {"name": "host", "hosts": ["api.example.com"], "upstream": "api"}
        ],
        "upstreams": {
            "api": {"endpoints": [upstream.url]},
            "impatient": {"endpoints": [upstream.url], "read_timeout": "1s"},
            "dead": {"endpoints": [dead]}
        }
    })
}

/// Sends bytes unchanged and reads one response: status, head, body.
fn raw(stream: &mut (impl Read + Write), request: &str) -> (u16, String, Vec<u8>) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the connection was closed after {head:?}");
    }
    let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, body)
}

fn connect(keygate: &Keygate) -> TcpStream {
    let stream = TcpStream::connect(keygate.gateway.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    stream
}

async fn problem(response: reqwest::Response) -> (u16, String, String) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let status = response.status().as_u16();
    let challenge = response.headers().get("www-authenticate").map_or("", |value| value.to_str().unwrap()).to_owned();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!((body["status"].as_u64(), body["request_id"].as_str()), (Some(status.into()), Some(id.as_str())));
    (status, challenge, body["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn each_denial_has_its_status_challenge_and_code() {
    let upstream = Upstream::start();
    let keygate = start(&upstream);
    let (_, key) = keygate.issue(json!({"scopes": ["read:orders"]})).await;
    let (revoked_id, revoked) = keygate.issue(json!({})).await;
    let (expired_id, expired) = keygate.issue(json!({"ttl": "1s"})).await;
    let (_, restricted) = keygate.issue(json!({"ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}})).await;
    keygate.revoke(&revoked_id).await;
    let mut forged = key.clone();
    let last = if forged.pop() == Some('2') { '3' } else { '2' };
    forged.push(last);
    let invalid_token = r#"Bearer realm="keygate", error="invalid_token""#;
    let invalid_request = r#"Bearer realm="keygate", error="invalid_request""#;
    let insufficient = r#"Bearer realm="keygate", error="insufficient_scope", scope="write:orders""#;

    assert_eq!(keygate.call("/orders/1", &key).await.status(), StatusCode::OK);
    keygate.wait_until_expired(&expired_id).await;
    let get = |path: &str| keygate.http.get(format!("{}{path}", keygate.gateway));
    let post = |path: &str| keygate.http.post(format!("{}{path}", keygate.gateway));
    for (request, expected) in [
        (get("/nowhere"), (404, "", "route_not_found")),
        (get("/plain"), (401, r#"Bearer realm="keygate""#, "credential_missing")),
        (get("/plain?api_key=x"), (401, r#"Bearer realm="keygate""#, "credential_missing")),
        (get("/plain").header("authorization", "Basic eA=="), (401, r#"Bearer realm="keygate""#, "credential_missing")),
        (get("/plain").header("authorization", "Bearer "), (400, invalid_request, "credential_malformed")),
        (get("/plain").bearer_auth(&key).header("x-api-key", "other"), (400, invalid_request, "credential_ambiguous")),
        (get("/plain").bearer_auth("unknown"), (401, invalid_token, "credential_invalid")),
        (get("/plain").bearer_auth(&forged), (401, invalid_token, "credential_invalid")),
        (get("/plain").bearer_auth("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.c2ln"), (401, invalid_token, "credential_invalid")),
        (get("/maybe").bearer_auth("unknown"), (401, invalid_token, "credential_invalid")),
        (get("/plain").bearer_auth(&expired), (401, invalid_token, "credential_expired")),
        (get("/plain").bearer_auth(&revoked), (401, invalid_token, "credential_revoked")),
        (get("/plain").bearer_auth(&restricted), (403, "", "address_not_allowed")),
        (post("/orders").bearer_auth(&key), (403, insufficient, "scope_insufficient")),
        (get("/dead").bearer_auth(&key), (502, "", "upstream_unreachable")),
        (get("/impatient/held").bearer_auth(&key), (504, "", "upstream_timeout")),
    ] {
        let (status, challenge, code) = problem(request.send().await.unwrap()).await;
        assert_eq!((status, challenge.as_str(), code.as_str()), expected);
    }
    let open = get("/open").send().await.unwrap();
    let maybe = get("/maybe").send().await.unwrap();
    assert_eq!((open.status(), maybe.status()), (StatusCode::OK, StatusCode::OK));
}

#[tokio::test]
async fn database_error_is_503_not_401() {
    let upstream = Upstream::start();
    let keygate = start(&upstream);
    let (_, key) = keygate.issue(json!({"scopes": ["read:orders"]})).await;
    assert_eq!(keygate.call("/orders", &key).await.status(), StatusCode::OK);
    // Without its table every lookup fails, and cached keys stay valid.
    let file = SqliteConnectOptions::new().filename(keygate.path().join("keys.db")).busy_timeout(WAIT_TIMEOUT);
    sqlx::query("DROP TABLE keys").execute(&mut file.connect().await.unwrap()).await.unwrap();
    assert_eq!(keygate.call("/orders", &key).await.status(), StatusCode::OK);
    let response = keygate.call("/plain", "not-cached").await;
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(problem(response).await, (503, String::new(), "unavailable".into()));
    let ready = keygate.http.get(format!("{}/health/ready", keygate.metrics)).send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn upstream_receives_the_identity_headers_but_not_the_credential() {
    let upstream = Upstream::start();
    let (keygate, listeners) = start_everywhere(&upstream);
    let (id, key) = keygate.issue(json!({"actor_id": "añb\tc", "scopes": ["a", "b"]})).await;
    for (http, url) in clients(&listeners) {
        let response = http
            .get(format!("{url}/plain/x?q=1"))
            .header("x-api-key", &key)
            .header("authorization", format!("bEaReR {key}"))
            .header("x-keygate-actor-id", "root")
            .header("X-KEYGATE-ADMIN", "yes")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-proto", "ftp")
            .header("connection", "x-private")
            .header("x-private", "1")
            .header("x-request-id", "given-1")
            .send()
            .await
            .unwrap();
        assert_eq!(response.headers()["x-request-id"], "given-1");
        assert_eq!(response.headers()["x-kept"], "1");
        assert!(!response.headers().contains_key("x-hop") && !response.headers().contains_key("keep-alive"));
        let head = upstream.heads().pop().unwrap();
        assert!(head.starts_with("GET /plain/x?q=1 HTTP/1.1\r\n"), "{head}");
        assert!(!head.contains(&key), "{head}");
        let (scheme, host) = url.split_once("://").unwrap();
        for (name, value) in [
            ("x-keygate-key-id", Some(id.as_str())),
            ("x-keygate-actor-id", Some("a%C3%B1b%09c")),
            ("x-keygate-tenant-id", Some("00000000-0000-0000-0000-000000000000")),
            ("x-keygate-scopes", Some("a b")),
            ("x-keygate-credential-type", Some("issued")),
            ("x-request-id", Some("given-1")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-proto", Some(scheme)),
            ("x-forwarded-host", Some(host)),
            ("host", Some(upstream.url.trim_start_matches("http://"))),
            ("x-keygate-admin", None),
            ("x-private", None),
            ("x-api-key", None),
            ("authorization", None),
        ] {
            assert_eq!(header(&head, name), value, "{name} in {head}");
        }
    }
}

#[tokio::test]
async fn upstream_receives_only_the_configured_headers() {
    let upstream = Upstream::start();
    let keygate = Keygate::serve(
        &json!({
            "routes": [{"name": "api", "upstream": "api"}],
            "upstreams": {"api": {"endpoints": [upstream.url]}},
            "request_headers": ["x-keygate-actor-id", "x-forwarded-proto"]
        }),
        &json!({}),
    );
    let (_, key) = keygate.issue(json!({"actor_id": "ana"})).await;
    let url = format!("{}/x", keygate.gateway);
    let request =
        keygate.http.get(url).bearer_auth(&key).header("x-forwarded-for", "10.0.0.1").header("x-request-id", "r");
    assert_eq!(request.send().await.unwrap().headers()["x-request-id"], "r");
    let head = upstream.heads().pop().unwrap().to_lowercase();
    let forwarded = head.lines().filter(|line| line.starts_with("x-") || line.starts_with("authorization"));
    let mut forwarded: Vec<_> = forwarded.collect();
    forwarded.sort_unstable();
    assert_eq!(forwarded, ["x-forwarded-proto: http", "x-keygate-actor-id: ana"]);
}

#[tokio::test]
async fn path_and_host_variants_cannot_bypass_a_route() {
    let upstream = Upstream::start();
    let keygate = start(&upstream);
    let (_, key) = keygate.issue(json!({})).await;
    let status = |target: &str, host: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n");
        raw(&mut connect(&keygate), &request).0
    };
    for target in ["//orders", "/x/../orders", "/%6frders", "/orders/./1", "/open/../orders", "/open/%2e%2e/orders"] {
        assert_eq!(status(target, "h"), 403, "{target} is authorized as /orders");
    }
    for target in [
        "/orders%2f..",
        "/ORDERS",
        "/orders;x",
        "/open%2f..%2forders",
        "/open/..;/orders",
        "/open\\..\\orders",
        "/open/..%5corders",
        "/open/%252e%252e/orders",
        "/%00",
        "/orders%",
        "/open/../..",
        "/orders%3fx",
        "/orders%23x",
        "/orders.",
        "/orders%20/1",
        "/orders::$DATA",
        "/open/..%20/orders",
        "/open/%ef%bc%8e%ef%bc%8e/orders",
        "/open%25252f..%25252forders",
    ] {
        assert_eq!(status(target, "h"), 404, "{target} has no route");
    }
    for host in
        ["api.example.com", "API.Example.Com", "api.example.com.", "api.example.com:8080", "api.example.com.:80"]
    {
        assert_eq!(status("/anything", host), 200, "{host}");
    }
    assert_eq!(status("http://api.example.com/anything", "api.example.com"), 200);
    for (target, host) in [("http://h/anything", "api.example.com"), ("http://api.example.com/anything", "h")] {
        assert_eq!(status(target, host), 400, "{target} for {host}");
    }
    let twice = format!("GET /plain HTTP/1.1\r\nHost: a\r\nHost: b\r\nAuthorization: Bearer {key}\r\n\r\n");
    assert_eq!(raw(&mut connect(&keygate), &twice).0, 400);
    for head in upstream.heads() {
        assert!(!head.to_ascii_lowercase().contains("orders"), "{head}");
    }
    assert_eq!(status("//plain//./a/../b%7e%2Fc?x=%2f..", "h"), 200);
    assert!(upstream.heads().pop().unwrap().starts_with("GET /plain/b~%2Fc?x=%2f.. HTTP/1.1\r\n"));
}

#[tokio::test]
async fn rejections_keep_the_connection_alive() {
    let upstream = Upstream::start();
    let (keygate, listeners) = start_everywhere(&upstream);
    let (_, key) = keygate.issue(json!({})).await;
    for kind in ListenerKind::each() {
        let connect = || listeners.connect(kind, Protocol::Http1);
        let mut stream = connect();
        for _ in 0..3 {
            assert_eq!(raw(&mut stream, "GET /plain HTTP/1.1\r\nHost: h\r\n\r\n").0, 401);
            let (status, _, body) =
                raw(&mut stream, "POST /plain HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
            assert_eq!((status, body.is_empty()), (401, false));
            assert_eq!(raw(&mut stream, "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n").0, 404);
        }
        assert_eq!(raw(&mut stream, &format!("GET /plain HTTP/1.1\r\nHost: h\r\nX-API-Key: {key}\r\n\r\n")).0, 200);
        // After a failed upstream connection the gateway closes the client connection, and announces it.
        let (status, head, _) =
            raw(&mut connect(), &format!("GET /dead HTTP/1.1\r\nHost: h\r\nX-API-Key: {key}\r\n\r\n"));
        assert_eq!((status, header(&head, "connection")), (502, Some("close")));
        // A large body of a rejected request is not read; the connection is closed instead.
        let (status, head, _) = raw(&mut stream, "POST /plain HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n");
        assert_eq!((status, header(&head, "connection")), (401, Some("close")));
    }
}

#[tokio::test]
async fn revocation_takes_effect_on_the_next_request() {
    let upstream = Upstream::start();
    let (keygate, listeners) = start_everywhere(&upstream);
    for (http, url) in clients(&listeners) {
        let call = async |key: &str| http.get(format!("{url}/plain")).bearer_auth(key).send().await.unwrap().status();
        for _ in 0..10 {
            let (id, key) = keygate.issue(json!({})).await;
            assert_eq!(call(&key).await, StatusCode::OK);
            keygate.revoke(&id).await;
            assert_eq!(call(&key).await, StatusCode::UNAUTHORIZED);
        }
    }
}
