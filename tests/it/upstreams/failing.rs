//! One of two and one of three endpoints fails, and no client notices.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use keygate_test_servers::free_port;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpSocket;

use super::instance::{Instance, Reply};
use super::load::{Load, Statuses, burst, send};
use super::nginx::Nginx;
use super::{endpoint_metric, start_with};
use crate::support::wait::wait_for;

/// A socket that drops new connections without a word: its backlog is full.
struct Swallowing {
    listener: TcpListener,
    _backlog: Vec<TcpStream>,
}

impl Swallowing {
    fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap().into_std().unwrap();
        let address = listener.local_addr().unwrap();
        let mut backlog = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            backlog.push(stream);
            assert!(backlog.len() < 256, "the backlog is never full");
        }
        Self { listener, _backlog: backlog }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }
}

/// An address that refuses connections: its socket does not listen, but no other process can use the port.
struct Refusing {
    _socket: TcpSocket,
    url: String,
}

impl Refusing {
    fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        Self { _socket: socket, url }
    }
}

fn all(count: usize) -> Statuses {
    Statuses::from([(200, count)])
}

#[tokio::test]
async fn endpoint_that_refuses_connections_is_not_noticed() {
    let (Some(first), Some(second)) = (Nginx::start(""), Nginx::start("")) else { return };
    let refusing = Refusing::start();
    let refused = || refusing.url.clone();
    for endpoints in [vec![first.url(), refused()], vec![first.url(), refused(), second.url()]] {
        // Without ejection, each second or third request meets the endpoint.
        for ejection in [json!({}), json!({"max_percent": 0})] {
            let keygate = start_with(&endpoints, &json!({"ejection": ejection}));
            for method in [Method::GET, Method::POST] {
                assert_eq!(burst(&keygate, &method, 20).await, all(320), "{method} {endpoints:?} {ejection}");
            }
            let refused = endpoint_metric(
                &keygate,
                "keygate_upstream_requests_total",
                &endpoints[1],
                r#"outcome="connect_error","#,
            )
            .await;
            assert!(if ejection == json!({}) { (3..100).contains(&refused) } else { refused >= 200 }, "{refused}");
        }
    }
}

#[tokio::test]
async fn endpoint_that_swallows_packets_is_not_noticed() {
    let swallowing = Swallowing::start();
    let (first, second) = (Instance::healthy(), Instance::healthy());
    for endpoints in
        [vec![first.url.clone(), swallowing.url()], vec![first.url.clone(), swallowing.url(), second.url.clone()]]
    {
        let keygate = start_with(&endpoints, &json!({"connect_timeout": "300ms"}));
        for method in [Method::GET, Method::POST] {
            assert_eq!(burst(&keygate, &method, 20).await, all(320), "{method} {endpoints:?}");
        }
    }
}

#[tokio::test]
async fn endpoint_that_fails_its_health_checks_is_not_noticed() {
    let failing = Instance::start(|request| Reply::Status(if request.path == "/health" { 503 } else { 500 }));
    let (first, second) = (Instance::healthy(), Instance::healthy());
    for healthy in [vec![&first], vec![&first, &second]] {
        let mut endpoints: Vec<_> = healthy.iter().map(|instance| instance.url.clone()).collect();
        endpoints.insert(0, failing.url.clone());
        let check = json!({"path": "/health", "interval": "50ms", "unhealthy_after": 2});
        let keygate = start_with(&endpoints, &json!({"health_check": check}));
        wait_for(async || match endpoint_metric(&keygate, "keygate_upstream_healthy", &failing.url, "").await {
            0 => Ok(()),
            _ => Err("it counts as healthy".into()),
        })
        .await;
        for method in [Method::GET, Method::POST] {
            assert_eq!(burst(&keygate, &method, 20).await, all(320), "{method}");
        }
    }
}

#[tokio::test]
async fn endpoint_that_is_killed_under_load_is_not_noticed() {
    for count in [2, 3] {
        let Some(mut instances) = (0..count).map(|_| Nginx::start("")).collect::<Option<Vec<_>>>() else { return };
        let urls: Vec<_> = instances.iter().map(Nginx::url).collect();
        let keygate = start_with(&urls, &json!({}));
        let load = Load::start(&keygate, &Method::GET, 16);
        load.goes_on(300).await;
        instances[0].kill();
        load.goes_on(600).await;
        let statuses = load.stop().await;
        assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
    }
}

#[tokio::test]
async fn endpoint_that_never_answers_is_not_noticed_by_idempotent_requests() {
    let (hung, healthy) = (Instance::start(|_| Reply::Hold), Instance::healthy());
    let settings = json!({"first_byte_timeout": "200ms", "ejection": {"max_percent": 0}});
    let keygate = start_with(&[hung.url.clone(), healthy.url.clone()], &settings);
    let put = keygate.http.put(&keygate.gateway).body("an order");
    assert_eq!(put.send().await.unwrap().status(), 200);
    for _ in 0..5 {
        assert_eq!(send(&keygate.http, &Method::GET, &keygate.gateway).await, 200);
    }
    // An instance may read a request after the gateway has given it up.
    wait_for(async || match (hung.count(), healthy.count()) {
        (3, 6) => Ok(()),
        counts => Err(format!("the instances got {counts:?} requests")),
    })
    .await;
    // A POST may have had its effect.
    let statuses = [
        send(&keygate.http, &Method::POST, &keygate.gateway).await,
        send(&keygate.http, &Method::POST, &keygate.gateway).await,
    ];
    assert_eq!(BTreeSet::from(statuses), BTreeSet::from([200, 504]));
    hung.release();
}

#[tokio::test]
async fn each_endpoint_is_tried_once_when_all_refuse() {
    let refusing: Vec<_> = (0..20).map(|_| Refusing::start()).collect();
    let endpoints: Vec<_> = refusing.iter().map(|refusing| refusing.url.clone()).collect();
    let keygate = start_with(&endpoints, &json!({"ejection": {"max_percent": 0}}));
    let response = keygate.http.post(&keygate.gateway).body("an order").send().await.unwrap();
    assert_eq!(response.status(), 502);
    for endpoint in &endpoints {
        let tried =
            endpoint_metric(&keygate, "keygate_upstream_requests_total", endpoint, r#"outcome="connect_error","#);
        assert_eq!(tried.await, 1, "{endpoint}");
    }
}

#[tokio::test]
async fn endpoint_is_ejected_and_returns_gradually() {
    let port = free_port();
    let dead = format!("http://127.0.0.1:{port}");
    let alive = Instance::healthy();
    let ejection = json!({"time": "600ms", "consecutive_failures": 3});
    let mut keygate = start_with(&[alive.url.clone(), dead.clone()], &json!({"ejection": ejection}));
    let ejections = async |keygate: &_| endpoint_metric(keygate, "keygate_upstream_ejections_total", &dead, "").await;
    let load = Load::start(&keygate, &Method::GET, 4);
    wait_for(async || if ejections(&keygate).await == 1 { Ok(()) } else { Err("not ejected".into()) }).await;
    // It fails again after its return, so the next ejection is longer.
    wait_for(async || if ejections(&keygate).await == 2 { Ok(()) } else { Err("not ejected again".into()) }).await;
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let returned = Instance::listen(TcpListener::bind(address).unwrap(), |_| Reply::Status(200));
    wait_for(async || match returned.count() {
        0 => Err("it gets no requests".into()),
        _ => Ok(()),
    })
    .await;
    let (before, alive_before) = (returned.count(), alive.count());
    load.goes_on(20).await;
    let (share, others) = (returned.count() - before, alive.count() - alive_before);
    let early = endpoint_metric(&keygate, "keygate_upstream_healthy", &dead, "").await;
    assert_eq!(early, 1);
    assert!(share <= others, "it gets {share} requests right after its return, the other one {others}");
    let statuses = load.stop().await;
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
    let log = keygate.whole_log();
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!((lines("is ejected for 600ms"), lines("is ejected for 1.2s")), (1, 1), "{log}");
    assert_eq!(lines("gets requests again after its ejection"), 2, "{log}");
}

#[tokio::test]
async fn last_endpoint_is_never_ejected() {
    let failing = Instance::start(|_| Reply::Close);
    let keygate = start_with(std::slice::from_ref(&failing.url), &json!({"ejection": {"max_percent": 100}}));
    assert_eq!(burst(&keygate, &Method::GET, 2).await, Statuses::from([(502, 32)]));
    assert_eq!(endpoint_metric(&keygate, "keygate_upstream_ejections_total", &failing.url, "").await, 0);
    assert_eq!(failing.count(), 32);
}

#[tokio::test]
async fn endpoint_that_falls_silent_within_responses_is_ejected_and_one_with_long_responses_is_not() {
    for (timeout, ejections) in [("read_timeout", 1), ("total_timeout", 0)] {
        let (stalling, healthy) = (Instance::start(|_| Reply::Stall), Instance::healthy());
        let settings = json!({"first_byte_timeout": "30s", timeout: "500ms"});
        let keygate = start_with(&[stalling.url.clone(), healthy.url.clone()], &settings);
        let mut incomplete = 0;
        for _ in 0..8 {
            // 0: the body is incomplete.
            incomplete += u64::from(send(&keygate.http, &Method::GET, &keygate.gateway).await == 0);
        }
        assert_eq!(incomplete, if ejections == 0 { 4 } else { 3 }, "{timeout}");
        let counted = endpoint_metric(&keygate, "keygate_upstream_ejections_total", &stalling.url, "").await;
        assert_eq!(counted, ejections, "{timeout}");
    }
}
