//! The programs in `examples/`, with a node of Keygate on the same database.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use keygate_test_servers::{Postgres, Process};
use serde_json::json;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::support::keygate::{HMAC_SECRET, Keygate};
use crate::support::upstream::Upstream;
use crate::support::wait::{is_machine_quiet, wait_for};

/// An example with a node that has its admin API.
struct Example {
    url: String,
    node: Keygate,
    _process: Process,
    _postgres: Postgres,
}

impl Example {
    fn start(name: &str) -> Self {
        let (postgres, upstream) = (Postgres::start(), Upstream::start());
        let dsn = format!("{}?acquire_timeout=10s", postgres.url("postgres"));
        let gateway = json!({
            "routes": [{"name": "api", "upstream": "api"}],
            "upstreams": {"api": {"endpoints": [upstream.url]}},
        });
        let node = Keygate::serve(&gateway, &json!({"db": {"dsn": dsn, "auto_migrate": true}}));
        let binary = Path::new(env!("CARGO_BIN_EXE_keygate")).with_file_name("examples").join(name);
        let mut command = Command::new(binary);
        command.arg("127.0.0.1:0").stdout(Stdio::piped());
        command.env("KEYGATE_SECRETS_HMAC_CURRENT", HMAC_SECRET).env("KEYGATE_DB_DSN", dsn);
        let mut process = Process::start(&mut command);
        let mut url = String::new();
        BufReader::new(process.child().stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { url: url.trim().to_owned(), node, _process: process, _postgres: postgres }
    }
}

/// Asserts that a request is refused within a second after a revocation. If other programs use the processors, the processes may not run
/// for longer than that.
async fn assert_refused_soon(mut is_refused: impl AsyncFnMut() -> bool) {
    let revoked = Instant::now();
    wait_for(async || if is_refused().await { Ok(()) } else { Err("the key is still accepted".to_owned()) }).await;
    let elapsed = revoked.elapsed();
    let bound = Duration::from_secs(if elapsed < Duration::from_secs(1) || is_machine_quiet().await { 1 } else { 10 });
    assert!(elapsed < bound, "accepted until {elapsed:?} after the revocation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axum_example_requires_keys() {
    let example = Example::start("axum");
    let (id, key) = example.node.issue(json!({"scopes": ["orders:read", "orders:write"]})).await;
    let (_, other) = example.node.issue(json!({"scopes": ["other"]})).await;
    let client = reqwest::Client::new();
    let get = async |path: &str, key: &str| {
        let response = client.get(format!("{}{path}", example.url)).bearer_auth(key).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(get("/orders", &key).await, (200, "orders of tester".into()));
    assert_eq!(get("/orders", &other).await.0, 403);
    assert_eq!(get("/", &key).await, (200, "hello tester".into()));
    let anonymous = client.get(&example.url).send().await.unwrap();
    assert_eq!(anonymous.text().await.unwrap(), "hello stranger");
    let created = client.post(format!("{}/orders", example.url)).bearer_auth(&key).send().await.unwrap();
    assert_eq!(created.headers()["ratelimit-policy"], r#""burst";q=10;w=1"#);
    assert_eq!(created.text().await.unwrap(), format!("created by key {id}"));

    example.node.revoke(&id).await;
    assert_refused_soon(async || get("/orders", &key).await.0 == 401).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tonic_example_requires_keys() {
    let example = Example::start("tonic");
    let (id, key) = example.node.issue(json!({"scopes": ["greet"]})).await;
    let (_, other) = example.node.issue(json!({"scopes": ["other"]})).await;
    let channel = Endpoint::from_shared(example.url.clone()).unwrap().connect().await.unwrap();
    let greet = async |key: &str| -> Result<String, Code> {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let mut request = tonic::Request::new("hello".to_owned());
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let path = PathAndQuery::from_static("/greeter.Greeter/Greet");
        let codec = ProstCodec::<String, String>::default();
        client.unary(request, path, codec).await.map(tonic::Response::into_inner).map_err(|status| status.code())
    };
    assert_eq!(greet(&key).await, Ok("hello tester".into()));
    assert_eq!(greet(&other).await, Err(Code::PermissionDenied));
    assert_eq!(greet("no-key").await, Err(Code::Unauthenticated));

    example.node.revoke(&id).await;
    assert_refused_soon(async || greet(&key).await == Err(Code::Unauthenticated)).await;
}
