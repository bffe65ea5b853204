//! Load balancing policies.

use std::collections::BTreeMap;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::instance::{Instance, Reply};
use super::load::{Statuses, burst, send};
use super::{start, start_with};
use crate::support::keygate::Keygate;
use crate::support::wait::wait_for;

/// The policy with a hash of a header.
fn by_session() -> Value {
    json!({"load_balancing": {"policy": "consistent_hash", "hash_by": "header", "header": "X-Session"}})
}

/// Which instance gets each of 100 sessions, and that it gets it each time.
async fn placement(keygate: &Keygate, instances: &[Instance]) -> BTreeMap<usize, usize> {
    let client = Client::new();
    let mut placed = BTreeMap::new();
    for session in 0..100 {
        for _ in 0..2 {
            let path = format!("/{session}");
            let before: Vec<_> = instances.iter().map(Instance::count).collect();
            let request = client.get(format!("{}{path}", keygate.gateway)).header("X-Session", session.to_string());
            assert_eq!(request.send().await.unwrap().status(), 200);
            let index =
                instances.iter().zip(&before).position(|(instance, before)| instance.count() > *before).unwrap();
            assert_eq!(*placed.entry(session).or_insert(index), index, "session {session}");
        }
    }
    placed
}

#[tokio::test]
async fn round_robin_follows_the_weights() {
    let instances = [Instance::healthy(), Instance::healthy()];
    let endpoints = json!([instances[0].url, {"url": instances[1].url, "weight": 3}]);
    let keygate = start(&json!({"endpoints": endpoints}));
    assert_eq!(burst(&keygate, &Method::GET, 10).await, Statuses::from([(200, 160)]));
    assert_eq!((instances[0].count(), instances[1].count()), (40, 120));
}

#[tokio::test]
async fn consistent_hash_keeps_a_session_at_its_endpoint() {
    let mut instances: Vec<_> = (0..3).map(|_| Instance::healthy()).collect();
    let urls: Vec<_> = instances.iter().map(|instance| instance.url.clone()).collect();
    let keygate = start_with(&urls, &by_session());
    let before = placement(&keygate, &instances).await;
    for index in 0..3 {
        assert!(before.values().filter(|placed| **placed == index).count() >= 10, "{before:?}");
    }
    // Only the sessions of an endpoint that is gone move.
    drop(instances.pop());
    let after = placement(&keygate, &instances).await;
    for (session, index) in &before {
        assert!(*index == 2 || after[session] == *index, "session {session} moved");
    }
}

#[tokio::test]
async fn consistent_hash_of_keys_separates_callers() {
    let instances: Vec<_> = (0..3).map(|_| Instance::healthy()).collect();
    let urls: Vec<_> = instances.iter().map(|instance| instance.url.clone()).collect();
    let upstream = json!({"endpoints": urls, "load_balancing": {"policy": "consistent_hash", "hash_by": "actor"}});
    let routes = json!([{"name": "all", "upstream": "api"}]);
    let keygate = Keygate::serve(&json!({"routes": routes, "upstreams": {"api": upstream}}), &json!({}));
    let mut used = BTreeMap::new();
    for actor in 0..12 {
        let (_, key) = keygate.issue(json!({"actor_id": format!("actor-{actor}")})).await;
        let before: Vec<_> = instances.iter().map(Instance::count).collect();
        for _ in 0..3 {
            assert_eq!(keygate.call("/", &key).await.status(), 200);
        }
        let counts: Vec<_> = instances.iter().zip(before).map(|(instance, before)| instance.count() - before).collect();
        let index = counts.iter().position(|count| *count == 3);
        *used.entry(index.unwrap_or_else(|| panic!("actor {actor}: {counts:?}"))).or_insert(0) += 1;
    }
    assert!(used.len() > 1, "{used:?}");
}

#[tokio::test]
async fn least_requests_avoids_a_busy_endpoint() {
    let busy = Instance::start(|request| if request.path == "/held" { Reply::Hold } else { Reply::Status(200) });
    let idle = Instance::start(|request| if request.path == "/held" { Reply::Hold } else { Reply::Status(200) });
    let keygate =
        start_with(&[busy.url.clone(), idle.url.clone()], &json!({"load_balancing": {"policy": "least_requests"}}));
    let url = format!("{}/held", keygate.gateway);
    let held = tokio::spawn(async move { send(&Client::new(), &Method::GET, &url).await });
    wait_for(async || match busy.count() + idle.count() {
        1 => Ok(()),
        count => Err(format!("{count} requests are held")),
    })
    .await;
    let free = if busy.count() == 0 { &busy } else { &idle };
    let client = Client::new();
    for number in 0..20 {
        assert_eq!(send(&client, &Method::GET, &format!("{}/{number}", keygate.gateway)).await, 200);
    }
    assert_eq!(free.count(), 20);
    busy.release();
    idle.release();
    assert_eq!(held.await.unwrap(), 200);
}
