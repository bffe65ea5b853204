//! gRPC of all four kinds with a real client and a real server.

use std::sync::Arc;
use std::time::Duration;

use keygate_test_servers::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use super::grpc_service::{Call, GrpcUpstream, Hop};
use crate::support::authority::Authority;
use crate::support::keygate::Keygate;
use crate::support::listeners::{ListenerKind, Listeners};

fn gateway(upstream: &str) -> Value {
    json!({
        "routes": [{"name": "grpc", "path_prefix": "/test.Echo", "upstream": "grpc", "scopes": ["call"], "limits": ["few"]}],
        "upstreams": {"grpc": {"endpoints": [upstream], "protocol": "http2"}},
        "limits": {"few": {"quota": 100, "window": "24h"}}
    })
}

async fn issue(keygate: &Keygate) -> String {
    keygate.issue(json!({"scopes": ["call"]})).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_all_kinds_pass_with_and_without_tls() {
    let upstream = GrpcUpstream::start().await;
    let listeners = Arc::new(Listeners::new());
    let keygate = listeners.serve(&gateway(&upstream.url), &json!({}));
    let key = issue(&keygate).await;
    for kind in ListenerKind::each() {
        all_kinds_pass(&Hop::listener(&listeners, kind), &key).await;
    }
}

async fn all_kinds_pass(hop: &Hop, key: &str) {
    assert_eq!(hop.unary(key, "hello").await.unwrap(), "hello");
    let long = "x".repeat(300_000);
    assert_eq!(hop.unary(key, &long).await.unwrap(), long);
    assert_eq!(hop.server_streaming(key, "a,b,c").await.unwrap(), ["a", "b", "c"]);
    assert_eq!(hop.client_streaming(key, &["a", "b", "c"]).await.unwrap(), "abc");
    let mut call = Call::open(hop, key).await;
    for text in ["a", "", &long] {
        call.echo(text).await;
    }
    call.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_all_kinds_pass_to_an_upstream_with_tls() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new(folder.path());
    let upstream = GrpcUpstream::start_with_tls(&authority.server(&["localhost"])).await;
    for protocol in ["http2", "auto"] {
        let mut settings = gateway(&upstream.url);
        settings["upstreams"]["grpc"]["tls"] = json!({"ca_file": authority.file});
        settings["upstreams"]["grpc"]["protocol"] = protocol.into();
        let listeners = Arc::new(Listeners::new());
        let keygate = listeners.serve(&settings, &json!({}));
        let key = issue(&keygate).await;
        for kind in ListenerKind::BY_URL {
            let hop = Hop::listener(&listeners, kind);
            all_kinds_pass(&hop, &key).await;
            assert_eq!(hop.unary(&key, "fail 5").await.unwrap_err().code(), Code::NotFound, "{protocol}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_of_the_service_arrive_as_trailers_and_without_a_body() {
    let upstream = GrpcUpstream::start().await;
    let keygate = Keygate::serve(&gateway(&upstream.url), &json!({}));
    let key = issue(&keygate).await;
    let hop = Hop::tcp(&keygate.gateway);
    let failed = [
        hop.unary(&key, "fail 5").await.unwrap_err(),
        hop.server_streaming(&key, "a,b,fail 5").await.unwrap_err(),
        hop.client_streaming(&key, &["a", "fail 5"]).await.unwrap_err(),
    ];
    for status in failed {
        assert_eq!((status.code(), status.message()), (Code::NotFound, "as requested: ä%"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_receives_the_fields_of_the_protocol_and_no_credential() {
    let upstream = GrpcUpstream::start().await;
    let keygate = Keygate::serve(&gateway(&upstream.url), &json!({}));
    let key = issue(&keygate).await;
    let hop = Hop::tcp(&keygate.gateway);
    hop.unary_within(&key, "hello", Duration::from_secs(50)).await.unwrap();
    let heads = upstream.take_heads();
    let [head] = &heads[..] else { panic!("{heads:?}") };
    assert_eq!(
        (&head["te"], &head["content-type"]),
        (&"trailers".parse().unwrap(), &"application/grpc".parse().unwrap())
    );
    assert!(head["grpc-timeout"].to_str().unwrap().starts_with("50"), "{head:?}");
    assert_eq!(head["x-keygate-actor-id"], "tester");
    assert!(!head.contains_key("authorization"), "{head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_grpc_statuses() {
    let upstream = GrpcUpstream::start().await;
    let mut settings = gateway(&upstream.url);
    let dead = format!("http://127.0.0.1:{}", free_port());
    settings["upstreams"]["dead"] = json!({"endpoints": [dead], "protocol": "http2"});
    settings["limits"]["few"]["quota"] = json!(1);
    let dead_route = json!({"name": "dead", "path_prefix": "/test.Echo", "hosts": ["dead"], "upstream": "dead"});
    settings["routes"].as_array_mut().unwrap().push(dead_route);
    settings["routes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "down", "path_prefix": "/test.Echo/Client", "upstream": "dead"}));
    let keygate = Keygate::serve(&settings, &json!({}));
    let (key, (_, powerless)) = (issue(&keygate).await, keygate.issue(json!({})).await);
    let hop = Hop::tcp(&keygate.gateway);
    let code = |result: Result<String, tonic::Status>| result.unwrap_err().code();
    assert_eq!(code(hop.unary("", "hello").await), Code::Unauthenticated);
    assert_eq!(code(hop.unary("wrong", "hello").await), Code::Unauthenticated);
    assert_eq!(code(hop.unary(&powerless, "hello").await), Code::PermissionDenied);
    assert_eq!(hop.unary(&key, "hello").await.unwrap(), "hello");
    let Err(limited) = Call::try_open(&hop, &key).await else { panic!("the limit is exceeded") };
    assert_eq!(limited.code(), Code::ResourceExhausted);
    assert_eq!(code(hop.client_streaming(&key, &["a"]).await), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_call_is_limited_by_the_idle_time_of_streams_only() {
    let upstream = GrpcUpstream::start().await;
    let mut settings = gateway(&upstream.url);
    let timeouts = json!({"first_byte_timeout": "100ms", "read_timeout": "100ms", "total_timeout": "100ms", "stream_idle_timeout": "1500ms"});
    crate::support::keygate::merge(&mut settings["upstreams"]["grpc"], &timeouts);
    let keygate = Keygate::serve(&settings, &json!({}));
    let key = issue(&keygate).await;
    let mut call = Call::open(&Hop::tcp(&keygate.gateway), &key).await;
    call.echo("hello").await;
    let begun = std::time::Instant::now();
    let status = call.end().await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}: {status}", begun.elapsed());
}
