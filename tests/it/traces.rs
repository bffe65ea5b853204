//! Traces: the context of the client is continued, and the spans of requests reach a collector.

mod collector;
mod tls;

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use keygate::config::{Config, TracingConfig};
use keygate::engine::Engine;
use keygate::layer::AuthLayer;
use keygate_test_servers::{Postgres, free_port};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};

use self::collector::{Collector, Protocol, Span};
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for_count;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn gateway(upstream: &str) -> Value {
    json!({
        "routes": [
            {"name": "orders", "path_prefix": "/orders", "upstream": "api", "limits": ["burst"]},
            {"name": "open", "path_prefix": "/open", "upstream": "api", "auth": "none"}
        ],
        "upstreams": {"api": {"endpoints": [upstream]}},
        "limits": {"burst": {"quota": 100, "window": "1h"}}
    })
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// The value of a field of the last request that an upstream got.
fn received(upstream: &Upstream, name: &str) -> Option<String> {
    let head = upstream.heads().pop().unwrap();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next()
}

fn one<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

#[tokio::test]
async fn trace_of_a_request_through_gateway_postgresql_and_upstream_has_the_callers_trace_id() {
    let (server, upstream) = (Postgres::start(), Upstream::start());
    let db = json!({"dsn": server.url("postgres"), "auto_migrate": true});
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let collector = Collector::start(protocol).await;
        let settings = json!({"db": db, "tracing": collector.settings});
        let mut keygate = Keygate::serve(&gateway(&upstream.url), &settings);
        let (id, key) = keygate.issue(json!({})).await;
        let request = keygate.http.get(format!("{}/orders/1?page=2", keygate.gateway)).bearer_auth(&key);
        let request = request.header("traceparent", parent("01")).header("tracestate", "a=1,b=2");
        let answer = request.header("user-agent", "tester/1.0").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);

        let spans = collector.trace_of("GET orders").await;
        let span = one(&spans, "GET orders");
        assert_eq!((&*span.trace_id, &*span.parent, &*span.state), (TRACE, CALLER, "a=1,b=2"), "{protocol:?}");
        let body = answer.text().await.unwrap();
        let address = keygate.gateway.trim_start_matches("http://").split_once(':').unwrap();
        let expected = json!({
            "http.request.method": "GET", "http.route": "orders", "http.response.status_code": 200, "url.path": "/orders/1",
            "url.scheme": "http", "server.address": address.0, "server.port": address.1.parse::<u16>().unwrap(),
            "client.address": "127.0.0.1", "network.peer.address": "127.0.0.1", "network.protocol.version": "1.1",
            "user_agent.original": "tester/1.0", "http.request.body.size": 0, "http.response.body.size": body.len(),
            "keygate.key_id": id, "keygate.credential.type": "issued"
        });
        let mut attributes = span.attributes.clone();
        assert!(attributes.as_object_mut().unwrap().remove("keygate.request_id").is_some());
        assert_eq!(attributes, expected);

        let decision = one(&spans, "keygate.decision");
        assert_eq!((&decision.parent, decision.kind), (&span.id, 1));
        assert_eq!(decision.attributes, json!({"keygate.lookup.tier": "database", "keygate.proof.cached_in": "none"}));
        let limit =
            json!({"keygate.limit.name": "burst", "keygate.limit.remaining": 99, "keygate.limit.admitted": true});
        assert_eq!(decision.events, [("keygate.limit".to_owned(), limit)]);
        let lookup = one(&spans, "keygate.lookup");
        assert_eq!(lookup.parent, decision.id);
        assert_eq!(lookup.attributes, json!({"keygate.lookup.tier": "database"}));
        let call = one(&spans, "GET");
        assert_eq!((&call.parent, call.kind), (&span.id, 3));
        let endpoint = upstream.url.trim_start_matches("http://").split_once(':').unwrap();
        let expected = json!({
            "http.request.method": "GET", "keygate.upstream": "api", "server.address": endpoint.0,
            "server.port": endpoint.1.parse::<u16>().unwrap(), "http.response.status_code": 200
        });
        assert_eq!(call.attributes, expected);
        for part in [decision, lookup, call] {
            assert!(span.start <= part.start && part.start <= part.end && part.end <= span.end, "{part:?} of {span:?}");
            assert!(!part.is_error && part.trace_id == TRACE, "{part:?}");
        }
        // The upstream continues the trace from the request that was sent to it.
        assert_eq!(received(&upstream, "traceparent"), Some(format!("00-{TRACE}-{}-01", call.id)));
        assert_eq!(received(&upstream, "tracestate").as_deref(), Some("a=1,b=2"));
        let resource = collector.resource();
        assert_eq!(
            [&resource["service.name"], &resource["deployment.environment.name"]],
            ["keygate-test", "development"]
        );
        let admin = collector.trace_of("POST /v2alpha1/admin/issuedApiKeys").await;
        assert_eq!((admin.len(), &admin[0].attributes["http.response.status_code"]), (1, &json!(201)));
        let log = keygate.whole_log();
        let of_trace = format!(r#""trace_id":"{TRACE}""#);
        assert!(log.lines().any(|line| line.contains("keygate::access") && line.contains(&of_trace)), "{log}");
    }
}

#[tokio::test]
async fn rejections_and_failures_are_described() {
    let upstream = Upstream::start();
    let collector = Collector::start(Protocol::Http).await;
    let mut settings = gateway(&upstream.url);
    settings["routes"][1]["upstream"] = "gone".into();
    settings["upstreams"]["gone"] = json!({"endpoints": [format!("http://127.0.0.1:{}", free_port())]});
    let keygate = Keygate::serve(&settings, &json!({"tracing": collector.settings}));
    assert_eq!(keygate.call("/orders", "wrong").await.status(), 401);
    assert_eq!(keygate.call("/open", "").await.status(), 502);
    let purge = keygate.http.request("PURGE".parse().unwrap(), format!("{}/nowhere", keygate.gateway));
    assert_eq!(purge.send().await.unwrap().status(), 404);

    let spans = collector.trace_of("GET orders").await;
    let span = one(&spans, "GET orders");
    assert_eq!(span.attributes["keygate.rejection"], "credential_invalid");
    assert!(!span.is_error && span.attributes.get("error.type").is_none(), "{span:?}");
    assert!(span.parent.is_empty(), "{span:?}");
    let spans = collector.trace_of("GET open").await;
    let span = one(&spans, "GET open");
    assert!(span.is_error, "{span:?}");
    assert_eq!(span.attributes["error.type"], "upstream_unreachable");
    let spans = collector.trace_of("HTTP").await;
    let attributes = &one(&spans, "HTTP").attributes;
    assert_eq!(
        [&attributes["http.request.method"], &attributes["http.request.method_original"]],
        ["_OTHER", "PURGE"],
        "{attributes}"
    );
    assert_eq!(attributes.get("http.route"), None);
}

#[tokio::test]
async fn client_decides_whether_its_trace_is_recorded_and_the_rate_decides_about_others() {
    for (rate, unsampled, sampled) in [(0, None, "01"), (1, Some("00"), "01")] {
        let upstream = Upstream::start();
        let collector = Collector::start(Protocol::Http).await;
        let mut tracing = collector.settings.clone();
        tracing["sample_rate"] = rate.into();
        let keygate = Keygate::serve(&gateway(&upstream.url), &json!({"tracing": tracing}));
        let call = async |flags: Option<&str>| {
            let mut request = keygate.http.get(format!("{}/open/{}", keygate.gateway, flags.unwrap_or("new")));
            if let Some(flags) = flags {
                request = request.header("traceparent", parent(flags));
            }
            assert_eq!(request.send().await.unwrap().status(), 200);
            received(&upstream, "traceparent").unwrap()
        };
        let parent = call(unsampled).await;
        assert!(parent.ends_with("-00") && !parent.contains(CALLER), "{parent}");
        assert!(call(Some(sampled)).await.ends_with("-01"));
        // Spans are sent in the order in which the requests end.
        let spans = collector.trace_of("GET open").await;
        assert_eq!(spans[0].trace_id, TRACE);
        assert_eq!(one(&spans, "GET open").attributes["url.path"], "/open/01");
        assert!(collector.spans().iter().all(|span| span.trace_id == TRACE), "{:?}", collector.spans());
    }
}

#[tokio::test]
async fn malformed_context_is_replaced_by_a_new_trace() {
    let upstream = Upstream::start();
    let collector = Collector::start(Protocol::Http).await;
    let keygate = Keygate::serve(&gateway(&upstream.url), &json!({"tracing": collector.settings}));
    let valid = parent("01");
    for parents in [
        &["00-malformed"][..],
        &[&valid.to_uppercase()],
        &[&valid.replace(CALLER, "0000000000000000")],
        &[&valid, &valid],
        &[],
    ] {
        let mut request = keygate.http.get(format!("{}/open/1", keygate.gateway)).header("tracestate", "a=1");
        for parent in parents {
            request = request.header("traceparent", *parent);
        }
        assert_eq!(request.send().await.unwrap().status(), 200);
        let sent = received(&upstream, "traceparent").unwrap();
        assert!(sent.starts_with("00-") && sent.ends_with("-01") && sent.len() == 55, "{sent}");
        assert!(!sent.contains(TRACE) && !sent.contains(CALLER), "{sent}");
        assert_eq!(received(&upstream, "tracestate"), None, "{parents:?}");
        let head = upstream.heads().pop().unwrap();
        assert_eq!(head.to_lowercase().matches("traceparent").count(), 1, "{head}");
    }
    // A malformed state does not end the trace.
    let request = keygate.http.get(format!("{}/open/1", keygate.gateway)).header("traceparent", &valid);
    assert_eq!(request.header("tracestate", "A=1").send().await.unwrap().status(), 200);
    assert!(received(&upstream, "traceparent").unwrap().contains(TRACE));
    assert_eq!(received(&upstream, "tracestate"), None);
}

#[tokio::test]
async fn without_traces_the_context_passes_and_is_logged() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream.url), &json!({}));
    let request = keygate.http.get(format!("{}/open/1", keygate.gateway));
    let request = request.header("traceparent", parent("01")).header("tracestate", "a=1");
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(received(&upstream, "traceparent"), Some(parent("01")));
    assert_eq!(received(&upstream, "tracestate").as_deref(), Some("a=1"));
    assert_eq!(keygate.count("keygate_trace_spans_exported_total").await, None);
    assert!(keygate.whole_log().contains(&format!(r#""trace_id":"{TRACE}""#)));
}

#[tokio::test]
async fn collector_that_is_down_costs_only_spans() {
    let upstream = Upstream::start();
    for protocol in ["grpc", "http/protobuf"] {
        let tracing = json!({
            "enabled": true, "exporter": "otlp", "protocol": protocol, "sample_rate": 1,
            "endpoint": format!("127.0.0.1:{}", free_port())
        });
        let mut keygate = Keygate::serve(&gateway(&upstream.url), &json!({"tracing": tracing}));
        for _ in 0..20 {
            assert_eq!(keygate.call("/open/1", "").await.status(), 200);
        }
        let dropped = r#"keygate_trace_spans_dropped_total{reason="export_failed"}"#;
        // The request, its decision and its forwarding, twenty times.
        wait_for_count(&keygate, dropped, 60).await;
        assert_eq!(keygate.count("keygate_trace_spans_exported_total").await, Some(0));
        let log = keygate.whole_log();
        assert_eq!(log.matches("traces cannot be delivered").count(), 1, "{protocol}: {log}");
    }
}

#[tokio::test]
async fn credentials_and_queries_are_in_no_span() {
    let upstream = Upstream::start();
    let collector = Collector::start(Protocol::Grpc).await;
    let mut settings = gateway(&upstream.url);
    settings["credentials"] =
        json!([{"bearer": true}, {"header": "x-api-key"}, {"cookie": "token"}, {"query": "apikey"}]);
    let keygate = Keygate::serve(&settings, &json!({"tracing": collector.settings}));
    let (_, key) = keygate.issue(json!({})).await;
    let url = format!("{}/orders/1", keygate.gateway);
    let requests = [
        keygate.http.get(&url).bearer_auth(&key),
        keygate.http.get(&url).header("x-api-key", &key),
        keygate.http.get(&url).header("cookie", format!("token={key}")),
        keygate.http.get(format!("{url}?apikey={key}")),
    ];
    for request in requests {
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    for fields in ["bearer_wrong-key", "x y"] {
        keygate.http.get(&url).header("x-api-key", fields).send().await.unwrap();
    }
    let verify = json!({"credential": key});
    assert_eq!(keygate.post("apiKeys:verify", &verify).await.status(), 200);
    let last = keygate.http.get(format!("{}/open/last?token=in-the-query", keygate.gateway)).send().await.unwrap();
    assert_eq!(last.status(), 200);
    collector.trace_of("GET open").await;
    collector.trace_of("POST /v2alpha1/admin/apiKeys:verify").await;
    let text = collector.text();
    assert!(collector.spans().iter().filter(|span| span.name == "GET orders").count() == 6, "{text}");
    for secret in [&*key, &key[12..60], "wrong-key", "in-the-query", "apikey="] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn check_of_another_proxy_is_a_span() {
    let collector = Collector::start(Protocol::Http).await;
    let address = format!("127.0.0.1:{}", free_port());
    let settings = json!({"tracing": collector.settings, "external_auth": {"address": address}});
    let routes = json!({"enabled": false, "routes": [{"name": "orders", "path_prefix": "/orders"}]});
    let keygate = Keygate::serve(&routes, &settings);
    let (_, key) = keygate.issue(json!({})).await;
    let check = keygate.http.put(format!("http://{address}/envoy/orders/1")).bearer_auth(&key);
    let answer = check.header("traceparent", parent("01")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    // The proxy calls the upstream, so the span of its call is its own.
    assert!(!answer.headers().contains_key("traceparent"));
    let spans = collector.trace_of("PUT orders").await;
    let span = one(&spans, "PUT orders");
    assert_eq!((&*span.trace_id, &*span.parent), (TRACE, CALLER));
    assert_eq!(one(&spans, "keygate.decision").parent, span.id);
    assert_eq!(spans.iter().filter(|span| span.kind == 3).count(), 0);
}

#[tokio::test]
async fn service_behind_the_layer_continues_the_trace() {
    let collector = Collector::start(Protocol::Grpc).await;
    let secret = "a secret of at least 32 characters".to_owned();
    let mut config = Config::new("https://keys.example.com".into(), secret.into(), "sqlite://:memory:".into());
    config.tracing = serde_json::from_value::<TracingConfig>(collector.settings.clone()).unwrap();
    let engine = Engine::builder(config).start().await.unwrap();
    let layer = AuthLayer::new(&engine).without_auth();
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let parent = request.headers()["traceparent"].clone();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::copy_from_slice(parent.as_bytes()))))
    }));
    let request = Request::get("/orders/1").header("host", "api.example.com").header("traceparent", parent("01"));
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let inner = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    // The last spans are sent before the engine has stopped.
    engine.stop().await;
    let spans = collector.spans();
    let span = one(&spans, "GET layer");
    assert_eq!((&*span.trace_id, &*span.parent), (TRACE, CALLER));
    assert_eq!(inner, format!("00-{TRACE}-{}-01", span.id));
}
