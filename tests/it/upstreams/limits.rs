//! Limits of requests in flight, and of requests that wait.

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use super::instance::{Instance, Reply};
use super::load::send;
use super::{endpoint_metric, start_with};
use crate::support::keygate::Keygate;
use crate::support::wait::{wait_for, wait_for_count};

const WAITING: &str = r#"keygate_upstream_waiting{upstream="api"}"#;

/// Sends a request in the background.
fn spawn(keygate: &Keygate, path: &str) -> tokio::task::JoinHandle<u16> {
    let url = format!("{}{path}", keygate.gateway);
    tokio::spawn(async move { send(&Client::new(), &Method::GET, &url).await })
}

async fn arrived(instance: &Instance, wanted: usize) {
    wait_for(async || match instance.count() {
        count if count == wanted => Ok(()),
        count => Err(format!("{count} of {wanted} requests arrived")),
    })
    .await;
}

async fn overloaded(response: Response) -> Value {
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(response.headers().get("connection").is_none_or(|value| value != "close"), "{response:?}");
    response.json().await.unwrap()
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_and_those_beyond_the_queue_are_rejected() {
    let instance = Instance::start(|_| Reply::Hold);
    let pool = json!({"max_requests": 2, "max_waiting": 2, "wait_timeout": "30s"});
    let keygate = start_with(std::slice::from_ref(&instance.url), &json!({"pool": pool}));
    let held = [spawn(&keygate, "/1"), spawn(&keygate, "/2")];
    arrived(&instance, 2).await;
    let mut waiting = Vec::new();
    for number in 1..=2 {
        waiting.push(spawn(&keygate, "/waiting"));
        wait_for_count(&keygate, WAITING, number).await;
    }
    let rejected = keygate.http.get(&keygate.gateway).send().await.unwrap();
    assert_eq!(overloaded(rejected).await["code"], "upstream_overloaded");
    let grpc = keygate.http.post(&keygate.gateway).header("content-type", "application/grpc");
    assert_eq!(grpc.send().await.unwrap().headers()["grpc-status"], "14");
    assert_eq!(instance.count(), 2);
    assert_eq!(endpoint_metric(&keygate, "keygate_upstream_requests_in_flight", &instance.url, "").await, 2);

    instance.release();
    for task in held.into_iter().chain(waiting) {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(instance.count(), 4);
    wait_for_count(&keygate, WAITING, 0).await;
}

#[tokio::test]
async fn wait_is_bounded_in_time() {
    let instance = Instance::start(|_| Reply::Hold);
    let pool = json!({"max_requests": 1, "wait_timeout": "50ms"});
    let mut keygate = start_with(std::slice::from_ref(&instance.url), &json!({"pool": pool}));
    let held = spawn(&keygate, "/");
    arrived(&instance, 1).await;
    overloaded(keygate.http.get(&keygate.gateway).send().await.unwrap()).await;
    instance.release();
    assert_eq!(held.await.unwrap(), 200);
    let log = keygate.whole_log();
    assert!(!log.contains("Fail to proxy"), "{log}");
}

#[tokio::test]
async fn full_endpoint_is_skipped() {
    let (full, free) = (Instance::start(|_| Reply::Hold), Instance::healthy());
    let pool = json!({"max_requests": 1, "max_waiting": 0});
    let keygate = start_with(&[full.url.clone(), free.url.clone()], &json!({"pool": pool}));
    let mut held = Vec::new();
    while full.count() == 0 {
        held.push(spawn(&keygate, "/"));
        wait_for(async || if full.count() + free.count() >= held.len() { Ok(()) } else { Err("on its way".into()) })
            .await;
    }
    for _ in 0..10 {
        assert_eq!(send(&keygate.http, &Method::GET, &keygate.gateway).await, 200);
    }
    assert_eq!(full.count(), 1);
    full.release();
    for task in held {
        assert_eq!(task.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn idle_connections_are_closed_after_the_idle_timeout() {
    let instance = Instance::healthy();
    let keygate = start_with(std::slice::from_ref(&instance.url), &json!({"pool": {"idle_timeout": "200ms"}}));
    assert_eq!(send(&keygate.http, &Method::GET, &keygate.gateway).await, 200);
    let connections = async |state: &str| {
        let state = format!("state=\"{state}\",");
        let endpoint = instance.url.trim_start_matches("http://");
        let name = format!(r#"keygate_upstream_connections{{endpoint="{endpoint}",{state}upstream="api"}}"#);
        keygate.count(&name).await.unwrap()
    };
    wait_for(async || match (connections("open").await, connections("idle").await) {
        (0, 0) => Ok(()),
        counts => Err(format!("open and idle: {counts:?}")),
    })
    .await;
    assert_eq!(send(&keygate.http, &Method::GET, &keygate.gateway).await, 200);
    assert!(instance.received().iter().all(|request| request.on_connection == 1 && request.method == "GET"));
}
