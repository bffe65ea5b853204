//! The Tower layer, around services of this process.

use std::convert::Infallible;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use keygate::config::{Config, CredentialLocation};
use keygate::engine::{Engine, RunningEngine};
use keygate::id::{KeyKind, TenantId};
use keygate::layer::{AuthLayer, ClientIp, LimitState, Principal};
use keygate::lifecycle::{ListKeys, UsageRange, UsageStep};
use keygate::request_context::RequestContext;
use keygate::store::MemoryStore;
use keygate::testing;
use keygate_test_servers::Postgres;
use prometheus::Registry;
use secrecy::ExposeSecret;
use serde_json::Value;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::wait::wait_for;

/// Answers with the actor, `-` for an anonymous caller, and the names of the fields that it got.
async fn echo(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
    let actor = request.extensions().get::<Principal>().map_or("-", Principal::actor_id);
    let mut names: Vec<_> = request.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    Ok(Response::new(Full::from(format!("{actor} {}", names.join(" ")))))
}

fn request(key: &str) -> http::request::Builder {
    let builder = Request::get("/orders").header("host", "api.example.com");
    if key.is_empty() { builder } else { builder.header("authorization", format!("Bearer {key}")) }
}

/// The status, fields and body of the response of a layer around [`echo`].
async fn send(layer: &AuthLayer, request: Request<()>) -> (StatusCode, HeaderMap, String) {
    let response = layer.layer(service_fn(echo)).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn send_key(layer: &AuthLayer, key: &str) -> (StatusCode, HeaderMap, String) {
    send(layer, request(key).body(()).unwrap()).await
}

async fn engine_with_limit(quota: u64) -> RunningEngine {
    let config = Config::new(
        "https://keys.example.com".into(),
        "a secret of at least 32 characters".to_owned().into(),
        "sqlite://:memory:".into(),
    );
    let quota = NonZeroU64::new(quota).unwrap();
    let engine = Engine::builder(config).store(Arc::new(MemoryStore::default()));
    engine.limit("burst", quota, Duration::from_secs(3600)).start().await.unwrap()
}

#[tokio::test]
async fn service_gets_the_principal_and_no_credential() {
    let engine = testing::engine().await;
    let key = testing::issue_key(&engine, "ana", ["orders:read"]).await;
    let layer = AuthLayer::new(&engine).require_scopes(["orders:read"]);
    let sent = request(&key)
        .header("x-keygate-actor-id", "root")
        .header("x_keygate_scopes", "all")
        .header("x-forwarded-for", "192.0.2.7")
        .header("te", "trailers");
    let (status, _, body) = send(&layer, sent.body(()).unwrap()).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "ana host te x-forwarded-for"));
}

#[tokio::test]
async fn layer_reads_the_locations_that_it_is_given() {
    let engine = testing::engine().await;
    let key = testing::issue_key(&engine, "ana", ["a"]).await;
    let layer = AuthLayer::new(&engine).credentials([
        CredentialLocation::header("apikey"),
        CredentialLocation::cookie("token"),
        CredentialLocation::query("apikey"),
    ]);
    let target = async |request: Request<()>| Ok::<_, Infallible>(Response::new(Full::from(request.uri().to_string())));
    for (request, names, uri) in [
        (Request::get("/a?b=1").header("apikey", &key), "ana", "/a?b=1"),
        (Request::get("http://h/a?b=1").header("cookie", format!("token={key}")), "ana", "http://h/a?b=1"),
        (Request::get("/a").header("cookie", format!("a=1; token={key}")), "ana cookie", "/a"),
        (Request::get(format!("http://h:1/a?b=1&apikey={key}")), "ana", "http://h:1/a?b=1"),
        (Request::get(format!("/a?%61pikey={key}")), "ana", "/a"),
    ] {
        let request = request.body(()).unwrap();
        let response = layer.layer(service_fn(target)).oneshot(request.clone()).await.unwrap();
        let seen = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(seen, uri.as_bytes());
        let (status, _, body) = send(&layer, request).await;
        assert_eq!((status, body.trim_end()), (StatusCode::OK, names));
    }
    let (status, fields, _) = send_key(&layer, &key).await;
    assert_eq!(
        (status, fields["www-authenticate"].to_str().unwrap()),
        (StatusCode::UNAUTHORIZED, "Key realm=\"keygate\"")
    );
    let posted =
        Request::post("http://h/a").header("cookie", format!("token={key}")).header("origin", "https://evil.example");
    assert_eq!(send(&layer, posted.body(()).unwrap()).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
#[should_panic(expected = "credentials.1: is a duplicate")]
async fn contradictory_locations_of_a_layer_panic() {
    let engine = testing::engine().await;
    let _ = AuthLayer::new(&engine).credentials([CredentialLocation::bearer(), CredentialLocation::bearer()]);
}

#[tokio::test]
async fn principal_has_what_the_key_has() {
    let engine = engine_with_limit(10).await;
    let key = testing::issue_key(&engine, "ana", ["a", "b"]).await;
    let layer = AuthLayer::new(&engine).limit("burst").cost(3);
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let caller = request.extensions().get::<Principal>().unwrap();
        assert!(caller.has_scope("b") && !caller.has_scope("c"));
        assert!(caller.expire_time().is_some() && caller.metadata().is_empty() && caller.audiences().is_empty());
        let limits: Vec<LimitState<'_>> = caller.limits().collect();
        assert_eq!((limits[0].name, limits[0].quota, limits[0].remaining), ("burst", 10, 7));
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let response = service.oneshot(request(&key).body(()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn rejections_are_problems_with_the_request_id() {
    let engine = testing::engine().await;
    let key = testing::issue_key(&engine, "ana", ["a"]).await;
    let layer = AuthLayer::new(&engine);
    for (layer, key, status, code) in [
        (layer.clone(), "", 401, "credential_missing"),
        (layer.clone(), "no-key", 401, "credential_invalid"),
        (layer.clone().require_scopes(["b"]), &key, 403, "scope_insufficient"),
        (layer.clone().audience("billing"), &key, 401, "audience_mismatch"),
        (layer.optional(), "no-key", 401, "credential_invalid"),
    ] {
        let (actual, fields, body) = send(&layer, request(key).header("x-request-id", "r-1").body(()).unwrap()).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((actual.as_u16(), body["code"].as_str()), (status, Some(code)));
        assert_eq!(
            (&fields["content-type"], &body["request_id"]),
            (&"application/problem+json".parse().unwrap(), &"r-1".into())
        );
        assert!(fields.contains_key("www-authenticate"));
    }
}

#[tokio::test]
async fn grpc_request_is_rejected_with_a_grpc_status() {
    let engine = testing::engine().await;
    let key = testing::issue_key(&engine, "ana", ["a"]).await;
    let layer = AuthLayer::new(&engine).require_scopes(["b"]);
    for (key, grpc_status) in [("", "16"), (key.as_str(), "7")] {
        let sent = request(key).header("content-type", "application/grpc").body(()).unwrap();
        let (status, fields, body) = send(&layer, sent).await;
        assert_eq!(
            (status, &fields["grpc-status"], body.as_str()),
            (StatusCode::OK, &grpc_status.parse().unwrap(), "")
        );
    }
}

#[tokio::test]
async fn anonymous_request_passes_an_optional_route_without_a_principal() {
    let engine = testing::engine().await;
    let layer = AuthLayer::new(&engine).optional();
    let mut sent = request("").body(()).unwrap();
    // Of another layer, or of a client of this process: it is not this layer's.
    sent.extensions_mut().insert(testing::TestPrincipal::actor("root").build());
    assert_eq!(send(&layer, sent).await.2, "- host");
}

#[tokio::test]
async fn limit_is_shared_by_all_layers_that_name_it() {
    let engine = engine_with_limit(5).await;
    let key = testing::issue_key(&engine, "ana", ["a"]).await;
    let read = AuthLayer::new(&engine).limit("burst");
    let write = read.clone().cost(3);
    let (status, fields, _) = send_key(&write, &key).await;
    assert_eq!((status, fields["ratelimit-policy"].to_str().unwrap()), (StatusCode::OK, r#""burst";q=5;w=3600"#));
    assert!(fields["ratelimit"].to_str().unwrap().starts_with(r#""burst";r=2;"#));
    let (status, fields, body) = send_key(&write, &key).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(fields.contains_key("retry-after") && body.contains(r#""violated-policies":["burst"]"#));
    assert_eq!(send_key(&read, &key).await.0, StatusCode::OK);
}

#[tokio::test]
#[should_panic(expected = "there is no limit \"other\"")]
async fn unknown_limit_is_an_error_of_the_program() {
    let _ = AuthLayer::new(&engine_with_limit(5).await).limit("other");
}

#[tokio::test]
async fn address_bound_key_needs_a_known_address() {
    let engine = testing::engine().await;
    let draft = keygate::key::KeyDraft {
        name: "bound".into(),
        actor_id: "ana".into(),
        networks: keygate::cidr::CidrSet::parse(&["192.0.2.0/24".to_owned()]).unwrap(),
        ..Default::default()
    };
    let context = keygate::request_context::RequestContext::system(engine.config().tenant());
    let key = engine.lifecycle().issue(&context, draft).await.unwrap().secret.unwrap();
    let key = key.expose_secret();
    let layer = AuthLayer::new(&engine);
    assert_eq!(send_key(&layer, key).await.0, StatusCode::FORBIDDEN);
    for (address, status) in [("192.0.2.9", StatusCode::OK), ("198.51.100.1", StatusCode::FORBIDDEN)] {
        let mut sent = request(key).body(()).unwrap();
        sent.extensions_mut().insert(ClientIp(address.parse().unwrap()));
        assert_eq!(send(&layer, sent).await.0, status, "{address}");
        let from_field = layer.clone().client_ip(|fields, _| fields.get("x-client")?.to_str().ok()?.parse().ok());
        assert_eq!(send(&from_field, request(key).header("x-client", address).body(()).unwrap()).await.0, status);
    }
}

/// A service that is ready once it is released, and fails with its own error type.
#[derive(Clone)]
struct Failing(Arc<AtomicBool>);

#[derive(Debug, PartialEq)]
struct OwnError;

impl Service<Request<()>> for Failing {
    type Response = Response<Full<Bytes>>;
    type Error = OwnError;
    type Future = std::future::Ready<Result<Self::Response, OwnError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OwnError>> {
        if self.0.load(Ordering::Relaxed) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Err(OwnError))
    }
}

#[tokio::test]
async fn readiness_and_errors_are_those_of_the_service() {
    let engine = testing::engine().await;
    let key = testing::issue_key(&engine, "ana", ["a"]).await;
    let ready = Arc::new(AtomicBool::new(false));
    let mut service = AuthLayer::new(&engine).layer(Failing(Arc::clone(&ready)));
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut context).is_pending());
    ready.store(true, Ordering::Relaxed);
    assert!(service.poll_ready(&mut context).is_ready());
    // The first call looks the key up, the second finds it in the cache.
    for _ in 0..2 {
        assert_eq!(service.call(request(&key).body(()).unwrap()).await.err(), Some(OwnError));
    }
}

/// The value of a metric of requests of the layer.
fn requests(registry: &Registry, status: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "keygate_gateway_requests_total");
    let metrics = family.map(prometheus::proto::MetricFamily::get_metric).unwrap_or_default();
    let is_of = |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|label| label.value() == status);
    metrics.iter().filter(is_of).map(|metric| metric.get_counter().get_value()).sum()
}

#[tokio::test]
async fn every_request_is_counted_once_it_ends() {
    let registry = Registry::new();
    let config = Config::new(
        "https://keys.example.com".into(),
        "a secret of at least 32 characters".to_owned().into(),
        "sqlite://:memory:".into(),
    );
    let builder = Engine::builder(config).registry(registry.clone()).store(Arc::new(MemoryStore::default()));
    let engine = builder.start().await.unwrap();
    let key = testing::issue_key(&engine, "ana", ["a"]).await;
    let layer = AuthLayer::new(&engine);
    let in_flight = || engine.metrics().in_flight();

    let response = layer.layer(service_fn(echo)).oneshot(request(&key).body(()).unwrap()).await.unwrap();
    assert_eq!((in_flight(), requests(&registry, "200")), (1, 0.0), "its body was not read");
    response.into_body().collect().await.unwrap();
    assert_eq!((in_flight(), requests(&registry, "200")), (0, 1.0));

    let mut service = layer.layer(service_fn(async |_: Request<()>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
    }));
    let mut call = std::pin::pin!(service.call(request(&key).body(()).unwrap()));
    assert!(call.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
    assert_eq!(in_flight(), 1);
    call.set(service.call(request("").body(()).unwrap()));
    assert_eq!((in_flight(), requests(&registry, "499")), (1, 1.0), "the first call was cancelled");
    drop(call.await.unwrap());
    assert_eq!((in_flight(), requests(&registry, "401")), (0, 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_by_another_engine_takes_effect_within_a_second() {
    let postgres = Postgres::start();
    let start = async || {
        let mut config = Config::new(
            "https://keys.example.com".into(),
            "a secret of at least 32 characters".to_owned().into(),
            format!("{}?acquire_timeout=10s", postgres.url("postgres")),
        );
        config.db.auto_migrate = true;
        Engine::builder(config).start().await.unwrap()
    };
    let (here, there) = (start().await, start().await);
    let key = testing::issue_key(&there, "ana", ["a"]).await;
    let layer = AuthLayer::new(&here);
    assert_eq!(send_key(&layer, &key).await.0, StatusCode::OK);
    let verified = there
        .verifier()
        .verify(&keygate::verifier::Presented::new(there.config().tenant(), &key, std::time::Instant::now()))
        .await;
    let context = keygate::request_context::RequestContext::system(there.config().tenant());
    let id = verified.outcome.unwrap().key_id();
    there.lifecycle().revoke(&context, id, keygate::key::RevokeKey::default()).await.unwrap();
    wait_for(async || match send_key(&layer, &key).await.0 {
        StatusCode::UNAUTHORIZED => Ok(()),
        status => Err(format!("{status} instead of 401")),
    })
    .await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn requests_are_counted_in_the_usage_of_the_key() {
    let secret = "a secret of at least 32 characters".to_owned();
    let mut config = Config::new("https://keys.example.com".into(), secret.into(), "sqlite://:memory:".into());
    config.usage.flush_interval.0 = Duration::from_millis(20);
    let engine = Engine::builder(config).store(Arc::new(MemoryStore::default())).start().await.unwrap();
    let key = testing::issue_key(&engine, "ana", ["orders:read"]).await;
    let layer = AuthLayer::new(&engine).require_scopes(["orders:read"]);
    let (status, _, body) = send_key(&layer, &key).await;
    assert_eq!(status, StatusCode::OK);
    let refused = send_key(&AuthLayer::new(&engine).require_scopes(["orders:write"]), &key).await;
    assert_eq!(refused.0, StatusCode::FORBIDDEN);
    let context = RequestContext::system(TenantId::NIL);
    let keys = engine.lifecycle().list(&context, KeyKind::Issued, &ListKeys::default()).await.unwrap().keys;
    let usage = wait_for(async || {
        let range = UsageRange::new(None, None, UsageStep::Day, engine.lifecycle().now()).unwrap();
        let usage = engine.lifecycle().usage(&context, keys[0].id, &range).await.unwrap();
        if usage.total.counts.requests == 2 { Ok(usage) } else { Err(format!("{usage:?}")) }
    })
    .await;
    assert_eq!(usage.total.refusals.into_iter().collect::<Vec<_>>(), [("scope_insufficient".to_owned(), 1)]);
    assert_eq!(usage.total.counts.bytes_sent, (body.len() + refused.2.len()) as u64);
    engine.stop().await;
}
