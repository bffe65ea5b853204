//! The configurations of `docs/coming-from.md`: another gateway and Keygate process the same requests alike.

use keygate_test_servers::{Peer, PeerProgram, free_port};
use reqwest::header::{HOST, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::documentation::{documented, replace_ports};
use crate::support::keygate::Keygate;
use crate::support::upstream::{Upstream, header};

const KEY: &str = "ana-0123456789abcdef";
const HOST_NAME: &str = "api.example.com";
/// The ports on loopback that the gateway and the two instances listen on in the documentation.
const GATEWAY: u16 = 8080;
const INSTANCES: [u16; 2] = [9001, 9002];

/// The instances, Keygate, and a client that follows no redirects.
struct Fixture {
    instances: [Upstream; 2],
    keygate: Keygate,
    http: Client,
}

/// What a gateway did with a request.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: StatusCode,
    location: Option<String>,
    /// The request line and fields of the request that an instance got.
    forwarded: Option<Vec<String>>,
}

impl Fixture {
    /// Starts Keygate with a documented configuration and a key that it imports.
    async fn start(file: &str) -> Self {
        let instances = [Upstream::start(), Upstream::start()];
        let ports = ports(&instances);
        let config = replace_ports(documented("coming-from.md", file), &ports);
        let config: Value = serde_saphyr::from_str(&config).unwrap();
        let keygate = Keygate::serve(&config["gateway"], &json!({}));
        let body = json!({"name": "ana", "actor_id": "ana", "raw_key": KEY});
        assert_eq!(keygate.post("importedApiKeys", &body).await.status(), StatusCode::CREATED);
        let http = Client::builder().redirect(Policy::none()).build().unwrap();
        Self { instances, keygate, http }
    }

    /// Starts the other gateway in front of the same instances. `None` if it is not installed.
    fn peer(&self, program: PeerProgram, file: &str) -> Option<(Peer, String)> {
        let port = free_port();
        let ports = [&ports(&self.instances)[..], &[(GATEWAY, port)]].concat();
        let config = replace_ports(documented("coming-from.md", file), &ports);
        Some((program.start(&config, port)?, format!("http://127.0.0.1:{port}")))
    }

    fn request(&self, gateway: &str, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{gateway}{path}")).header(HOST, HOST_NAME)
    }

    async fn send(&self, request: RequestBuilder) -> Outcome {
        let before = self.instances.each_ref().map(|instance| instance.heads().len());
        let answer = request.send().await.unwrap();
        let heads = self.instances.iter().zip(before).flat_map(|(instance, before)| instance.heads().split_off(before));
        let forwarded = heads.filter(|head| !head.contains(" /orders/health ")).map(|head| forwarded(&head)).next();
        let location = answer.headers().get(LOCATION).map(|value| value.to_str().unwrap().to_owned());
        Outcome { status: answer.status(), location, forwarded }
    }
}

fn ports(instances: &[Upstream; 2]) -> [(u16, u16); 2] {
    let own = instances.each_ref().map(|instance| instance.url.rsplit_once(':').unwrap().1.parse().unwrap());
    [(INSTANCES[0], own[0]), (INSTANCES[1], own[1])]
}

/// The request line and the fields that a gateway sets or removes.
fn forwarded(head: &str) -> Vec<String> {
    let fields = ["host", "x-caller", "apikey"].map(|name| format!("{name}: {:?}", header(head, name)));
    [head.lines().next().unwrap().to_owned()].into_iter().chain(fields).collect()
}

/// Sends requests to both and compares the outcomes, which are returned.
async fn compare(fixture: &Fixture, peer: &str, requests: &[(Method, &str, Option<&str>, usize)]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (method, path, key, size) in requests {
        let request = |gateway: &str| {
            let request = fixture.request(gateway, method.clone(), path).body("x".repeat(*size));
            key.iter().fold(request, |request, key| request.header("apikey", *key))
        };
        let expected = fixture.send(request(peer)).await;
        let outcome = fixture.send(request(&fixture.keygate.gateway)).await;
        assert_eq!(outcome, expected, "{method} {path} with {key:?}");
        outcomes.push(outcome);
    }
    outcomes
}

const ORDER: (Method, &str, Option<&str>, usize) = (Method::GET, "/v1/orders/7?page=2", Some(KEY), 0);
const WITHOUT_KEY: (Method, &str, Option<&str>, usize) = (Method::GET, "/v1/orders/7", None, 0);
const WRONG_KEY: (Method, &str, Option<&str>, usize) = (Method::GET, "/v1/orders/7", Some("wrong"), 0);
const PING: (Method, &str, Option<&str>, usize) = (Method::GET, "/ping", None, 0);

fn expected_order() -> Outcome {
    let forwarded = [
        "GET /orders/7?page=2 HTTP/1.1",
        r#"host: Some("orders.internal")"#,
        r#"x-caller: Some("ana")"#,
        "apikey: None",
    ];
    let forwarded = Some(forwarded.map(str::to_owned).to_vec());
    Outcome { status: StatusCode::OK, location: None, forwarded }
}

#[tokio::test]
async fn nginx_and_keygate_process_requests_alike() {
    let fixture = Fixture::start("from-nginx.yaml").await;
    let Some((_peer, url)) = fixture.peer(PeerProgram::Nginx, "nginx.conf") else { return };
    let large = (Method::POST, "/v1/orders/", Some(KEY), 1024 * 1024 + 1);
    let small = (Method::POST, "/v1/orders/", Some(KEY), 1024 * 1024);
    let old = (Method::GET, "/old/", None, 0);
    let outcomes = compare(&fixture, &url, &[ORDER, WITHOUT_KEY, WRONG_KEY, PING, old, large, small]).await;
    assert_eq!(outcomes[0], expected_order());
    let statuses: Vec<_> = outcomes.iter().map(|outcome| outcome.status.as_u16()).collect();
    assert_eq!(statuses, [200, 401, 401, 200, 308, 413, 200]);
}

#[tokio::test]
async fn envoy_and_keygate_process_requests_alike() {
    let fixture = Fixture::start("from-envoy.yaml").await;
    let Some((_peer, url)) = fixture.peer(PeerProgram::Envoy, "envoy.yaml") else { return };
    let outcomes = compare(&fixture, &url, &[ORDER, WITHOUT_KEY, WRONG_KEY, PING]).await;
    assert_eq!(outcomes[0], expected_order());
    let statuses: Vec<_> = outcomes.iter().map(|outcome| outcome.status.as_u16()).collect();
    assert_eq!(statuses, [200, 401, 401, 200]);
}

#[tokio::test]
async fn callers_of_kong_reach_keygate_unchanged() {
    let fixture = Fixture::start("from-kong.yaml").await;
    let gateway = &fixture.keygate.gateway;
    // The other side is not started; what it does is in its documentation.
    assert!(documented("coming-from.md", "kong.yaml").contains("key-auth"));
    for request in [
        fixture.request(gateway, Method::GET, "/v1/orders/7").header("apikey", KEY),
        fixture.request(gateway, Method::GET, &format!("/v1/orders/7?apikey={KEY}")),
    ] {
        let answer = fixture.send(request).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.forwarded.unwrap()[0], "GET /orders/7 HTTP/1.1");
    }
    let preflight = fixture
        .request(gateway, Method::OPTIONS, "/v1/orders/7")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "apikey,content-type");
    let answer = preflight.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example.com");
    assert_eq!(answer.headers()["access-control-allow-credentials"], "true");
    let refused = fixture.request(gateway, Method::GET, "/v1/orders/7").header("origin", "https://app.example.com");
    let answer = refused.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example.com");
    let large =
        fixture.request(gateway, Method::POST, "/v1/orders/").header("apikey", KEY).body("x".repeat(1024 * 1024 + 1));
    assert_eq!(fixture.send(large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}
