//! Times and numbers of a connection.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{connect, read_to_end, read_until, send, start, statuses};
use crate::support::raw_upstream::RawUpstream;

#[tokio::test]
async fn slow_head_is_answered_with_408_and_a_silent_connection_is_closed() {
    let upstream = RawUpstream::start();
    let keygate = start(&upstream, &json!({"head_timeout": "1s"}));
    let started = Instant::now();
    assert_eq!(send(&keygate, b""), b"");
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    let mut stream = connect(&keygate);
    let mut writer = stream.try_clone().unwrap();
    // One byte at a time does not extend the limit.
    let drip = std::thread::spawn(move || {
        for byte in b"GET /a HTTP/1.1\r\nHost: h\r\nX: ".iter().chain(std::iter::repeat_n(&b'x', 100_000)) {
            std::thread::park_timeout(Duration::from_millis(50));
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    let response = read_to_end(&mut stream);
    assert_eq!(statuses(&response), [408]);
    assert!(String::from_utf8(response).unwrap().contains("request_timeout"));
    drop(stream);
    drip.join().unwrap();
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let upstream = RawUpstream::start();
    let keygate = start(&upstream, &json!({"idle_timeout": "1s", "head_timeout": "60s"}));
    let mut stream = connect(&keygate);
    for path in ["/a", "/keys"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        read_until(&mut stream, if path == "/a" { "ok" } else { "}" });
    }
    assert_eq!(read_to_end(&mut stream), b"");
}

#[tokio::test]
async fn slow_body_is_answered_with_408() {
    let upstream = RawUpstream::start();
    let keygate = start(&upstream, &json!({"body_idle_timeout": "1s"}));
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let request = format!("POST /a HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n3");
        assert_eq!(statuses(&send(&keygate, request.as_bytes())), [408], "{framing}");
    }
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn number_of_requests_and_age_are_limited_and_the_last_response_says_so() {
    let upstream = RawUpstream::start();
    let keygate = start(&upstream, &json!({"requests_per_connection": 3}));
    let request = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n".repeat(5);
    let text = String::from_utf8(send(&keygate, request.as_bytes())).unwrap().to_ascii_lowercase();
    assert_eq!((text.matches("connection: keep-alive").count(), text.matches("connection: close").count()), (2, 1));
    assert_eq!(upstream.take().len(), 3);

    let keygate = start(&upstream, &json!({"connection_age": "1s"}));
    let mut stream = connect(&keygate);
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
}

#[tokio::test]
async fn client_that_does_not_read_is_given_up() {
    let upstream = RawUpstream::start();
    let keygate = start(&upstream, &json!({"response_stall_timeout": "1s"}));
    let mut stream = connect(&keygate);
    stream.write_all(b"GET /big/50000000 HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    crate::support::wait::wait_for(async || {
        let text = keygate.http.get(format!("{}/metrics", keygate.metrics)).send().await.unwrap().text().await.unwrap();
        let is_over =
            text.lines().any(|line| line.starts_with("keygate_gateway_requests_total{") && line.contains("all"));
        if is_over { Ok(()) } else { Err("the request goes on".to_owned()) }
    })
    .await;
    assert!(read_to_end(&mut stream).len() < 50_000_000);
}
