//! Timeouts of upstreams and routes: 504 before a response, and a response that is broken off within it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use keygate_test_servers::WAIT_TIMEOUT;
use reqwest::Version;
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message};

use super::stream_upstream::{StreamUpstream, TICK};
use super::{connect, echo, get, logged, open_socket, rest};
use crate::support::keygate::{Keygate, merge};
use crate::support::listeners::{ListenerKind, Listeners, Protocol};

/// What a timeout is at least, as the clock of connections has ticks of 100 ms.
const TICK_OF_CLOCK: Duration = Duration::from_millis(100);

/// A gateway without credentials; the upstream has these timeouts.
fn gateway(upstream: &StreamUpstream, timeouts: &Value) -> Value {
    let mut gateway = json!({
        "routes": [{"name": "all", "upstream": "api", "auth": "none"}],
        "upstreams": {"api": {"endpoints": [upstream.url]}}
    });
    merge(&mut gateway["upstreams"]["api"], timeouts);
    gateway
}

fn start(upstream: &StreamUpstream, timeouts: &Value) -> Keygate {
    Keygate::serve(&gateway(upstream, timeouts), &json!({}))
}

#[tokio::test]
async fn response_that_does_not_begin_in_time_is_504_on_every_protocol() {
    let upstream = StreamUpstream::start();
    for timeouts in [json!({"first_byte_timeout": "600ms"}), json!({"total_timeout": "600ms"})] {
        let listeners = Listeners::new();
        let _keygate = listeners.serve(&gateway(&upstream, &timeouts), &json!({}));
        for (kind, protocol) in ListenerKind::BY_URL
            .into_iter()
            .flat_map(|kind| [Protocol::Http1, Protocol::Http2].map(|protocol| (kind, protocol)))
        {
            let client = listeners.client(kind, protocol);
            for (body, accept) in [("", "*/*"), ("some", "*/*"), ("", "text/event-stream")] {
                let begun = Instant::now();
                let request =
                    client.post(format!("{}/silent", listeners.url(kind))).header("accept", accept).body(body);
                let response = request.send().await.unwrap();
                assert_eq!(response.version() == Version::HTTP_2, protocol == Protocol::Http2);
                assert_eq!(response.status(), 504, "{kind:?} {protocol:?} {timeouts}");
                let problem: Value = response.json().await.unwrap();
                assert_eq!(problem["code"], "upstream_timeout");
                assert!(begun.elapsed() + TICK_OF_CLOCK >= Duration::from_millis(600), "{:?}", begun.elapsed());
            }
        }
    }
}

#[tokio::test]
async fn response_that_falls_silent_is_broken_off() {
    let upstream = StreamUpstream::start();
    let listeners = Listeners::new();
    let settings = gateway(&upstream, &json!({"first_byte_timeout": "10s", "read_timeout": "500ms"}));
    let mut keygate = listeners.serve(&settings, &json!({}));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = listeners.client(ListenerKind::Tls, protocol);
        let begun = Instant::now();
        let response = client.get(format!("{}/stalled", listeners.url(ListenerKind::Tls))).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.bytes().await.is_err(), "the body is incomplete");
        assert!(begun.elapsed() + TICK_OF_CLOCK >= Duration::from_millis(500), "{:?}", begun.elapsed());
    }
    let expected = (200, "read_timeout".to_owned(), true);
    assert_eq!(logged(&keygate.whole_log(), "/stalled"), [expected.clone(), expected]);
}

#[tokio::test]
async fn response_that_takes_too_long_is_broken_off() {
    let upstream = StreamUpstream::start();
    let listeners = Listeners::new();
    let settings = gateway(&upstream, &json!({"total_timeout": "1s"}));
    let mut keygate = listeners.serve(&settings, &json!({}));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = listeners.client(ListenerKind::Tls, protocol);
        let begun = Instant::now();
        let response = client.get(format!("{}/drip", listeners.url(ListenerKind::Tls))).send().await.unwrap();
        assert!(response.bytes().await.is_err(), "the body is incomplete");
        assert!(begun.elapsed() + TICK_OF_CLOCK >= Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let expected = (200, "total_timeout".to_owned(), true);
    assert_eq!(logged(&keygate.whole_log(), "/drip"), [expected.clone(), expected]);
}

#[tokio::test]
async fn route_has_its_own_timeouts() {
    let upstream = StreamUpstream::start();
    let mut settings = gateway(&upstream, &json!({"first_byte_timeout": "300ms"}));
    let patient = json!({
        "name": "patient", "path_prefix": "/patient", "upstream": "api", "auth": "none",
        "timeouts": {"first_byte": "1500ms"}
    });
    settings["routes"].as_array_mut().unwrap().push(patient);
    let keygate = Keygate::serve(&settings, &json!({}));
    for (path, least) in [("/silent", 300), ("/patient/silent", 1_500)] {
        let begun = Instant::now();
        assert_eq!(keygate.call(path, "").await.status(), 504);
        assert!(begun.elapsed() + TICK_OF_CLOCK >= Duration::from_millis(least), "{path}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn time_for_the_first_byte_begins_after_the_request() {
    let upstream = StreamUpstream::start();
    let keygate = start(&upstream, &json!({"first_byte_timeout": "300ms"}));
    let mut stream = connect(&keygate.gateway);
    stream.write_all(b"POST /plain HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n").unwrap();
    for _ in 0..6 {
        // Longer than the timeout, all together.
        std::thread::sleep(Duration::from_millis(150));
        stream.write_all(b"x").unwrap();
    }
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

#[tokio::test]
async fn slow_client_is_not_a_silent_upstream() {
    let upstream = StreamUpstream::start();
    let keygate = start(&upstream, &json!({"first_byte_timeout": "10s", "read_timeout": "300ms"}));
    let mut stream = connect(&keygate.gateway);
    get(&mut stream, "/large", "", "\r\n\r\n");
    let mut bytes = vec![0; 64 * 1024];
    let mut received = 0;
    for _ in 0..10 {
        // The buffers between are full, and nothing is read from the upstream.
        std::thread::sleep(Duration::from_millis(150));
        received += stream.read(&mut bytes).unwrap();
    }
    while received < 16 * 1024 * 1024 {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "the response was broken off after {received} bytes");
        received += read;
    }
}

#[tokio::test]
async fn slow_client_of_http2_is_not_a_silent_upstream() {
    let upstream = StreamUpstream::start();
    let listeners = Listeners::new();
    let settings = gateway(&upstream, &json!({"first_byte_timeout": "10s", "read_timeout": "300ms"}));
    let keygate = listeners.serve(&settings, &json!({}));
    let client = listeners.client(ListenerKind::Tls, Protocol::Http2);
    let mut response = client.get(format!("{}/large", listeners.url(ListenerKind::Tls))).send().await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let mut received = response.chunk().await.unwrap().unwrap().len();
    // The window of the stream is full, and nothing is read from the upstream.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    while let Some(chunk) = response.chunk().await.unwrap() {
        received += chunk.len();
    }
    assert_eq!(received, 16 * 1024 * 1024);
    let endpoint = upstream.url.trim_start_matches("http://");
    let labels = format!(r#"{{endpoint="{endpoint}",outcome="timeout",upstream="api"}}"#);
    assert!(matches!(keygate.count(&format!("keygate_upstream_requests_total{labels}")).await, None | Some(0)));
}

#[tokio::test]
async fn event_stream_has_its_own_idle_time() {
    let upstream = StreamUpstream::start();
    let short = json!({"first_byte_timeout": "10s", "read_timeout": "100ms", "total_timeout": "3s", "stream_idle_timeout": "1s"});
    let listeners = Listeners::new();
    let mut keygate = listeners.serve(&gateway(&upstream, &short), &json!({}));
    let mut ticks = connect(&keygate.gateway);
    let begun = Instant::now();
    get(&mut ticks, "/ticks", "", &"9\r\ndata: 1\n\n\r\n".repeat(18));
    assert!(begun.elapsed() >= TICK * 17, "longer than any of the timeouts");
    drop(ticks);
    let mut events = connect(&keygate.gateway);
    get(&mut events, "/events", "", "data: 1\n\n\r\n");
    let begun = Instant::now();
    assert_eq!(rest(&mut events), "0\r\n\r\n");
    assert!(begun.elapsed() + TICK_OF_CLOCK >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let client = listeners.client(ListenerKind::Tls, Protocol::Http2);
    let request =
        client.get(format!("{}/events", listeners.url(ListenerKind::Tls))).header("accept", "text/event-stream");
    let begun = Instant::now();
    assert!(request.send().await.unwrap().bytes().await.is_err(), "the stream is reset");
    assert!(begun.elapsed() + TICK_OF_CLOCK >= Duration::from_secs(1), "{:?}", begun.elapsed());
    let expected = (200, "stream_idle_timeout".to_owned(), true);
    assert_eq!(logged(&keygate.whole_log(), "/events"), [expected.clone(), expected]);
}

#[tokio::test]
async fn websocket_is_closed_when_both_sides_are_silent() {
    let upstream = StreamUpstream::start();
    let short = json!({"first_byte_timeout": "10s", "read_timeout": "100ms", "total_timeout": "3s", "stream_idle_timeout": "1s"});
    let mut keygate = start(&upstream, &short);
    let mut socket = open_socket(connect(&keygate.gateway), "/socket", "").unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        echo(&mut socket, "hello");
        std::thread::sleep(Duration::from_millis(100));
    }
    let last = Instant::now();
    let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close frame") };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Away, "stream_idle_timeout"));
    assert!(matches!(socket.read().unwrap_err(), Error::ConnectionClosed));
    assert!(last.elapsed() < WAIT_TIMEOUT);
    upstream.has_open(0).await;
    assert_eq!(logged(&keygate.whole_log(), "/socket"), [(101, "stream_idle_timeout".to_owned(), true)]);
}
