//! Which requests are sent again, and how often.

use reqwest::{Client, Method, StatusCode};
use serde_json::json;

use super::instance::{Instance, Received, Reply};
use super::load::{Load, Statuses, burst, send};
use super::nginx::Nginx;
use super::{endpoint_metric, start_with};

/// Answers the first request of a connection, and closes the connection at the second.
fn closing(request: &Received) -> Reply {
    if request.on_connection == 1 { Reply::Status(200) } else { Reply::Close }
}

/// The statuses of requests with distinct paths, one after the other.
async fn sequence(url: &str, method: &Method, count: usize) -> Vec<u16> {
    let client = Client::new();
    let mut statuses = Vec::new();
    for number in 0..count {
        statuses.push(send(&client, method, &format!("{url}/{number}")).await);
    }
    statuses
}

#[tokio::test]
async fn request_that_is_dropped_unanswered_runs_at_most_once_and_attempts_times() {
    for (attempts, count) in [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (3, 2)] {
        // The connections of the pool are warm when the path `/dropped` comes.
        let drop = |request: &Received| {
            if request.path.starts_with("/dropped") { Reply::Close } else { Reply::Status(200) }
        };
        let instances: Vec<_> = (0..count).map(|_| Instance::start(drop)).collect();
        let urls: Vec<_> = instances.iter().map(|instance| instance.url.clone()).collect();
        let keygate = start_with(&urls, &json!({"retries": {"attempts": attempts}}));
        burst(&keygate, &Method::GET, 2).await;
        let response = keygate.http.get(format!("{}/dropped", keygate.gateway)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let runs = |instance: &Instance| instance.by_path().get("/dropped").copied().unwrap_or(0);
        let each: Vec<_> = instances.iter().map(runs).collect();
        let total: usize = each.iter().sum();
        assert!((1..=1 + attempts).contains(&total), "{attempts} attempts, {count} endpoints: {each:?}");
        if total <= count {
            assert!(each.iter().all(|runs| *runs <= 1), "another endpoint was left: {each:?}");
        }
    }
}

#[tokio::test]
async fn pooled_connection_that_turns_out_closed_is_not_noticed_by_idempotent_requests() {
    let instance = Instance::start(closing);
    let keygate = start_with(std::slice::from_ref(&instance.url), &json!({}));
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(sequence(&keygate.gateway, &method, 10).await, [200; 10]);
    }
    assert!(instance.by_path().values().all(|runs| *runs <= 4), "{:?}", instance.by_path());
    assert!(endpoint_metric(&keygate, "keygate_upstream_retries_total", &instance.url, "").await >= 9);
}

#[tokio::test]
async fn post_on_a_pooled_connection_that_turns_out_closed_is_sent_again_only_if_configured() {
    let instance = Instance::start(closing);
    let keygate =
        start_with(std::slice::from_ref(&instance.url), &json!({"retries": {"non_idempotent": "unanswered"}}));
    assert_eq!(sequence(&keygate.gateway, &Method::POST, 10).await, [200; 10]);
    assert!(instance.by_path().values().all(|runs| *runs <= 2), "{:?}", instance.by_path());

    let instance = Instance::start(closing);
    let keygate = start_with(std::slice::from_ref(&instance.url), &json!({}));
    let statuses = sequence(&keygate.gateway, &Method::POST, 10).await;
    assert_eq!(statuses, [200, 502, 200, 502, 200, 502, 200, 502, 200, 502]);
    // Each of them was delivered, once.
    assert!(instance.by_path().values().all(|runs| *runs == 1), "{:?}", instance.by_path());
    assert_eq!(instance.count(), 10);
}

#[tokio::test]
async fn post_on_a_new_connection_that_is_closed_is_sent_again_to_another_endpoint_only_if_configured() {
    for (retries, each) in [(json!({}), 1), (json!({"non_idempotent": "unanswered"}), 2)] {
        let (first, second) = (Instance::start(|_| Reply::Close), Instance::start(|_| Reply::Close));
        let settings = json!({"retries": retries, "ejection": {"max_percent": 0}});
        let keygate = start_with(&[first.url.clone(), second.url.clone()], &settings);
        assert_eq!(sequence(&keygate.gateway, &Method::POST, 4).await, [502; 4]);
        assert_eq!(first.count() + second.count(), 4 * each);
        assert!(first.by_path().values().chain(second.by_path().values()).all(|runs| *runs == 1));
    }
}

#[tokio::test]
async fn post_that_is_not_answered_in_time_is_never_sent_again() {
    let (first, second) = (Instance::start(|_| Reply::Hold), Instance::start(|_| Reply::Hold));
    let settings = json!({"first_byte_timeout": "200ms", "retries": {"non_idempotent": "unanswered"}});
    let keygate = start_with(&[first.url.clone(), second.url.clone()], &settings);
    assert_eq!(sequence(&keygate.gateway, &Method::POST, 2).await, [504; 2]);
    assert_eq!(first.count() + second.count(), 2);
}

#[tokio::test]
async fn request_is_not_sent_again_once_a_byte_of_a_response_came() {
    let (first, second) = (Instance::start(|_| Reply::PartialHead), Instance::start(|_| Reply::PartialHead));
    let keygate = start_with(&[first.url.clone(), second.url.clone()], &json!({"retries": {"attempts": 3}}));
    assert_eq!(sequence(&keygate.gateway, &Method::GET, 4).await, [502; 4]);
    assert_eq!(first.count() + second.count(), 4);
}

#[tokio::test]
async fn retries_stay_within_the_budget() {
    let (first, second) = (Instance::start(|_| Reply::Close), Instance::start(|_| Reply::Close));
    let settings = json!({"retries": {"budget_percent": 20}, "ejection": {"max_percent": 0}});
    let keygate = start_with(&[first.url.clone(), second.url.clone()], &settings);
    assert_eq!(burst(&keygate, &Method::GET, 40).await, Statuses::from([(502, 640)]));
    let retries = first.count() + second.count() - 640;
    // 20 % of them, or the minimum if the time began anew meanwhile; callers at the same moment may exceed it.
    assert!((100..=260).contains(&retries), "{retries} retries of 640 requests");
}

#[tokio::test]
async fn body_is_sent_again_only_while_it_is_kept() {
    let instance = Instance::start(closing);
    let keygate = start_with(std::slice::from_ref(&instance.url), &json!({}));
    for (length, status) in [(10_000, 200), (1_000_000, 502)] {
        // Over the same connection, so that the same worker has the pooled connection to the upstream.
        let first = keygate.http.get(&keygate.gateway).send().await.unwrap();
        assert_eq!((first.status().as_u16(), first.bytes().await.is_ok()), (200, true));
        let request = keygate.http.put(format!("{}/{length}", keygate.gateway)).body(vec![b'a'; length]);
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{length}");
        if status == 200 {
            assert_eq!(instance.by_path()[&format!("/{length}")], 2);
        }
    }
}

#[tokio::test]
async fn nginx_that_closes_connections_is_not_noticed() {
    // The first closes each connection after a few requests, the second after a moment without one.
    let settings = ["keepalive_requests 3;", "keepalive_timeout 1;"];
    let Some(instances) = settings.map(Nginx::start).into_iter().collect::<Option<Vec<_>>>() else { return };
    let urls: Vec<_> = instances.iter().map(Nginx::url).collect();
    let keygate = start_with(&urls, &json!({"retries": {"non_idempotent": "unanswered"}}));
    for method in [Method::GET, Method::POST] {
        let load = Load::start(&keygate, &method, 8);
        load.goes_on(600).await;
        let statuses = load.stop().await;
        assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{method} {statuses:?}");
    }
}
