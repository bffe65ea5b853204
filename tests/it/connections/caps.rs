//! Caps, eviction, and times that end connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use super::{UNAUTHORIZED, connect, exchange, open, refused, start, start_with, wait_closed, wait_metric};
use crate::support::upstream::Upstream;
use crate::support::wait::wait_for;

const OPEN: &[u8] = b"GET /open HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn connection_that_was_idle_longest_makes_room_and_without_one_new_ones_are_refused() {
    let upstream = Upstream::start();
    let caps = json!({"connections": {"max": 3, "max_per_client": 100, "max_pending": 100}});
    let keygate = start(&upstream.url, &json!({"head_timeout": "10m"}), &caps);
    let mut idle: Vec<_> = (0..3).map(|_| connect(&keygate.gateway)).collect();
    // A connection is idle a moment after its client has the response, so each waits for the one before.
    for (count, stream) in (1_u64..).zip(&mut idle) {
        assert!(exchange(stream, OPEN).starts_with("HTTP/1.1 200"));
        wait_metric(&keygate, &open("idle"), |idle| idle == count).await;
    }
    // The first one is used once more, so the second one has been idle for the longest time.
    assert!(exchange(&mut idle[0], OPEN).starts_with("HTTP/1.1 200"));
    wait_metric(&keygate, &open("idle"), |idle| idle == 3).await;
    let _silent = connect(&keygate.gateway);
    wait_closed(&mut idle[1]).await;
    assert!(exchange(&mut idle[0], OPEN).starts_with("HTTP/1.1 200"));
    assert!(exchange(&mut idle[2], OPEN).starts_with("HTTP/1.1 200"));
    wait_metric(&keygate, r#"keygate_connections_evicted_total{listener="gateway"}"#, |evicted| evicted == 1).await;
    drop(idle);
    wait_metric(&keygate, &open("idle"), |idle| idle == 0).await;
    let _others = [connect(&keygate.gateway), connect(&keygate.gateway)];
    wait_metric(&keygate, &open("pending"), |pending| pending == 3).await;
    wait_closed(&mut connect(&keygate.gateway)).await;
    assert_eq!(keygate.count(&refused("gateway", "max")).await, Some(1));
}

#[tokio::test]
async fn clients_and_pending_connections_have_caps() {
    let upstream = Upstream::start();
    let gateway = json!({"connections": {"max": 100, "max_per_client": 10, "max_pending": 5}});
    let keygate = start(&upstream.url, &json!({"head_timeout": "10m"}), &gateway);
    let mut active: Vec<_> = (0..5).map(|_| connect(&keygate.gateway)).collect();
    for stream in &mut active {
        assert!(exchange(stream, OPEN).starts_with("HTTP/1.1 200"));
    }
    let mut silent: Vec<_> = (0..4).map(|_| connect(&keygate.gateway)).collect();
    let mut other = super::connect_from([127, 0, 0, 2].into(), &keygate.gateway).await;
    wait_metric(&keygate, &open("pending"), |pending| pending == 5).await;
    wait_closed(&mut connect(&keygate.gateway)).await;
    wait_metric(&keygate, &refused("gateway", "max_pending"), |refused| refused == 1).await;
    assert!(exchange(&mut other, OPEN).starts_with("HTTP/1.1 200"));
    silent.push(connect(&keygate.gateway));
    wait_metric(&keygate, &open("pending"), |pending| pending == 5).await;
    wait_closed(&mut connect(&keygate.gateway)).await;
    wait_metric(&keygate, &refused("gateway", "max_per_client"), |refused| refused == 1).await;
}

#[tokio::test]
async fn idle_connections_leave_descriptors_for_health_and_admin() {
    for open_files in [(1024, 1024), (1024, 2048)] {
        let upstream = Upstream::start();
        // With the hard limit of 1,024, the cap of the gateway is lowered by the descriptors.
        let gateway = json!({"connections": {"max": 20_000, "max_per_client": 20_000, "max_pending": 20_000}});
        let keygate = start_with(&upstream.url, &json!({"head_timeout": "10m"}), &gateway, Some(open_files));
        let limit = keygate.count("process_max_fds").await;
        assert_eq!(limit, Some(open_files.1.into()));
        let mut idle: Vec<_> = (0..1100).map(|_| connect(&keygate.gateway)).collect();
        let of = |state| open(state);
        let counted = async || {
            let open = keygate.count(&of("pending")).await.unwrap_or_default();
            let refused = keygate.count(&refused("gateway", "max")).await.unwrap_or_default();
            if open + refused == 1100 { Ok(open) } else { Err(format!("{open} open, {refused} refused")) }
        };
        let pending = wait_for(counted).await;
        assert_eq!(pending, if open_files.1 == 1024 { 310 } else { 682 });
        for url in [format!("{}/health/alive", keygate.metrics), format!("{}/health/ready", keygate.admin)] {
            assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
        }
        let (_, secret) = keygate.issue(json!({})).await;
        assert!(keygate.log().contains("gateway.connections.max"));
        idle.truncate(200);
        wait_metric(&keygate, &of("pending"), |pending| pending <= 200).await;
        assert_eq!(keygate.call("/", &secret).await.status(), 200);
    }
}

#[tokio::test]
async fn keep_alive_connection_after_a_401_is_closed() {
    let upstream = Upstream::start();
    let keygate = start(&upstream.url, &json!({"idle_timeout": "1s", "head_timeout": "10m"}), &json!({}));
    let mut stream = connect(&keygate.gateway);
    for _ in 0..2 {
        assert!(exchange(&mut stream, UNAUTHORIZED).starts_with("HTTP/1.1 401"));
    }
    wait_closed(&mut stream).await;
    wait_metric(&keygate, &open("idle"), |idle| idle == 0).await;
}

#[tokio::test]
async fn dripped_head_is_answered_with_408() {
    let upstream = Upstream::start();
    let keygate = start(&upstream.url, &json!({"head_timeout": "1s"}), &json!({}));
    let mut stream = connect(&keygate.gateway);
    let started = std::time::Instant::now();
    stream.write_all(b"GET /open HTTP/1.1\r\nHost: h\r\n").unwrap();
    stream.set_nonblocking(true).unwrap();
    let response = wait_for(async || {
        let _ = stream.write_all(b"X");
        let mut bytes = [0; 2048];
        stream
            .read(&mut bytes)
            .map(|read| String::from_utf8_lossy(&bytes[..read]).into_owned())
            .map_err(|e| e.to_string())
    })
    .await;
    assert!(response.starts_with("HTTP/1.1 408"), "{response}");
    // The clock of the limits is coarse.
    assert!(started.elapsed() >= super::SECOND * 7 / 10, "{:?}", started.elapsed());
}

#[tokio::test]
async fn client_that_does_not_read_is_given_up() {
    const BODY: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve_large(stream.unwrap(), BODY));
        }
    });
    let keygate = start(&url, &json!({"response_stall_timeout": "1s"}), &json!({}));
    let mut stream = connect(&keygate.gateway);
    stream.write_all(OPEN).unwrap();
    wait_metric(&keygate, &open("active"), |active| active == 1).await;
    wait_metric(&keygate, &open("active"), |active| active == 0).await;
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    assert!(response.starts_with(b"HTTP/1.1 200") && response.len() < BODY, "{} bytes", response.len());
}

/// Reads a request head and answers with a body of a length.
fn serve_large(mut stream: TcpStream, length: usize) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    // The gateway may close the connection.
    let _ = stream.write_all(&vec![b'x'; length]);
}

#[tokio::test]
async fn malformed_requests_get_our_answer_and_are_logged_and_counted() {
    let upstream = Upstream::start();
    let mut keygate = start(&upstream.url, &json!({}), &json!({}));
    for (request, status) in [
        ("GET /open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 41, 42\r\n\r\n", 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
    ] {
        let mut stream = connect(&keygate.gateway);
        let head = exchange(&mut stream, request.as_bytes());
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("application/problem+json") && !head.contains("pingora"), "{request}: {head}");
    }
    let mut stream = connect(&keygate.gateway);
    let equal = format!("POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 41, 41\r\n\r\n{}", "x".repeat(41));
    assert!(exchange(&mut stream, equal.as_bytes()).starts_with("HTTP/1.1 200"));
    let heads = upstream.heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].to_ascii_lowercase().contains("content-length: 41\r\n"), "{heads:?}");
    for reason in ["host", "transfer_encoding", "content_length", "method"] {
        let metrics = reqwest::get(format!("{}/metrics", keygate.metrics)).await.unwrap().text().await.unwrap();
        assert!(metrics.contains(&format!(r#"reason="{reason}"}} 1"#)), "{reason}: {metrics}");
    }
    let log = keygate.whole_log();
    assert_eq!(log.matches("request_invalid").count() + log.matches("method_not_allowed").count(), 4, "{log}");
}
