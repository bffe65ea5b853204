//! Requests and reloads at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use super::{change, gateway, logged, reload};
use crate::support::kept_connection::KeptConnection;
use crate::support::keygate::Keygate;
use crate::support::upstream::Upstream;

const CLIENTS: usize = 8;

#[tokio::test]
async fn no_request_fails_through_ten_reloads_and_a_bad_file() {
    let (one, two) = (Upstream::start(), Upstream::start());
    let mut settings = gateway(&one);
    settings["routes"][0]["auth"] = json!("required");
    let keygate = Keygate::serve(&settings, &json!({}));
    let (_, key) = keygate.issue(json!({})).await;
    let fields = format!("Authorization: Bearer {key}\r\n");
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..CLIENTS).map(|_| {
        let (stop, count, url, fields) =
            (Arc::clone(&stop), Arc::clone(&count), keygate.gateway.clone(), fields.clone());
        std::thread::spawn(move || {
            let mut connection = KeptConnection::open(&url);
            while !stop.load(Ordering::Relaxed) {
                let answer = connection.get("/a/load", &fields);
                assert_eq!(answer.status, 200, "{answer:?}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for turn in 0..10 {
        let endpoint = if turn % 2 == 0 { &two.url } else { &one.url };
        let before = count.load(Ordering::Relaxed);
        reload(&keygate, &json!({"gateway": {"upstreams": {"one": {"endpoints": [endpoint]}}}})).await;
        assert!(count.load(Ordering::Relaxed) > before, "requests are served meanwhile");
    }
    change(&keygate, &json!({"gateway": {"routes": [{"name": "a", "upstream": "none"}]}}));
    logged(&keygate, "the last good one stays in effect", 1).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(!one.heads().is_empty() && !two.heads().is_empty());
}

#[tokio::test]
async fn request_in_flight_keeps_its_route_and_upstream() {
    let one = Upstream::start();
    let keygate = Keygate::serve(&gateway(&one), &json!({}));
    let url = keygate.gateway.clone();
    let held = std::thread::spawn(move || KeptConnection::open(&url).get("/a/held", ""));
    one.holds(1).await;
    let respond = json!([{"name": "a", "path_prefix": "/a", "auth": "none", "upstream": null, "respond": {"status": 410, "body": "gone"}}]);
    reload(
        &keygate,
        &json!({"gateway": {"routes": respond, "upstreams": {"one": {"endpoints": ["http://127.0.0.1:9"]}}}}),
    )
    .await;
    let mut connection = KeptConnection::open(&keygate.gateway);
    let answer = connection.get("/a", "");
    assert_eq!((answer.status, answer.body.as_str()), (410, "gone"));
    one.release();
    assert_eq!(held.join().unwrap().status, 200);
}
