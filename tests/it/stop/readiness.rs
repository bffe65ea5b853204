//! `/health/ready` and the delay before the stop.

use keygate_test_servers::WAIT_TIMEOUT;
use reqwest::StatusCode;
use serde_json::json;

use super::gateway;
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

async fn readiness(url: &str) -> StatusCode {
    // A connection of its own, as probes of Kubernetes have.
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    client.get(format!("{url}/health/ready")).send().await.unwrap().status()
}

async fn is_not_ready(url: &str) {
    wait_for(async || match readiness(url).await {
        StatusCode::SERVICE_UNAVAILABLE => Ok(()),
        status => Err(format!("{url}: {status}")),
    })
    .await;
}

#[tokio::test]
async fn process_is_not_ready_and_serves_during_the_delay() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &json!({"serve": {"shutdown_delay": "10m"}}));
    for url in [&keygate.metrics, &keygate.admin] {
        assert_eq!(readiness(url).await, StatusCode::OK);
    }
    let mut kept = KeptConnection::open(&keygate.gateway);
    assert_eq!(kept.get("/a", "").status, 200);
    keygate.process.signal("TERM");
    for url in [&keygate.metrics, &keygate.admin] {
        is_not_ready(url).await;
    }
    for mut connection in [kept, KeptConnection::open(&keygate.gateway)] {
        for _ in 0..2 {
            let answer = connection.get("/a", "");
            assert!(answer.status == 200 && !answer.is_last(), "{answer:?}");
        }
    }
    keygate.process.signal("TERM");
    assert_eq!(keygate.process.wait(WAIT_TIMEOUT).code(), Some(130), "a second signal ends the process at once");
}

#[tokio::test]
async fn process_stops_after_the_delay() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &json!({"serve": {"shutdown_delay": "300ms"}}));
    keygate.process.signal("TERM");
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
    assert!(keygate.log().contains("the listeners go on for shutdown_delay"), "{}", keygate.log());
}

#[tokio::test]
async fn health_is_answered_until_the_last_request_has_ended() {
    let upstream = Upstream::start();
    let mut keygate = Keygate::serve(&gateway(&upstream), &json!({}));
    let mut held = KeptConnection::open(&keygate.gateway);
    held.send("/held", "");
    upstream.holds(1).await;
    super::stop(&keygate);
    is_not_ready(&keygate.metrics).await;
    for url in [&keygate.metrics, &keygate.admin] {
        let answer = KeptConnection::open(url).get("/health/alive", "");
        assert!(answer.status == 200 && answer.is_last(), "{answer:?}");
    }
    upstream.release();
    let answer = held.answer();
    assert!(answer.status == 200 && answer.is_last(), "{answer:?}");
    assert!(keygate.process.wait(WAIT_TIMEOUT).success());
}
