//! Active health checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use keygate_test_servers::free_port;
use reqwest::Method;
use serde_json::{Value, json};
use tonic::server::NamedService;

use super::instance::{Instance, Reply};
use super::load::{Statuses, burst};
use super::{endpoint_metric, start_with};
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

async fn wait_for_health(keygate: &Keygate, url: &str, wanted: u64) {
    wait_for(async || match endpoint_metric(keygate, "keygate_upstream_healthy", url, "").await {
        healthy if healthy == wanted => Ok(()),
        healthy => Err(format!("keygate_upstream_healthy of {url} is {healthy}")),
    })
    .await;
}

async fn ready(keygate: &Keygate) -> Value {
    let response = keygate.http.get(format!("{}/health/ready", keygate.metrics)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test]
async fn change_of_health_is_shown_and_logged_once() {
    let is_healthy = Arc::new(AtomicBool::new(true));
    let shared = Arc::clone(&is_healthy);
    let instance = Instance::start(move |request| match &*request.path {
        "/health" if !shared.load(Ordering::SeqCst) => Reply::Status(503),
        _ => Reply::Status(200),
    });
    let other = Instance::healthy();
    let check = json!({"path": "/health", "interval": "30ms", "unhealthy_after": 2, "healthy_after": 2});
    let mut keygate = start_with(&[instance.url.clone(), other.url.clone()], &json!({"health_check": check}));
    wait_for_health(&keygate, &instance.url, 1).await;
    let endpoint = instance.url.trim_start_matches("http://");
    let shown = |healthy: bool| json!({"healthy": healthy, "ejected": false});
    assert_eq!(ready(&keygate).await["upstreams"]["api"][endpoint], shown(true));

    is_healthy.store(false, Ordering::SeqCst);
    wait_for_health(&keygate, &instance.url, 0).await;
    assert_eq!(ready(&keygate).await["upstreams"]["api"][endpoint], shown(false));
    let requests = |instance: &Instance| instance.received().iter().filter(|request| request.path != "/health").count();
    let before = requests(&instance);
    assert_eq!(burst(&keygate, &Method::GET, 5).await, Statuses::from([(200, 80)]));
    assert_eq!(requests(&instance), before);

    is_healthy.store(true, Ordering::SeqCst);
    wait_for_health(&keygate, &instance.url, 1).await;
    let log = keygate.whole_log();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines("is unhealthy"), lines("is healthy again")), (1, 1), "{log}");
    assert_eq!(lines("status 503"), 1, "{log}");
}

#[tokio::test]
async fn unhealthy_endpoints_are_used_if_there_is_no_other() {
    let instance = Instance::start(|request| Reply::Status(if request.path == "/health" { 503 } else { 200 }));
    let check = json!({"path": "/health", "interval": "30ms", "unhealthy_after": 1});
    let keygate = start_with(std::slice::from_ref(&instance.url), &json!({"health_check": check}));
    wait_for_health(&keygate, &instance.url, 0).await;
    assert_eq!(burst(&keygate, &Method::GET, 5).await, Statuses::from([(200, 80)]));
}

#[tokio::test]
async fn tcp_check_finds_endpoints_that_refuse_connections() {
    let (instance, dead) = (Instance::healthy(), format!("http://127.0.0.1:{}", free_port()));
    let check = json!({"type": "tcp", "interval": "30ms", "unhealthy_after": 2});
    let keygate = start_with(&[instance.url.clone(), dead.clone()], &json!({"health_check": check}));
    wait_for_health(&keygate, &dead, 0).await;
    wait_for_health(&keygate, &instance.url, 1).await;
    assert_eq!(burst(&keygate, &Method::GET, 5).await, Statuses::from([(200, 80)]));
    let refused = r#"outcome="connect_error","#;
    assert_eq!(endpoint_metric(&keygate, "keygate_upstream_requests_total", &dead, refused).await, 0);
}

/// The service `grpc.health.v1.Health` of a tonic server, for the service `orders`.
#[derive(Clone)]
struct Health {
    is_serving: Arc<AtomicBool>,
}

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl tower_service::Service<http::Request<tonic::body::Body>> for Health {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let is_serving = self.is_serving.load(Ordering::SeqCst);
        Box::pin(async move {
            let is_check = request.uri().path() == "/grpc.health.v1.Health/Check";
            let message = request.into_body().collect().await.unwrap().to_bytes();
            let is_known = is_check && message[..] == *b"\0\0\0\0\x08\x0a\x06orders";
            let status = if is_known { "0" } else { "5" };
            let answer = [0, 0, 0, 0, 2, 8, if is_serving { 1 } else { 2 }];
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", status.parse().unwrap());
            let body = Full::new(Bytes::copy_from_slice(&answer)).with_trailers(std::future::ready(Some(Ok(trailers))));
            let response = http::Response::builder().header("content-type", "application/grpc");
            Ok(response.body(tonic::body::Body::new(body)).unwrap())
        })
    }
}

#[tokio::test]
async fn grpc_check_asks_the_health_service() {
    let is_serving = Arc::new(AtomicBool::new(true));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let health = Health { is_serving: Arc::clone(&is_serving) };
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    let check = |service: &str| {
        let check =
            json!({"type": "grpc", "service": service, "interval": "30ms", "unhealthy_after": 1, "healthy_after": 1});
        json!({"protocol": "http2", "health_check": check})
    };
    let keygate = start_with(std::slice::from_ref(&url), &check("orders"));
    wait_for_health(&keygate, &url, 1).await;
    for healthy in [false, true, false] {
        is_serving.store(healthy, Ordering::SeqCst);
        wait_for_health(&keygate, &url, healthy.into()).await;
    }
    is_serving.store(true, Ordering::SeqCst);
    let keygate = start_with(std::slice::from_ref(&url), &check("unknown"));
    wait_for_health(&keygate, &url, 0).await;
}
