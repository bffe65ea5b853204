//! Times and numbers of a connection.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{read_to_end, read_until, start, statuses};
use crate::support::client_stream::ClientStream;
use crate::support::listeners::ListenerKind;
use crate::support::raw_upstream::RawUpstream;
use crate::support::wait::wait_for;

/// Sends bytes one by one, 20 in a second, until the gateway closes the connection. Returns what it has sent.
fn drip(stream: &mut ClientStream, bytes: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Duration::from_millis(50));
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return received;
        }
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return received,
        }
    }
    panic!("the connection stays open after {received:?}")
}

#[tokio::test]
async fn slow_head_is_answered_with_408_and_a_silent_connection_is_closed() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"head_timeout": "1s"}));
    ListenerKind::each_at_once(|kind| {
        let started = Instant::now();
        assert_eq!(gateway.send(kind, b""), b"");
        assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
        // One byte at a time does not extend the limit.
        let head = format!("GET /a HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(10_000));
        let response = drip(&mut gateway.connect(kind), head.as_bytes());
        assert_eq!(statuses(&response), [408]);
        assert!(String::from_utf8(response).unwrap().contains("request_timeout"));
    });
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"idle_timeout": "1s", "head_timeout": "60s"}));
    ListenerKind::each_at_once(|kind| {
        let mut stream = gateway.connect(kind);
        for path in ["/a", "/keys"] {
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
            read_until(&mut stream, if path == "/a" { "ok" } else { "}" });
        }
        assert_eq!(read_to_end(&mut stream), b"");
    });
}

#[tokio::test]
async fn slow_body_is_answered_with_408() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"body_idle_timeout": "1s"}));
    ListenerKind::each_at_once(|kind| {
        for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
            let request = format!("POST /a HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n3");
            assert_eq!(statuses(&gateway.send(kind, request.as_bytes())), [408], "{framing}");
        }
    });
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn number_of_requests_on_a_connection_is_limited_and_the_last_response_says_so() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"requests_per_connection": 3}));
    let request = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n".repeat(5);
    for kind in ListenerKind::each() {
        let response = gateway.send(kind, request.as_bytes());
        let text = String::from_utf8(response).unwrap().to_ascii_lowercase();
        assert_eq!((text.matches("http/1.1 200").count(), text.matches("connection: close").count()), (3, 1));
        assert_eq!(upstream.take().len(), 3);
    }
}

#[tokio::test]
async fn age_of_a_connection_is_limited_and_the_last_response_says_so() {
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"connection_age": "1s"}));
    ListenerKind::each_at_once(|kind| {
        let mut stream = gateway.connect(kind);
        let started = Instant::now();
        loop {
            stream.write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            let head = read_until(&mut stream, "\r\n\r\nok").to_ascii_lowercase();
            if head.contains("connection: close") {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{head}");
        }
        assert!(started.elapsed() >= Duration::from_millis(900));
        assert_eq!(read_to_end(&mut stream), b"");
    });
}

#[tokio::test]
async fn client_that_does_not_read_is_given_up() {
    const SIZE: usize = 30_000_000;
    let upstream = RawUpstream::start();
    let gateway = start(&upstream, &json!({"response_stall_timeout": "1s"}));
    let connections: Vec<_> = ListenerKind::each()
        .map(|kind| {
            let mut stream = gateway.connect(kind);
            stream.write_all(format!("GET /big/{SIZE} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
            stream
        })
        .collect();
    wait_for(async || match gateway.requests("all").await {
        count if count == connections.len() as u64 => Ok(()),
        count => Err(format!("{count} requests are over")),
    })
    .await;
    for mut stream in connections {
        assert!(read_to_end(&mut stream).len() < SIZE);
    }
}
