//! Who the client of a request is: directly, behind proxies that are trusted and behind proxies that are not, and what the upstream is
//! told.

use std::net::IpAddr;
use std::process::Command;

use keygate_test_servers::{PeerProgram, free_port};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::keygate::{Keygate, merge};
use crate::support::raw_upstream::RawUpstream;
use crate::support::upstream::{Upstream, header};

/// The client that the address rule of a key allows. All of 127.0.0.0/8 is this machine.
const ALLOWED: &str = "127.0.0.7";
/// Another client.
const OTHER: &str = "127.0.0.8";
/// The address from which proxies connect.
const PROXY: &str = "127.0.0.1/32";

/// A gateway with two listeners: one without trusted proxies, one with the settings of a test.
struct Fixture {
    upstream: Upstream,
    keygate: Keygate,
    /// The listener with the settings of the test.
    port: u16,
}

impl Fixture {
    fn start(listener: &Value) -> Self {
        let (upstream, port) = (Upstream::start(), free_port());
        let mut settings = json!({"address": format!("127.0.0.1:{port}")});
        merge(&mut settings, listener);
        let gateway = json!({
            "listeners": [settings],
            "routes": [
                {"name": "api", "upstream": "api", "limits": ["by-address"]},
                {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"}
            ],
            "upstreams": {"api": {"endpoints": [upstream.url]}},
            "limits": {"by-address": {"quota": 20, "window": "1h", "count_by": "address"}}
        });
        Self { upstream, keygate: Keygate::serve(&gateway, &json!({})), port }
    }

    /// The port of the listener without trusted proxies.
    fn untrusting_port(&self) -> u16 {
        self.keygate.gateway.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// A key that only [`ALLOWED`] may use.
    async fn bound_key(&self) -> String {
        let restriction = json!({"ip_restriction": {"allowed_cidrs": [format!("{ALLOWED}/32")]}});
        self.keygate.issue(restriction).await.1
    }
}

/// A GET request from an address of this machine.
fn get(from: &str, port: u16, path: &str) -> RequestBuilder {
    let client = Client::builder().local_address(from.parse::<IpAddr>().unwrap()).build().unwrap();
    client.get(format!("http://127.0.0.1:{port}{path}"))
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn trusted_proxy_names_the_client_and_others_do_not() {
    let fixture = Fixture::start(&json!({"trusted_proxies": [PROXY, "10.0.0.0/8"]}));
    let key = fixture.bound_key().await;
    let fields = [
        ("x-forwarded-for", ALLOWED),
        ("x-forwarded-for", "127.0.0.9, 127.0.0.7:4711"),
        ("x-forwarded-for", "::ffff:127.0.0.7, 10.0.0.1"),
        ("forwarded", "for=127.0.0.9, for=127.0.0.7;proto=https"),
    ];
    for (name, value) in fields {
        let trusted = get("127.0.0.1", fixture.port, "/x").bearer_auth(&key).header(name, value);
        assert_eq!(status(trusted).await, 200, "{name}: {value}");
        for (from, port) in [(OTHER, fixture.port), ("127.0.0.1", fixture.untrusting_port())] {
            let forged = get(from, port, "/x").bearer_auth(&key).header(name, value);
            let response = forged.send().await.unwrap();
            assert_eq!(code(response).await, (403, "address_not_allowed".into()), "{name}: {value} from {from}");
        }
    }
    for value in ["127.0.0.7, 127.0.0.9", "127.0.0.7, unknown", "127.0.0.7,", "127.0.0.7, unknown, 10.0.0.1"] {
        let request = get("127.0.0.1", fixture.port, "/x").bearer_auth(&key).header("x-forwarded-for", value);
        assert_eq!(status(request).await, 403, "{value}");
    }
    for port in [fixture.port, fixture.untrusting_port()] {
        assert_eq!(status(get(ALLOWED, port, "/x").bearer_auth(&key)).await, 200);
        assert_eq!(status(get(ALLOWED, port, "/x").bearer_auth(&key).header("x-forwarded-for", OTHER)).await, 200);
    }
}

#[tokio::test]
async fn one_connection_of_a_proxy_carries_many_clients() {
    let fixture = Fixture::start(&json!({"trusted_proxies": [PROXY]}));
    let key = fixture.bound_key().await;
    let http = Client::builder().pool_max_idle_per_host(1).build().unwrap();
    for (client, expected) in [(ALLOWED, 200), (OTHER, 403), (ALLOWED, 200), ("unknown", 403)] {
        let request = http.get(format!("http://127.0.0.1:{}/x", fixture.port)).bearer_auth(&key);
        let response = request.header("x-forwarded-for", client).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{client}");
        response.bytes().await.unwrap();
    }
}

#[tokio::test]
async fn upstream_is_told_what_the_trusted_proxy_says() {
    let fixture = Fixture::start(&json!({"trusted_proxies": [PROXY, "10.0.0.0/8"]}));
    let fields = [
        ("x-forwarded-for", "192.0.2.9, 192.0.2.1:80, 10.0.0.1"),
        ("x-forwarded-proto", "http, https"),
        ("x-forwarded-host", "api.example.com"),
        ("x-forwarded-prefix", "/admin"),
        ("forwarded", "for=192.0.2.9;proto=http;host=evil"),
    ];
    let own_host = format!("127.0.0.1:{}", fixture.port);
    for (from, expected) in [
        ("127.0.0.1", ["192.0.2.1, 10.0.0.1, 127.0.0.1", "https", "api.example.com"]),
        (OTHER, [OTHER, "http", &own_host]),
    ] {
        let request = fields
            .iter()
            .fold(get(from, fixture.port, "/open"), |request, (name, value)| request.header(*name, *value));
        assert_eq!(status(request).await, 200);
        let head = fixture.upstream.heads().pop().unwrap();
        let told =
            ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"].map(|name| header(&head, name).unwrap());
        assert_eq!(told, expected, "{from}");
        assert_eq!((header(&head, "forwarded"), header(&head, "x-forwarded-prefix")), (None, None));
    }
}

#[tokio::test]
async fn limits_by_address_count_the_client() {
    let fixture = Fixture::start(&json!({"trusted_proxies": [PROXY]}));
    let key = fixture.keygate.issue(json!({})).await.1;
    let remaining = async |from: &str, client: &str| {
        let request = get(from, fixture.port, "/x").bearer_auth(&key).header("x-forwarded-for", client);
        let response = request.send().await.unwrap();
        let policy = response.headers()["ratelimit"].to_str().unwrap().to_owned();
        policy.split(";r=").nth(1).and_then(|rest| rest.split(';').next()).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!([remaining("127.0.0.1", "192.0.2.1").await, remaining("127.0.0.1", "192.0.2.1").await], [19, 18]);
    assert_eq!(remaining("127.0.0.1", "192.0.2.2").await, 19);
    // A forged field is no way around the limit.
    assert_eq!([remaining(OTHER, "192.0.2.3").await, remaining(OTHER, "192.0.2.4").await], [19, 18]);
}

#[tokio::test]
async fn access_log_has_the_client_and_the_proxy() {
    let mut fixture = Fixture::start(&json!({"trusted_proxies": [PROXY]}));
    let proxied = get("127.0.0.1", fixture.port, "/open/proxied").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(status(proxied).await, 200);
    assert_eq!(status(get(OTHER, fixture.port, "/open/direct").header("x-forwarded-for", "192.0.2.1")).await, 200);
    let log = fixture.keygate.whole_log();
    let line = |path: &str| -> Value {
        let line = log.lines().find(|line| line.contains("keygate::access") && line.contains(path)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        line.get("fields").cloned().unwrap_or(line)
    };
    let (proxied, direct) = (line("/open/proxied"), line("/open/direct"));
    assert_eq!([&proxied["peer"], &proxied["proxy"]], [&json!("192.0.2.1"), &json!("127.0.0.1")]);
    assert_eq!([&direct["peer"], &direct["proxy"]], [&json!(OTHER), &Value::Null]);
}

#[tokio::test]
async fn credential_in_clear_text_is_rejected_where_tls_is_required() {
    let fixture = Fixture::start(&json!({"trusted_proxies": [PROXY], "require_tls": true}));
    let key = fixture.keygate.issue(json!({})).await.1;
    let rejected = (403, "tls_required".to_owned());
    let credentials = [
        ("authorization", format!("Bearer {key}")),
        ("authorization", "Bearer unknown".into()),
        ("authorization", "Bearer ".into()),
        ("authorization", "Basic eA==".into()),
        ("x-api-key", key.clone()),
    ];
    for (name, value) in &credentials {
        for path in ["/x", "/open"] {
            let plain = get(OTHER, fixture.port, path).header(*name, value);
            let told =
                plain.try_clone().unwrap().header("x-forwarded-proto", "https").header("forwarded", "proto=https");
            for request in [plain, told] {
                let response = request.send().await.unwrap();
                assert!(
                    !response.headers().contains_key("www-authenticate")
                        && !response.headers().contains_key("ratelimit")
                );
                assert_eq!(code(response).await, rejected, "{name}: {value} {path}");
            }
        }
        let by_proxy = get("127.0.0.1", fixture.port, "/x").header(*name, value);
        for proto in ["http", "https, http", "ftp", ""] {
            let response = by_proxy.try_clone().unwrap().header("x-forwarded-proto", proto).send().await.unwrap();
            assert_eq!(code(response).await, rejected, "{name}: {value} {proto}");
        }
        let response = by_proxy.header("x-forwarded-proto", "https").send().await.unwrap();
        assert_eq!(response.status() == StatusCode::OK, value.contains(&key), "{name}: {value}");
        assert_ne!(response.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(status(get(OTHER, fixture.port, "/x")).await, 401);
    assert_eq!(status(get(OTHER, fixture.port, "/open")).await, 200);
    assert!(!fixture.upstream.heads().iter().any(|head| head.contains("Basic")));
}

#[tokio::test]
async fn http2_requests_have_the_client_that_the_proxy_names() {
    let fixture = Fixture::start(&json!({"trusted_proxies": [PROXY]}));
    let key = fixture.bound_key().await;
    for (client, expected) in [(ALLOWED, "200"), (OTHER, "403")] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--http2-prior-knowledge", "--output", "/dev/null", "--write-out", "%{http_code}"]);
        curl.args(["--header", &format!("x-api-key: {key}"), "--header", &format!("x-forwarded-for: {client}")]);
        let output = curl.arg(format!("http://127.0.0.1:{}/x", fixture.port)).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{client}");
    }
}

/// Checks that an address-bound key is judged by the client of a proxy, and that a forged field changes nothing.
async fn check_proxy(fixture: &Fixture, trusting: u16, untrusting: u16) {
    let key = fixture.bound_key().await;
    for (from, port, expected) in [(ALLOWED, trusting, 200), (OTHER, trusting, 403), (ALLOWED, untrusting, 403)] {
        for forged in [
            None,
            Some(("x-forwarded-for", ALLOWED)),
            Some(("x-forwarded-for", OTHER)),
            Some(("forwarded", "for=127.0.0.7")),
        ] {
            let request = get(from, port, "/x").bearer_auth(&key);
            let request = forged.into_iter().fold(request, |request, (name, value)| request.header(name, value));
            assert_eq!(status(request).await, expected, "{from} {port} {forged:?}");
        }
    }
}

#[tokio::test]
async fn nginx_with_x_forwarded_for_names_the_client() {
    let fixture = Fixture::start(&json!({"trusted_proxies": [PROXY]}));
    let ports = [free_port(), free_port()];
    let server = |port: u16, gateway: u16| {
        format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{gateway}; proxy_http_version 1.1; \
             proxy_set_header Connection ''; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
             proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host; }} }}"
        )
    };
    let servers = [server(ports[0], fixture.port), server(ports[1], fixture.untrusting_port())].concat();
    let Some(_nginx) = PeerProgram::Nginx.start(&format!("events {{}} http {{ {servers} }}"), ports[0]) else {
        return;
    };
    check_proxy(&fixture, ports[0], ports[1]).await;
    let told =
        get(ALLOWED, ports[0], "/open").header("x-forwarded-for", "192.0.2.9").header("x-forwarded-host", "evil");
    assert_eq!(status(told).await, 200);
    let head = fixture.upstream.heads().pop().unwrap();
    assert_eq!(header(&head, "x-forwarded-for"), Some("127.0.0.7, 127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-host"), Some(format!("127.0.0.1:{}", ports[0]).as_str()));
}

#[tokio::test]
async fn haproxy_with_the_proxy_protocol_names_the_client() {
    let fixture = Fixture::start(&json!({"proxy_protocol": {"trusted": [PROXY]}}));
    let ports = [free_port(), free_port()];
    let listen = |port: u16, gateway: u16, option: &str| {
        format!("listen l{port}\n bind 127.0.0.1:{port}\n server keygate 127.0.0.1:{gateway} {option}\n")
    };
    let listens =
        [listen(ports[0], fixture.port, "send-proxy-v2"), listen(ports[1], fixture.untrusting_port(), "")].concat();
    let defaults = "defaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n";
    let Some(_haproxy) = PeerProgram::Haproxy.start(&format!("{defaults}{listens}"), ports[0]) else { return };
    check_proxy(&fixture, ports[0], ports[1]).await;
}

#[tokio::test]
async fn names_with_underscores_and_dots_are_dropped_unless_they_are_allowed() {
    let sent =
        ["x_user", "a.b", "x_keygate_actor_id", "proxy", "remote-user", "x-ssl-client-verify", "x-plain", "accept"];
    for (allow_underscores, expected) in
        [(false, &["x-plain", "accept"][..]), (true, &["x_user", "a.b", "x-plain", "accept"])]
    {
        let upstream = RawUpstream::start();
        let gateway = json!({
            "allow_underscores": allow_underscores,
            "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
            "upstreams": {"api": {"endpoints": [upstream.url]}}
        });
        let keygate = Keygate::serve(&gateway, &json!({}));
        let request = sent.iter().fold(keygate.http.get(&keygate.gateway), |request, name| request.header(*name, "1"));
        assert_eq!(status(request).await, 200);
        let names = upstream.take().pop().unwrap().names();
        let kept: Vec<_> = sent.into_iter().filter(|name| names.iter().any(|other| other == name)).collect();
        assert_eq!(kept, expected);
    }
}

#[tokio::test]
async fn unasked_switch_of_protocols_is_a_bad_gateway() {
    let upstream = RawUpstream::start();
    let gateway = json!({
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    let keygate = Keygate::serve(&gateway, &json!({}));
    let request = keygate.http.get(format!("{}/unasked", keygate.gateway));
    let stripped = request.try_clone().unwrap().header("connection", "upgrade").header("upgrade", "h2c");
    let unannounced = request.try_clone().unwrap().header("upgrade", "websocket");
    for request in [request, stripped, unannounced] {
        let response = request.send().await.unwrap();
        assert_eq!(code(response).await, (502, "upstream_unreachable".into()));
    }
}
